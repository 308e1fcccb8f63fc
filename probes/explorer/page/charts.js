// Lines over iterations: test-time training, and the way between two pictures.

// Round numbers from `low` to `high`, three or so.
function ticks(low, high) {
  const rough = (high - low) / 3, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((times) => times * power > rough * 0.999);
  const first = Math.ceil(low / step - 1e-6), last = Math.floor(high / step + 1e-6);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

// A number of two figures, short enough to stand beside a chart.
const brief = (v) => (v && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e4) ? v.toExponential(1).replace(".0e", "e") : String(+v.toPrecision(2)));

// Lines over one axis, a mark at the place looked at. `lines`: {name, values, colour (a CSS variable), dash, log}.
// `first`: what the first place is called.
function chart(lines, label, first = 0) {
  const canvas = el("canvas", { class: "chart", role: "img", "aria-label": label });
  const key = el("span", { class: "key" }, ...lines.map((line) => el("span", {}, el("i", { style: `background:var(${line.colour})`, class: line.dash ? "dash" : "" }), el("span", { text: line.name, dir: "auto" }))));
  function draw(at, bands = []) {
    const [context, width, height] = prepared(canvas, 3.2), dense = Math.min(window.devicePixelRatio || 1, 2);
    const style = getComputedStyle(canvas), pad = { left: 46 * dense, right: 8 * dense, top: 8 * dense, bottom: 18 * dense };
    const scaled = lines.map((line) => line.values.map((v) => (v === null ? null : line.log ? Math.log10(Math.max(v, 1e-9)) : v)));
    const known = scaled.flat().filter((v) => v !== null), log = lines.some((line) => line.log);
    let low = Math.min(...known, log ? Infinity : 0), high = Math.max(...known, log ? -Infinity : 1);
    if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
    const count = lines[0].values.length, within = (i) => Math.min(Math.max(i, 0), count - 1), x = (i) => pad.left + ((width - pad.left - pad.right) * i) / Math.max(count - 1, 1);
    const y = (v) => height - pad.bottom - ((height - pad.top - pad.bottom) * (v - low)) / (high - low);
    context.font = `${11 * dense}px system-ui, sans-serif`;
    for (const [from, to] of bands) {
      context.fillStyle = style.getPropertyValue("--band");
      const [left, right] = [x(within(from - 0.5)), x(within(to + 0.5))];
      context.fillRect(left, pad.top, right - left, height - pad.top - pad.bottom);
    }
    context.strokeStyle = style.getPropertyValue("--line");
    context.fillStyle = style.getPropertyValue("--soft");
    context.lineWidth = dense;
    for (const v of ticks(low, high)) {
      context.beginPath();
      context.moveTo(pad.left, y(v));
      context.lineTo(width - pad.right, y(v));
      context.stroke();
      context.textAlign = "right";
      context.fillText(brief(log ? 10 ** v : v), pad.left - 5 * dense, y(v) + 4 * dense);
    }
    context.textAlign = "center";
    for (const i of [0, count - 1]) context.fillText(String(i + first), x(i), height - 4 * dense);
    lines.forEach((line, n) => {
      context.beginPath();
      context.setLineDash(line.dash ? [5 * dense, 4 * dense] : []);
      let drawing = false;
      scaled[n].forEach((v, i) => {
        if (v === null) return (drawing = false);
        if (drawing) context.lineTo(x(i), y(v));
        else context.moveTo(x(i), y(v));
        drawing = true;
      });
      context.strokeStyle = style.getPropertyValue(line.colour);
      context.lineWidth = 2 * dense;
      context.stroke();
      context.setLineDash([]);
      if (scaled[n][at] !== null) marker(context, x(at), y(scaled[n][at]), 4);
    });
  }
  return { box: el("figure", {}, canvas, el("figcaption", {}, key)), draw };
}

// Runs of places where `yes` holds, [first, last] each.
function stretches(yes) {
  const found = [];
  yes.forEach((v, i) => {
    if (!v) return;
    const last = found[found.length - 1];
    if (last && last[1] === i - 1) last[1] = i;
    else found.push([i, i]);
  });
  return found;
}

function imageOf(bytes, alt, settings = {}) {
  const image = el("img", { alt, ...settings, onload: () => URL.revokeObjectURL(image.src) });
  image.src = URL.createObjectURL(new Blob([bytes], { type: bytes[0] === 0x89 ? "image/png" : bytes[0] === 0x47 ? "image/gif" : "image/jpeg" }));
  return image;
}

