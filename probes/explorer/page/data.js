// What was packed by probes/explorer/pack.py, and what is computed of it: agreement, islands, scores.
const KINDS = { i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array, i4: Int32Array, f4: Float32Array, raw: Uint8Array };
const NOTHING = 0.1; // a direction shorter than this is a zero vector's, rounded

async function unpack(source) {
  let bytes = source;
  if (typeof source === "string") {
    const text = atob(source.trim());
    bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  } else if (source instanceof DataView) bytes = new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const size = new DataView(buffer).getUint32(0, true), first = 4 + size;
  const head = new TextDecoder().decode(new Uint8Array(buffer, 4, size));
  return JSON.parse(head, (key, value) => {
    if (value === null || typeof value !== "object" || !Array.isArray(value.$)) return value;
    const [kind, at, shape] = value.$;
    const array = new KINDS[kind](buffer, first + at, shape.reduce((a, b) => a * b, 1));
    array.shape = shape;
    return array;
  });
}

// (n * d) unit vectors of a stage, a location's coordinates side by side; kept once they are made.
function vectors(stage) {
  if (stage.vectors) return stage.vectors;
  const n = stage.h * stage.w, d = stage.mean.length, x = new Float32Array(n * d);
  for (let i = 0; i < n; i++) {
    let square = 0;
    for (let k = 0; k < d; k++) {
      const value = stage.mean[k] + stage.scale[k] * stage.codes[k * n + i];
      x[i * d + k] = value;
      square += value * value;
    }
    const length = Math.sqrt(square);
    for (let k = 0; k < d; k++) x[i * d + k] = length > NOTHING ? x[i * d + k] / length : 0;
  }
  stage.vectors = x;
  return x;
}

function cosine(x, d, i, j) {
  let sum = 0;
  for (let k = 0; k < d; k++) sum += x[i * d + k] * x[j * d + k];
  return Math.min(1, sum);
}

// Cosine of every location with location q.
function agreement(stage, q) {
  const x = vectors(stage), d = stage.mean.length, n = stage.h * stage.w, out = new Float32Array(n);
  for (let i = 0; i < n; i++) out[i] = cosine(x, d, i, q);
  return out;
}

// The location that a point of the picture, both coordinates in [0, 1), lies in.
function locationAt(stage, point) {
  const row = Math.min(Math.floor(point[1] * stage.h), stage.h - 1);
  return row * stage.w + Math.min(Math.floor(point[0] * stage.w), stage.w - 1);
}

function root(parent, i) {
  while (parent[i] !== i) i = parent[i] = parent[parent[i]];
  return i;
}

// Labels from 0 by the roots of a forest, in the order in which they are met.
function numbered(parent, n) {
  const names = new Map(), labels = new Int32Array(n);
  for (let i = 0; i < n; i++) {
    const top = root(parent, i);
    if (!names.has(top)) names.set(top, names.size);
    labels[i] = names.get(top);
  }
  labels.count = names.size;
  return labels;
}

// Neighbours (4) joined where `same` says so.
function components(h, w, same) {
  const parent = Int32Array.from({ length: h * w }, (_, i) => i);
  for (let i = 0; i < h * w; i++) {
    if (i % w < w - 1 && same(i, i + 1)) parent[root(parent, i)] = root(parent, i + 1);
    if (i + w < h * w && same(i, i + w)) parent[root(parent, i)] = root(parent, i + w);
  }
  return numbered(parent, h * w);
}

// Cosines of every location with its right and its lower neighbour.
function neighbours(stage) {
  if (!stage.near) {
    const x = vectors(stage), d = stage.mean.length, { h, w } = stage, n = h * w;
    stage.near = [1, w].map((step) => Float32Array.from({ length: n }, (_, i) => (i + step < n ? cosine(x, d, i, i + step) : -1)));
  }
  return stage.near;
}

// A stage cut into islands: connected where neighbours agree by a threshold, or the tree of joins cut into a number.
function islandsOf(stage, cut) {
  const key = `${cut.how}:${cut.how === "number" ? cut.number : cut.threshold}`;
  if (stage.cut === key) return stage.labels;
  const { h, w } = stage;
  if (cut.how === "threshold") {
    const [right, below] = neighbours(stage);
    stage.labels = components(h, w, (i, j) => (j === i + 1 ? right : below)[i] >= cut.threshold - 1e-6);
  } else {
    const [th, tw] = stage.tree_shape, n = th * tw, parent = Int32Array.from({ length: 2 * n }, (_, i) => i);
    for (let i = 0; i < n - Math.min(cut.number, n); i++) parent[stage.tree[2 * i]] = parent[stage.tree[2 * i + 1]] = n + i;
    const coarse = numbered(parent, n), at = (i, small, large) => Math.floor(((i + 0.5) * small) / large);
    const labels = new Int32Array(h * w);
    for (let i = 0; i < h * w; i++) labels[i] = coarse[at(Math.floor(i / w), th, h) * tw + at(i % w, tw, w)];
    stage.labels = labels;
  }
  stage.cut = key;
  return stage.labels;
}

// Covering (Arbelaez et al. 2011) and mean best overlap (Pont-Tuset et al. 2017) of labels (h, w) against people's maps.
function scoreOf(labels, h, w, masks, background) {
  const scores = masks.map((mask) => {
    const [H, W] = mask.shape, pairs = new Map(), first = new Map(), second = new Map();
    const add = (map, key) => map.set(key, (map.get(key) || 0) + 1);
    for (let y = 0; y < H; y++) {
      const row = Math.floor(((y + 0.5) * h) / H) * w;
      for (let x = 0; x < W; x++) {
        const truth = mask[y * W + x];
        if (truth < 0) continue; // void
        const found = labels[row + Math.floor(((x + 0.5) * w) / W)];
        add(first, truth);
        add(second, found);
        add(pairs, truth * 65536 + found);
      }
    }
    const best = new Map();
    for (const [key, count] of pairs) {
      const truth = Math.floor(key / 65536);
      const iou = count / (first.get(truth) + second.get(key % 65536) - count);
      best.set(truth, Math.max(best.get(truth) || 0, iou));
    }
    let covered = 0, size = 0, sum = 0, objects = 0;
    for (const [truth, iou] of best) {
      covered += iou * first.get(truth);
      size += first.get(truth);
      if (!(background || []).includes(truth)) { sum += iou; objects++; }
    }
    return { covering: size ? covered / size : null, mbo: objects ? sum / objects : null };
  });
  const mean = (name) => {
    const known = scores.map((s) => s[name]).filter((v) => v !== null);
    return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
  };
  return { covering: mean("covering"), mbo: mean("mbo") };
}
