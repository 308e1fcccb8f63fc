// The RGB cube, turned by hand: every location a point where its colour lies, linked with the picture both ways.
function cube({ chosen, changed }) {
  const canvas = el("canvas", { class: "cube", tabindex: 0, role: "img" });
  let stage = null, at = 0, values = null, low = 0, turn = 0.6, tilt = 0.45, lasso = null, drawing = false, corner = null;
  const button = el("button", { type: "button", text: "Lasso", "aria-pressed": "false", title: "draw around points; the picture shows where they are", onclick: () => mode(!drawing) });
  const clear = el("button", { type: "button", text: "Clear", disabled: true, onclick: () => select(null) });

  function mode(on) {
    drawing = on;
    button.setAttribute("aria-pressed", String(on));
    canvas.classList.toggle("lasso", on);
  }

  function select(set) {
    clear.disabled = !set;
    changed(set);
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

  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (drawing) lasso = [spot(event)];
    else corner = [event.clientX, event.clientY];
  });
  canvas.addEventListener("pointermove", (event) => {
    if (lasso) lasso.push(spot(event));
    else if (corner) {
      turn += (event.clientX - corner[0]) * 0.01;
      tilt = Math.min(Math.max(tilt + (event.clientY - corner[1]) * 0.01, -1.5), 1.5);
      corner = [event.clientX, event.clientY];
    } else return;
    draw();
  });
  const end = () => {
    const drawn = lasso;
    corner = null;
    if (!drawn) return;
    const found = drawn.length > 2 ? inside() : new Set();
    lasso = null;
    mode(false);
    select(found.size ? found : null);
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", () => { lasso = corner = null; draw(); });
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key];
    if (event.key === "Escape") select(null);
    if (!way) return;
    event.preventDefault();
    turn += way[0];
    tilt = Math.min(Math.max(tilt + way[1], -1.5), 1.5);
    draw();
  });
  const box = el("figure", { class: "cubebox" }, canvas, el("figcaption", {}, el("span", { text: "RGB cube: a point a location. Drag or arrow keys turn it." }), el("span", { class: "buttons" }, button, clear)));
  return {
    box,
    draw,
    show(to, q, cosines, from) {
      [stage, at, values, low] = [to, q, cosines, from];
      canvas.setAttribute("aria-label", `the colours of ${to.h * to.w} locations as points of the RGB cube`);
      draw();
    },
  };
}
