// The RGB cube, turned by hand: every location a point where its colour lies, linked with the picture both ways.
const TURNS = "RGB cube: a point a location. Drag or arrow keys turn it; L draws around points.";
const DRAWS = "Draw around points, or use the arrow keys for a ring.";
const RINGS = "Arrow keys move the ring, + and - size it, Enter keeps what is in it, Escape drops it.";

function cube({ chosen, changed }) {
  const hint = el("span", { id: newId("hint"), role: "status", text: TURNS });
  const canvas = el("canvas", { class: "cube", tabindex: 0, role: "img", "aria-describedby": hint.id, "aria-keyshortcuts": "l" });
  let stage = null, at = 0, values = null, low = 0, turn = 0.6, tilt = 0.45, lasso = null, ring = null, drawing = false, corner = null;
  const button = el("button", { type: "button", text: "Lasso", "aria-pressed": "false", title: "draw around points; the picture shows where they are (key L on the cube)", onclick: (event) => mode(!drawing, !event.detail) });
  const clear = el("button", { type: "button", text: "Clear", disabled: true, onclick: () => changed(null) });

  function mode(on, byKeys = false) {
    drawing = on;
    lasso = ring = null;
    hint.textContent = on ? DRAWS : TURNS;
    button.setAttribute("aria-pressed", String(on));
    canvas.classList.toggle("lasso", on);
    if (on && byKeys) {
      canvas.focus();
      encircle();
    } else draw();
  }

  // The lasso by keys: a ring, at first around the location looked at; what is in it is lit as it goes.
  function encircle([dx, dy] = [0, 0], grow = 1) {
    const c = stage.colours, within = (v, least, most) => Math.min(Math.max(v, least), most);
    if (!ring) {
      const [x, y] = project(1, 1)(c[3 * at] / 255, c[3 * at + 1] / 255, c[3 * at + 2] / 255);
      ring = { x, y, r: 0.12 };
    }
    ring = { x: within(ring.x + 0.04 * dx, 0, 1), y: within(ring.y + 0.04 * dy, 0, 1), r: within(ring.r * grow, 0.02, 0.75) };
    lasso = Array.from({ length: 48 }, (_, i) => [ring.x + ring.r * Math.cos((i * Math.PI) / 24), ring.y + ring.r * Math.sin((i * Math.PI) / 24)]);
    const found = inside();
    hint.textContent = `${found.size} of ${stage.h * stage.w} in the ring. ${RINGS}`;
    changed(found);
  }

  // Places of all points on the canvas: x, y and depth.
  function project(width, height) {
    const scale = Math.min(width, height) * 0.5, [ct, st, cp, sp] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
    return (r, g, b) => {
      const [x, y, z] = [r - 0.5, g - 0.5, b - 0.5], x1 = ct * x + st * z, z1 = ct * z - st * x;
      const depth = sp * y + cp * z1, size = scale / (1 + 0.28 * depth);
      return [width / 2 + x1 * size, height / 2 - (cp * y - sp * z1) * size, depth];
    };
  }

  function draw() {
    if (!stage) return;
    const [context, width, height] = prepared(canvas, 1), place = project(width, height);
    const ink = getComputedStyle(canvas).getPropertyValue("--soft"), dense = Math.min(window.devicePixelRatio || 1, 2);
    const n = stage.h * stage.w, c = stage.colours, set = chosen(), points = new Array(n);
    context.strokeStyle = ink;
    context.globalAlpha = 0.45;
    context.lineWidth = dense;
    context.beginPath();
    for (const axis of [0, 1, 2]) for (const a of [0, 1]) for (const b of [0, 1]) {
      const ends = [0, 1].map((v) => { const p = [a, b]; p.splice(axis, 0, v); return place(...p); });
      context.moveTo(ends[0][0], ends[0][1]);
      context.lineTo(ends[1][0], ends[1][1]);
    }
    context.stroke();
    for (let i = 0; i < n; i++) points[i] = [i, ...place(c[3 * i] / 255, c[3 * i + 1] / 255, c[3 * i + 2] / 255)];
    points.sort((a, b) => b[3] - a[3]);
    for (const [i, x, y] of points) {
      const lit = set ? set.has(i) : values ? part(values[i], low) > 0.5 : true, size = (lit ? 5 : 3) * dense;
      context.globalAlpha = set && !lit ? 0.12 : lit ? 1 : 0.55;
      context.fillStyle = `rgb(${c[3 * i]},${c[3 * i + 1]},${c[3 * i + 2]})`;
      context.fillRect(x - size / 2, y - size / 2, size, size);
    }
    context.globalAlpha = 1;
    const [mx, my] = place(c[3 * at] / 255, c[3 * at + 1] / 255, c[3 * at + 2] / 255);
    marker(context, mx, my, 6);
    if (lasso) {
      context.beginPath();
      lasso.forEach(([x, y], i) => (i ? context.lineTo(x * width, y * height) : context.moveTo(x * width, y * height)));
      context.closePath();
      context.strokeStyle = getComputedStyle(canvas).getPropertyValue("--accent");
      context.lineWidth = 2 * dense;
      context.stroke();
    }
  }

  // Points inside the drawn line, by the even-odd rule.
  function inside() {
    const found = new Set(), place = project(1, 1), c = stage.colours;
    for (let i = 0; i < stage.h * stage.w; i++) {
      const [x, y] = place(c[3 * i] / 255, c[3 * i + 1] / 255, c[3 * i + 2] / 255);
      let odd = false;
      for (let a = 0, b = lasso.length - 1; a < lasso.length; b = a++) {
        const [ax, ay] = lasso[a], [bx, by] = lasso[b];
        if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
      }
      if (odd) found.add(i);
    }
    return found;
  }

  function turned(by, up) {
    turn += by;
    tilt = Math.min(Math.max(tilt + up, -1.5), 1.5);
    draw();
  }

  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (drawing) [ring, lasso] = [null, [spot(event)]];
    else corner = [event.clientX, event.clientY];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (lasso && !ring) lasso.push(spot(event));
    else if (corner) {
      turned((event.clientX - corner[0]) * 0.01, (event.clientY - corner[1]) * 0.01);
      corner = [event.clientX, event.clientY];
    }
    if (lasso) draw();
  });
  const end = () => {
    const drawn = lasso;
    corner = null;
    if (!drawn || ring) return;
    const found = drawn.length > 2 ? inside() : new Set();
    mode(false);
    changed(found.size ? found : null);
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", () => { lasso = corner = null; draw(); });
  canvas.addEventListener("blur", () => (ring ? mode(false) : null));
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const grow = { "+": 1.25, "=": 1.25, "-": 0.8, _: 0.8 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.toLowerCase() === "l") mode(!drawing, true);
    else if (ring && event.key === "Enter") {
      mode(false);
      if (!chosen().size) changed(null);
    } else if (drawing && (way || grow)) encircle(way, grow);
    else if (way) turned(0.1 * way[0], 0.1 * way[1]);
    else return;
    event.preventDefault();
  });
  const box = el("figure", { class: "cubebox" }, canvas, el("figcaption", {}, hint, el("span", { class: "buttons" }, button, clear)));
  box.addEventListener("keydown", (event) => (event.key === "Escape" ? mode(false) : null)); // what is chosen goes with it, in the view
  return {
    box,
    draw,
    show(to, q, cosines, from) {
      [stage, at, values, low] = [to, q, cosines, from];
      clear.disabled = !chosen();
      canvas.setAttribute("aria-label", `the colours of ${to.h * to.w} locations as points of the RGB cube`);
      draw();
    },
  };
}
