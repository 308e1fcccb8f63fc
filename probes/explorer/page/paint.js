// Colours and canvases.
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // van der Walt & Smith 2015
const OKABE_ITO = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [213, 94, 0]]; // yellow is the people's

function ramp(t) {
  const x = Math.min(Math.max(t, 0), 1) * 4, i = Math.min(Math.floor(x), 3), f = x - i;
  return VIRIDIS[i].map((a, c) => a + f * (VIRIDIS[i + 1][c] - a));
}

// Little-endian RGBA, as a canvas keeps it.
const rgba = (r, g, b, a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;
const RAMP = Uint32Array.from({ length: 256 }, (_, i) => rgba(...ramp(i / 255).map(Math.round), 255));
const DARK = Uint32Array.from({ length: 256 }, (_, i) => rgba(8, 10, 14, Math.round(225 * (1 - i / 255) ** 0.8)));
const ISLANDS = Uint32Array.from(OKABE_ITO, (c) => rgba(...c, 255));

// Where a map of cosines begins to show: below it a twentieth of the locations lie.
function lowest(values) {
  const sorted = Float32Array.from(values).sort();
  return Math.min(sorted[Math.floor(sorted.length * 0.05)], 0.995);
}

const part = (value, low) => Math.min(Math.max((value - low) / (1 - low), 0), 1);

// A canvas of w by h cells, `colour(i)` giving each as `rgba` does; made once for a `holder` and drawn on again.
function cells(holder, w, h, colour) {
  if (!holder.scratch) {
    holder.scratch = document.createElement("canvas");
    [holder.scratch.width, holder.scratch.height] = [w, h];
    holder.pixels = holder.scratch.getContext("2d").createImageData(w, h);
    holder.words = new Uint32Array(holder.pixels.data.buffer);
  }
  for (let i = 0; i < w * h; i++) holder.words[i] = colour(i);
  holder.scratch.getContext("2d").putImageData(holder.pixels, 0, 0);
  return holder.scratch;
}

const coloured = (stage) => cells(stage, stage.w, stage.h, (i) => rgba(stage.colours[3 * i], stage.colours[3 * i + 1], stage.colours[3 * i + 2], 255));
const mapped = (stage, values, low, colours) => cells(stage, stage.w, stage.h, (i) => colours[Math.round(part(values[i], low) * 255)]);
const filled = (stage, labels) => cells(stage, stage.w, stage.h, (i) => ISLANDS[labels[i] % ISLANDS.length]);

// Make a canvas as sharp as the screen at the size it is shown; returns [context, width, height] in its own pixels.
function prepared(canvas, aspect) {
  const dense = Math.min(window.devicePixelRatio || 1, 2), box = canvas.clientWidth || 300;
  const width = Math.max(1, Math.round(box * dense)), height = Math.max(1, Math.round((box * dense) / aspect));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

function put(context, image, width, height, smooth, alpha = 1) {
  context.globalAlpha = alpha;
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, width, height);
  context.globalAlpha = 1;
}

// Lines between cells of different labels, a dark one below a light one, so that they are seen on anything.
function outline(context, labels, h, w, width, height, light, dark = "rgba(0,0,0,.75)", thick = 1.5) {
  context.beginPath();
  const sx = width / w, sy = height / h;
  for (let row = 0; row < h; row++) {
    for (let column = 0; column < w; column++) {
      const i = row * w + column;
      if (column + 1 < w && labels[i] !== labels[i + 1]) {
        context.moveTo((column + 1) * sx, row * sy);
        context.lineTo((column + 1) * sx, (row + 1) * sy);
      }
      if (row + 1 < h && labels[i] !== labels[i + w]) {
        context.moveTo(column * sx, (row + 1) * sy);
        context.lineTo((column + 1) * sx, (row + 1) * sy);
      }
    }
  }
  const dense = Math.min(window.devicePixelRatio || 1, 2);
  for (const [colour, line] of [[dark, 2 * thick], [light, thick]]) {
    context.strokeStyle = colour;
    context.lineWidth = line * dense;
    context.lineCap = "square";
    context.stroke();
  }
}

function marker(context, x, y, size = 7) {
  const dense = Math.min(window.devicePixelRatio || 1, 2);
  context.lineCap = "butt"; // `outline` leaves another
  for (const [colour, line] of [["#000", 4.5], ["#fff", 2]]) {
    context.beginPath();
    context.arc(x, y, size * dense, 0, 2 * Math.PI);
    context.strokeStyle = colour;
    context.lineWidth = line * dense;
    context.stroke();
  }
}

// A drawing kept until what it depends on, its `key`, changes; `draw(context, width, height)` makes it anew.
function kept(holder, key, width, height, draw) {
  const whole = `${key}|${width}x${height}`;
  if (holder.key !== whole) {
    holder.canvas = holder.canvas || document.createElement("canvas");
    [holder.canvas.width, holder.canvas.height] = [width, height];
    draw(holder.canvas.getContext("2d"), width, height);
    holder.key = whole;
  }
  return holder.canvas;
}
