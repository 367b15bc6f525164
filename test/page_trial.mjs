// The live page in a real browser: its stick is pushed, the page's own click-to-picture is read, screenshots are taken.
//
//   npm install playwright-core          (and a Chromium: CHROMIUM=/usr/bin/chromium)
//   worldfm sim & node test/page_trial.mjs http://localhost:8080 FOLDER [SECONDS]
import { chromium } from "playwright-core";

const [url, folder, seconds = 20] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
                                        args: ["--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
await page.goto(url);
const wait = ms => page.waitForTimeout(ms);
const told = id => page.locator(`#${id}`).textContent();
const picture = () => page.evaluate(() => document.getElementById("picture").toDataURL());
await page.waitForFunction(() => document.getElementById("state").textContent === "live", null, { timeout: 600000 });
await wait(3000);
const before = [await told("position"), await told("yaw"), await picture()];
const stick = await page.locator("#stick").boundingBox();
const [x, y] = [stick.x + stick.width / 2, stick.y + stick.height / 2];
await page.mouse.move(x, y);
await page.mouse.down();
await page.mouse.move(x, y - stick.height / 3); // ahead
await wait(2000);
await page.mouse.up();
await wait(2000);
const after = [await told("position"), await told("yaw"), await picture()];
console.log(`stick ahead for 2 s: ${before.slice(0, 2)} -> ${after.slice(0, 2)}, picture ${before[2] === after[2] ? "the same" : "another"}`);
for (let k = 0; k * 2 < seconds; k++) { // short pushes to both sides, each with a rest
  await page.keyboard.down(k % 2 ? "KeyA" : "KeyD");
  await wait(1500);
  await page.keyboard.up(k % 2 ? "KeyA" : "KeyD");
  await wait(500);
}
await page.screenshot({ path: `${folder}/page_1400x900.png` });
console.log("click to picture, ms:", await page.evaluate(() => ({ ...document.documentElement.dataset })),
            "rate", await told("rate"), "stages", await told("stages"));
await page.setViewportSize({ width: 390, height: 844 });
await wait(1500);
await page.screenshot({ path: `${folder}/page_390x844.png` });
const wide = await page.evaluate(() => document.documentElement.scrollWidth);
console.log("width of the page at 390:", wide);
await browser.close();