// One picture's test-time training: loss, agreement with the teacher, and what is said, iteration by iteration.
function traceView(trace) {
  const steps = trace.steps, agrees = steps.map((s) => s.class === trace.teacher_class);
  const loss = chart([{ name: "loss", values: steps.map((s) => s.loss), colour: "--apm", log: true }], "loss by iteration");
  const cosines = chart([
    { name: "cosine with the teacher's token", values: steps.map((s) => s.cosine), colour: "--apm" },
    { name: "probability of what is said", values: steps.map((s) => s.probability), colour: "--teacher", dash: true },
  ], "cosine with the teacher and probability by iteration; shaded where both say the same class");
  const words = el("p", { "aria-live": "off", dir: "auto" }), said = (c) => trace.names[String(c)] || `class ${c}`;
  const place = slider({ name: "iteration", count: steps.length, value: steps.length - 1, words: (i) => String(steps[i].iteration), change: draw });
  function draw(i = place.value) {
    const step = steps[i];
    words.textContent = `Iteration ${step.iteration}: ${said(step.class)}, ${(100 * step.probability).toFixed(0)} %${agrees[i] ? ", as the teacher says" : `; the teacher says ${said(trace.teacher_class)}`}${trace.label ? ` (labelled ${trace.label})` : ""}. Loss ${step.loss === null ? "\u2013" : step.loss.toPrecision(3)}, cosine ${step.cosine.toFixed(3)}.`;
    loss.draw(i);
    cosines.draw(i, stretches(agrees));
  }
  const box = el("section", { class: "trace" },
    el("h3", {}, named(trace.name)),
    el("div", { class: "side" }, trace.image ? imageOf(trace.image, trace.name, { class: "hard" }) : null, el("div", {}, place.box, words, el("p", { class: "soft", text: "Shaded: the same class as the teacher." }))),
    el("div", { class: "charts" }, loss.box, cosines.box));
  new ResizeObserver(() => draw()).observe(box);
  return box;
}

// The way between two pictures: colours and features at every step, how far from either end, and what is said.
function wayView(way) {
  const [steps, h, w] = way.colours.shape, frame = (all, i, holder = {}) => cells(holder, w, h, (k) => rgba(...all.subarray(3 * (i * h * w + k), 3 * (i * h * w + k) + 3), 255));
  const canvases = [["colours", way.colours], ["features", way.features]].map(([name, all]) => ({ name, all, canvas: el("canvas", { class: "hard", role: "img" }) }));
  const distances = chart([
    { name: `features' distance to ${way.images[0]}`, values: way.from_first, colour: "--teacher" },
    { name: `to ${way.images[1]}`, values: way.from_last, colour: "--apm", dash: true },
  ], "distance of the features to both ends, by step", 1);
  const words = el("p", { dir: "auto" });
  const place = slider({ name: "step", count: steps, value: Math.floor(steps / 2), words: (i) => `${i + 1} of ${steps}`, change: draw });
  const thumbs = el("div", { class: "sheet", role: "group", "aria-label": "every step" }), buttons = [];
  for (let i = 0; i < steps; i++) thumbs.append((buttons[i] = el("button", { type: "button", "aria-label": `step ${i + 1}`, onclick: () => place.set(i) }, frame(way.colours, i))));
  function draw(i = place.value) {
    for (const { name, all, canvas } of canvases) {
      const [context, width, height] = prepared(canvas, w / h);
      put(context, frame(all, i, canvas), width, height, false);
      canvas.setAttribute("aria-label", `${name} at step ${i + 1} of ${steps} from ${way.images[0]} to ${way.images[1]}`);
    }
    buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === i)));
    words.textContent = `t = ${(i / Math.max(steps - 1, 1)).toFixed(2)}: ${way.classes[i]}, ${(100 * way.probabilities[i]).toFixed(0)} %, the likeliest of ${way.among} classes.`;
    distances.draw(i);
  }
  const box = el("section", { class: "way" }, el("h3", {}, named(way.images[0]), " \u2192 ", named(way.images[1])), place.box, words,
    el("div", { class: "charts" }, ...canvases.map(({ canvas, name }) => el("figure", {}, canvas, el("figcaption", { text: name })))), thumbs, distances.box);
  new ResizeObserver(() => draw()).observe(box);
  return box;
}
