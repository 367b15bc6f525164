// The world in 3D on a plain canvas: anchors as z-buffered points, keyframes, the camera's frustum, the robot, its path.
const TRAIL = 4000; // places of the path
const STEP = 0.03; // metres between two of them
const OVER = 0.35; // metres above the camera, from where the ceiling is cut

export class Space {
  constructor(canvas) {
    this.canvas = canvas; this.pen = canvas.getContext("2d");
    this.shows = { follow: true, cut: true, keyframes: true };
    this.target = [0, 0, 0]; this.yaw = -2.2; this.pitch = 0.95; this.distance = 7;
    this.trail = []; this.keyframes = []; this.points = new Float32Array(0); this.colours = new Uint8Array(0);
    this.#hands();
    new ResizeObserver(() => this.#soon()).observe(canvas);
    document.addEventListener("visibilitychange", () => this.#soon());
  }

  load(bytes) {
    if (!bytes.byteLength) return;
    const size = new DataView(bytes).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, size)));
    this.points = new Float32Array(bytes, 4 + size, 3 * head.points);
    this.colours = new Uint8Array(bytes, 4 + size + 12 * head.points, 3 * head.points);
    this.keyframes = head.keyframes; this.spacing = head.spacing;
    if (!this.camera && head.keyframes.length) this.target = [...head.keyframes[0].at];
    this.#soon();
  }

  place({ camera, robot }) {
    if (!camera || JSON.stringify(camera) === this.last) return;
    this.last = JSON.stringify(camera);
    this.camera = camera; this.robot = robot;
    const end = this.trail.at(-1);
    if (!end || Math.hypot(...end.map((v, k) => v - camera.at[k])) > STEP) this.trail.push(camera.at);
    if (this.trail.length > TRAIL) this.trail.shift();
    if (this.shows.follow) this.target = [...camera.at];
    this.#soon();
  }

  toggle(name) {
    this.shows[name] = !this.shows[name];
    if (name === "follow" && this.shows.follow && this.camera) this.target = [...this.camera.at];
    this.#soon();
    return this.shows[name];
  }

  #soon() {
    if (this.waits || document.hidden) return;
    this.waits = true;
    requestAnimationFrame(() => { this.waits = false; this.#draw(); });
  }

  #draw() {
    const scale = Math.min(devicePixelRatio, 1.5), { canvas, pen } = this;
    const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width; canvas.height = height;
      this.image = pen.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer); this.depth = new Float32Array(width * height);
    }
    this.#look(width, height);
    this.pixels.fill(0xff1f1a16); this.depth.fill(Infinity);
    this.#splat(width, height);
    pen.putImageData(this.image, 0, 0);
    pen.lineWidth = scale;
    if (this.shows.keyframes) for (const each of this.keyframes) this.#frustum(each, 0.12, "#7fb2ff66");
    this.#path(this.trail, "#5fca8b", 1.6 * scale);
    if (this.robot) this.#body(this.robot, this.camera.at[2]);
    if (this.camera) { pen.lineWidth = 1.6 * scale; this.#frustum(this.camera, 0.55, "#ffd166"); }
  }

  // Rows of the view: right, down, forward; the eye stands back from the target.
  #look(width, height) {
    const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    const forward = [-cy * cp, -sy * cp, -sp], right = [-sy, cy, 0];
    const down = [forward[1] * right[2] - forward[2] * right[1], forward[2] * right[0] - forward[0] * right[2],
                  forward[0] * right[1] - forward[1] * right[0]];
    this.eye = this.target.map((v, k) => v - this.distance * forward[k]);
    this.rows = [...right, ...down, ...forward];
    this.focal = 0.9 * Math.max(height, 0.8 * width); this.middle = [width / 2, height / 2];
  }

  #splat(width, height) {
    const { points, colours, pixels, depth, focal } = this, [ex, ey, ez] = this.eye, [mx, my] = this.middle;
    const [a, b, c, d, e, f, g, h, i] = this.rows, top = this.shows.cut && this.camera ? this.camera.at[2] + OVER : Infinity;
    const size = 0.95 * focal * this.spacing; // half of a point's side at 1 m, pixels: so surfaces close
    for (let k = 0; k < points.length; k += 3) {
      if (points[k + 2] > top) continue;
      const x = points[k] - ex, y = points[k + 1] - ey, z = points[k + 2] - ez, far = g * x + h * y + i * z;
      if (far < 0.1) continue;
      const u = mx + focal * (a * x + b * y + c * z) / far, v = my + focal * (d * x + e * y + f * z) / far;
      const r = Math.min(6, Math.max(0.5, size / far));
      const left = Math.max(0, Math.round(u - r)), right = Math.min(width, Math.round(u + r));
      const low = Math.max(0, Math.round(v - r)), high = Math.min(height, Math.round(v + r));
      const colour = 0xff000000 | colours[k + 2] << 16 | colours[k + 1] << 8 | colours[k];
      for (let row = low; row < high; row++) for (let at = row * width + left; at < row * width + right; at++) {
        if (far < depth[at]) { depth[at] = far; pixels[at] = colour; }
      }
    }
  }

  #project(p) {
    const q = p.map((v, k) => v - this.eye[k]), row = n => this.rows[n] * q[0] + this.rows[n + 1] * q[1] + this.rows[n + 2] * q[2];
    const far = row(6);
    return far > 0.1 ? [this.middle[0] + this.focal * row(0) / far, this.middle[1] + this.focal * row(3) / far] : null;
  }

  #path(places, colour, width = 1, fill = "") {
    const pen = this.pen;
    pen.beginPath();
    let open = false;
    for (const each of places) {
      const p = this.#project(each);
      if (p) { if (open) pen.lineTo(...p); else pen.moveTo(...p); }
      open = Boolean(p);
    }
    pen.strokeStyle = colour; pen.lineWidth = width; pen.lineJoin = "round";
    if (fill) { pen.fillStyle = fill; pen.fill(); }
    pen.stroke();
  }

  #frustum({ at, axes, half }, length, colour) {
    const corner = (x, y) => at.map((v, k) => v + length * (x * half[0] * axes[0][k] + y * half[1] * axes[1][k] + axes[2][k]));
    const corners = [corner(-1, -1), corner(1, -1), corner(1, 1), corner(-1, 1)];
    this.#path([...corners, corners[0]], colour, this.pen.lineWidth);
    for (const each of corners) this.#path([at, each], colour, this.pen.lineWidth);
  }

  #body([x, y, yaw, floor], height) {
    const z = floor ?? height - 1, round = [...Array(25).keys()].map(k => k * Math.PI / 12);
    this.#path(round.map(t => [x + 0.2 * Math.cos(t), y + 0.2 * Math.sin(t), z]), "#ffd166", 1.5, "#ffd16633");
    this.#path([[x, y, z], [x + 0.35 * Math.cos(yaw), y + 0.35 * Math.sin(yaw), z]], "#ffd166", 2);
    this.#path([[x, y, z], [x, y, height]], "#ffd16666", 1);
  }

  #hands() {
    const canvas = this.canvas, fingers = new Map();
    canvas.onpointerdown = event => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, event); };
    canvas.onpointerup = canvas.onpointercancel = event => fingers.delete(event.pointerId);
    canvas.onpointermove = event => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
      if (fingers.size === 2) {
        const other = [...fingers.values()].find(each => each !== before);
        const span = each => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY);
        this.#zoom(span(before) / Math.max(1, span(event)));
      } else if (event.shiftKey || event.buttons & 2) this.#pan(dx, dy);
      else { this.yaw -= 0.007 * dx; this.pitch = Math.max(-0.3, Math.min(1.55, this.pitch + 0.007 * dy)); }
      fingers.set(event.pointerId, event);
      this.#soon();
    };
    canvas.oncontextmenu = event => event.preventDefault();
    canvas.addEventListener("wheel", event => { event.preventDefault(); this.#zoom(Math.exp(0.0012 * event.deltaY)); }, { passive: false });
  }

  #zoom(factor) {
    this.distance = Math.max(0.8, Math.min(80, this.distance * factor));
    this.#soon();
  }

  #pan(dx, dy) {
    const metres = this.distance / this.focal * Math.min(devicePixelRatio, 1.5);
    if (this.shows.follow) document.getElementById("follow").click();
    this.target = this.target.map((v, k) => v - metres * (dx * this.rows[k] + dy * this.rows[3 + k]));
  }
}
