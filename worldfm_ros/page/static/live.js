// The page: reads /live, which tells the status with each picture, and shows both.
import { Space } from "/space.js";
import { Stick, client } from "/stick.js";

const at = id => document.getElementById(id);
const picture = at("picture"), pen = picture.getContext("2d");
const space = new Space(at("space")), stick = new Stick(id => at(id));
let layer = "rgb", reading = null, shownAt = 0;

async function read(wanted) {
  const stop = new AbortController();
  reading?.abort();
  reading = stop;
  try {
    const reply = await fetch(`/live?layer=${wanted}`, { signal: stop.signal });
    if (!reply.ok) throw new Error(await reply.text());
    for await (const [status, jpeg] of parts(reply.body.getReader())) await show(status, jpeg);
    throw new Error("the stream ended");
  } catch (error) {
    if (stop.signal.aborted) return; // another layer is read now
    say("warn", "stopped", "the page's server has stopped");
    setTimeout(() => read(layer), 1000);
  }
}

// Each part of a multipart stream: its X-Status, and its body. All is bytes until a part is whole.
async function* parts(reader) {
  let bytes = new Uint8Array(0);
  const text = new TextDecoder();
  for (;;) {
    const end = find(bytes, "\r\n\r\n");
    if (end >= 0) {
      const head = text.decode(bytes.subarray(0, end));
      const size = Number(/Content-Length: (\d+)/i.exec(head)[1]), next = end + 4 + size;
      if (bytes.length >= next) {
        yield [JSON.parse(/X-Status: (.*)/.exec(head)[1]), bytes.slice(end + 4, next)];
        bytes = bytes.slice(next);
        continue;
      }
    }
    const { done, value } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(bytes.length + value.length);
    joined.set(bytes); joined.set(value, bytes.length);
    bytes = joined;
  }
}

function find(bytes, word) {
  const codes = [...word].map(c => c.charCodeAt(0));
  for (let i = 0; i + codes.length <= bytes.length; i++) if (codes.every((code, k) => bytes[i + k] === code)) return i;
  return -1;
}

async function show(status, jpeg) {
  if (jpeg.length) {
    const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    if (picture.width !== bitmap.width || picture.height !== bitmap.height) {
      picture.width = bitmap.width; picture.height = bitmap.height;
    }
    pen.drawImage(bitmap, 0, 0);
    bitmap.close();
    shownAt = status.count;
    stick.shown(status.shows);
  }
  tell(status);
  space.place(status);
  stick.status(status);
}

function tell(s) {
  at("topic").textContent = s.topic;
  offer(s.layers);
  if (!s.image) say("dim", "waiting", `waiting for images on ${s.topic} ...`);
  else if (!shownAt) say("dim", "waiting", `there is no ${layer} to show yet`);
  else if (s.stale) say("warn", `no image for ${s.age.toFixed(0)} s`);
  else say("live", "live");
  // small images are enlarged with crisp pixels, larger ones smoothly
  picture.style.imageRendering = picture.clientWidth >= 4 * picture.width ? "pixelated" : "auto";
  const number = (value, digits) => value.toFixed(digits);
  at("rate").innerHTML = s.rate ? `${number(s.rate, 1)} <small>Hz</small>` : "–";
  at("published").textContent = s.published ?? "–";
  const lost = Object.entries(s.lost ?? {});
  at("lost").textContent = s.lost ? lost.reduce((sum, [, n]) => sum + n, 0) : "–";
  const stages = Object.entries(s.stages ?? {}).map(([name, ms]) => [name.replace("_", " "), `${number(ms, 1)} ms`]);
  at("stages").replaceChildren(...[...stages, ...lost.map(([name, n]) => [`lost: ${name.replaceAll("_", " ")}`, n])]
    .map(([name, value]) => {
      const entry = document.createElement("span"), figure = document.createElement("b");
      figure.textContent = value;
      entry.append(`${name} `, figure);
      return entry;
    }));
  at("size").textContent = s.image ? `${s.image.width} × ${s.image.height}` : "–";
  at("stamp").textContent = s.stamp ? number(s.stamp, 2) : "–";
  at("position").textContent = s.camera ? s.camera.at.map(v => number(v, 2)).join(", ") : "–";
  at("yaw").textContent = s.camera ? `${number(s.camera.yaw, 1)}°` : "–";
  at("problem").textContent = s.problem; at("problem").hidden = !s.problem;
}

function say(kind, text, waiting = "") {
  at("state").className = kind; at("state").textContent = text;
  at("waiting").textContent = waiting; at("waiting").hidden = !waiting;
  picture.hidden = Boolean(waiting); picture.classList.toggle("old", kind === "warn");
}

const NAMES = { rgb: "generated", depth: "depth", labels: "labels", confidence: "confidence", reference: "reference",
                anchors: "anchors only" };

function offer(layers) {
  const nav = at("layers");
  if (nav.dataset.layers === layers.join()) return;
  nav.dataset.layers = layers.join();
  nav.replaceChildren(...layers.map(name => {
    const button = document.createElement("button");
    button.textContent = NAMES[name] ?? name;
    button.id = `layer-${name}`;
    button.setAttribute("aria-pressed", name === layer);
    button.onclick = () => {
      layer = name; shownAt = 0;
      for (const each of nav.children) each.setAttribute("aria-pressed", each === button);
      read(layer);
    };
    return button;
  }));
}

for (const name of ["follow", "cut", "keyframes"]) {
  at(name).onclick = () => at(name).setAttribute("aria-pressed", space.toggle(name));
}
fetch("/scene").then(reply => reply.arrayBuffer()).then(bytes => space.load(bytes));
document.documentElement.dataset.client = client;
read(layer);
