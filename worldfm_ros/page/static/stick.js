// The stick: joystick, keys and gamepad become one push, told 20 times a second for as long as it lasts.
export const client = crypto.getRandomValues(new Uint32Array(2)).join("-");
const token = document.querySelector("meta[name=worldfm-token]").content;
const PERIOD = 50; // ms; the server stops the robot after 200 without
const KEYS = { KeyW: ["forward", 1], ArrowUp: ["forward", 1], KeyS: ["forward", -1], ArrowDown: ["forward", -1],
               KeyA: ["yaw", 1], ArrowLeft: ["yaw", 1], KeyD: ["yaw", -1], ArrowRight: ["yaw", -1],
               KeyQ: ["left", 1], KeyE: ["left", -1], KeyR: ["up", 1], KeyF: ["up", -1], KeyT: ["pitch", 1], KeyG: ["pitch", -1] };
const DEADZONE = 0.15; // of a gamepad
const REMEMBERED = 400; // latencies that the quantiles are of

export class Stick {
  constructor(at) {
    this.at = at;
    this.held = new Set(); // keys
    this.pulled = { forward: 0, yaw: 0 }; // the joystick
    this.push = null; this.number = 0; this.flying = false; this.refused = false;
    this.sent = new Map(); // when each command was given, until a picture shows it
    this.latencies = [];
    this.#joystick(at("stick"), at("knob"));
    addEventListener("keydown", event => this.#key(event, true));
    addEventListener("keyup", event => this.#key(event, false));
    addEventListener("blur", () => this.#rest());
    addEventListener("pagehide", () => { this.#rest(); this.#tell(); });
    document.addEventListener("visibilitychange", () => { if (document.hidden) { this.#rest(); this.#tell(); } });
    at("release").onclick = () => this.#post({ release: true });
    at("drive").onclick = () => this.#fly(false);
    at("fly").onclick = () => this.#fly(true);
    setInterval(() => this.#tell(), PERIOD);
    this.#fly(false, true);
  }

  status(s) {
    const steering = s.steering, others = steering.driver && steering.driver !== client;
    const who = !others ? "you steer" : steering.moving ? "another browser steers" : "held by another browser";
    const at = this.at, on = s.drives || s.flies;
    at("steer").classList.toggle("off", !on);
    at("fly").hidden = !s.flies; at("drive").hidden = !s.drives;
    if (!s.drives && s.flies && !this.flying) this.#fly(true, true);
    at("release").disabled = !steering.engaged;
    at("driver").hidden = !steering.engaged;
    at("driver").classList.toggle("warn", Boolean(others));
    at("driver").textContent = steering.engaged ? who : "";
    if (!on) at("keys").textContent = "nothing listens to cmd_vel: there is no robot to drive";
    else this.#name();
  }

  // A picture shows the effect of command `shows`, and so of all before it.
  shown(shows) {
    if (shows?.client !== client) return;
    const now = performance.now();
    for (const [number, when] of this.sent) {
      if (number > shows.number) break;
      this.sent.delete(number);
      this.latencies.push(now - when);
    }
    this.latencies = this.latencies.slice(-REMEMBERED);
    const sorted = [...this.latencies].sort((a, b) => a - b);
    if (!sorted.length) return;
    const quantile = q => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]);
    this.at("latency").innerHTML = `${quantile(.5)} <small>ms, p95</small> ${quantile(.95)}`;
    Object.assign(document.documentElement.dataset, { p50: quantile(.5), p95: quantile(.95), samples: sorted.length });
  }

  #axes() {
    const axes = { forward: this.pulled.forward, left: 0, up: 0, yaw: this.pulled.yaw, pitch: 0 };
    for (const code of this.held) axes[KEYS[code][0]] += KEYS[code][1];
    for (const pad of navigator.getGamepads?.() ?? []) {
      if (!pad) continue;
      const axis = k => Math.abs(pad.axes[k] ?? 0) > DEADZONE ? pad.axes[k] : 0;
      axes.forward -= axis(1); axes.yaw -= axis(2) || (this.flying ? 0 : axis(0)); axes.pitch -= axis(3);
      if (this.flying) axes.left -= axis(0);
      axes.up += (pad.buttons[7]?.value ?? 0) - (pad.buttons[6]?.value ?? 0);
    }
    for (const name in axes) axes[name] = Math.max(-1, Math.min(1, axes[name]));
    return axes;
  }

  // Say what is asked for while a push lasts, and once more, all zeros, at its end.
  #tell() {
    const axes = this.#axes(), active = Object.values(axes).some(Boolean);
    if (!active && !this.push) return;
    if (!this.push) { this.push = `${Math.random()}`; this.sent.clear(); }
    const number = ++this.number;
    if (active && !this.refused) this.sent.set(number, performance.now());
    if (this.sent.size > REMEMBERED) this.sent.clear();
    this.#post({ client, push: this.push, number, fly: this.flying, ...axes });
    if (!active) { this.push = null; this.refused = false; }
  }

  async #post(body) {
    try {
      const reply = await fetch("/drive", { method: "POST", keepalive: true, body: JSON.stringify(body),
        headers: { "Content-Type": "application/json", "X-Worldfm-Token": token } });
      if (reply.status === 403) location.reload(); // the server is another one: it has another token
      else if (body.push) this.refused = !(await reply.json()).counts;
    } catch { /* the server has gone, which the stream tells */ }
  }

  #rest() {
    this.held.clear();
    this.pulled = { forward: 0, yaw: 0 };
    this.at("knob").style.transform = ""; this.at("stick").classList.remove("held");
  }

  #key(event, down) {
    if (!(event.code in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (down === this.held.has(event.code)) return;
    if (down) this.held.add(event.code); else this.held.delete(event.code);
    this.#tell();
  }

  #joystick(base, knob) {
    const move = event => {
      const box = base.getBoundingClientRect(), reach = box.width / 2 - 22;
      let x = event.clientX - box.left - box.width / 2, y = event.clientY - box.top - box.height / 2;
      const far = Math.max(1, Math.hypot(x, y) / reach);
      x /= far; y /= far;
      knob.style.transform = `translate(${x}px, ${y}px)`;
      this.pulled = { forward: -y / reach, yaw: -x / reach };
    };
    base.onpointerdown = event => {
      base.setPointerCapture(event.pointerId);
      base.classList.add("held");
      move(event); this.#tell();
    };
    base.onpointermove = event => base.classList.contains("held") && move(event);
    base.onpointerup = base.onpointercancel = () => { this.#rest(); this.#tell(); };
  }

  #fly(flying, silently = false) {
    this.flying = flying;
    this.at("drive").setAttribute("aria-pressed", !flying);
    this.at("fly").setAttribute("aria-pressed", flying);
    this.#name();
    if (!silently) this.#post({ client, push: `${Math.random()}`, number: ++this.number, fly: flying });
  }

  #name() {
    this.at("keys").textContent = this.refused ? "another browser has taken the stick; let go, then push again"
      : this.flying ? "WASD or arrows, Q E sideways, R F up and down, T G tilt, gamepad" : "joystick, WASD, arrow keys or gamepad";
  }
}
