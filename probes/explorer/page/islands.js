// Pictures and what agrees in them: one pointer over one picture, seen by one or two networks at any of their layers.
const MODES = [["agree", "Agreement"], ["cosine", "Cosine"], ["islands", "Islands"], ["colours", "Colours"]];
const SHOWN_AT_ONCE = 12; // pictures in the strip
const PATCHED = "#e69f00"; // around what was replaced
const classes = (said) => said.slice(0, 2).map((c) => `${c.name} ${figure(c.probability)}`).join(", ");

// One network's view: its sliders, the picture with what is drawn on it, and the words below.
function pane(view, number) {
  const canvas = el("canvas", { class: "hero", tabindex: 0, role: "img" });
  const caption = el("figcaption", { dir: "auto" }), bar = el("canvas", { class: "bar", width: 64, height: 1, "aria-hidden": "true" });
  const scale = el("span", { class: "scale", hidden: true }, el("span"), bar, el("span", { text: "1.00" }));
  const controls = el("div", { class: "axes" });
  const me = { box: el("section", { class: "pane", "aria-label": number ? "beside it" : "picture" }, controls, el("figure", {}, canvas, caption, scale)), canvas, sliders: [], source: null, patch: null, chosen: null, at: [], photo: {}, lines: {}, people: {} };
  const ink = bar.getContext("2d");
  for (let i = 0; i < 64; i++) { ink.fillStyle = `rgb(${ramp(i / 63).map(Math.round)})`; ink.fillRect(i, 0, 1, 1); }

  me.stageAt = (at) => {
    const i = at.reduce((sum, index, axis) => sum * me.source.axes[axis].labels.length + index, 0), to = me.patch;
    return to && i >= to.first ? to.stages[i - to.first] : me.source.stages[i];
  };
  me.stage = () => me.stageAt(me.at);
  me.title = () => me.source.axes.map((axis, i) => axis.labels[me.at[i]]).join(", ");

  // A source's own sliders; where the last one had as many places, they stay where they are.
  me.look = (source) => {
    const before = me.at;
    me.source = source;
    me.at = source.axes.map((axis, i) => (before[i] === undefined ? axis.labels.length - 1 : Math.min(before[i], axis.labels.length - 1)));
    me.chosen = null;
    me.patch = null;
    const sources = view.picture().sources;
    const list = sources.length > 1 ? select("seen by", sources.map((s, i) => [String(i), s.name]), String(sources.indexOf(source)), (i) => { me.look(sources[+i]); view.changed(); }) : null;
    me.sliders = source.axes.map((axis, i) => axis.labels.length < 2 ? null : slider({
      name: axis.name, count: axis.labels.length, value: me.at[i], words: (at) => `${at + 1} of ${axis.labels.length}: ${axis.labels[at]}`,
      change: (to) => { me.at[i] = to; me.chosen = null; view.changed(); },
    }));
    controls.replaceChildren(...[list, patching(), ...me.sliders.map((s) => s && s.box)].filter(Boolean));
  };

  // The button that swaps what the source saw for what it saw where features were replaced, computed beforehand.
  function patching() {
    const patches = me.source.patches || [];
    let which = 0;
    me.swap = () => {};
    if (!patches.length) return null;
    const button = el("button", { type: "button", "aria-pressed": "false", "aria-keyshortcuts": number ? null : "p", text: "Patched", title: `what is seen where features were replaced${number ? "" : " (key P)"}`, onclick: () => me.swap() });
    const put = (patch) => {
      me.patch = patch;
      me.chosen = null;
      button.setAttribute("aria-pressed", String(patch !== null));
      view.changed();
    };
    me.swap = () => put(me.patch ? null : patches[which]);
    const what = patches.length > 1 ? select("replaced at", patches.map((p, i) => [String(i), p.name]), "0", (i) => { which = +i; put(patches[which]); }) : el("span", { class: "soft", text: patches[0].name, dir: "auto" });
    return el("span", { class: "field patching" }, button, what);
  }

  me.draw = () => {
    const stage = me.stage(), picture = view.picture(), { mode, cut, point } = view.state, q = locationAt(stage, point);
    const values = agreement(stage, q), low = lowest(values), [context, width, height] = prepared(canvas, picture.width / picture.height);
    const people = picture.masks && view.state.outlines, labels = mode === "islands" || people ? islandsOf(stage, cut) : null;
    canvas.style.maxWidth = `${(78 * picture.width) / picture.height}vh`;
    put(context, kept(me.photo, view.state.index, width, height, (c) => put(c, picture.bitmap, width, height, true)), width, height, false);
    if (me.chosen) put(context, cells(stage, stage.w, stage.h, (i) => rgba(8, 10, 14, me.chosen.has(i) ? 0 : 205)), width, height, false);
    else if (mode === "agree") put(context, mapped(stage, values, low, DARK), width, height, true);
    else if (mode === "cosine") put(context, mapped(stage, values, low, RAMP), width, height, false, 0.85);
    else if (mode === "colours") put(context, coloured(stage), width, height, false);
    else {
      put(context, filled(stage, labels), width, height, false, 0.38);
      const lines = kept(me.lines, `${stage.cut}|${view.state.index}|${me.title()}|${me.source.name}|${me.patch ? me.patch.name : ""}`, width, height, (c) => outline(c, labels, stage.h, stage.w, width, height, "#fff"));
      put(context, lines, width, height, false);
    }
    if (people) {
      put(context, kept(me.people, view.state.index, width, height, (c) => {
        for (const mask of picture.masks) outline(c, mask, mask.shape[0], mask.shape[1], width, height, "#ffd400");
      }), width, height, false);
    }
    if (me.patch) outline(context, me.patch.cells, ...me.patch.cells.shape, width, height, PATCHED);
    marker(context, point[0] * width, point[1] * height);
    say(stage, values, low, q, labels, picture);
    return { stage, values, low, q };
  };

  function say(stage, values, low, q, labels, picture) {
    const row = Math.floor(q / stage.w), column = q % stage.w, like = values.reduce((sum, v) => sum + (v >= view.state.cut.threshold), 0);
    const words = [`${me.title()}: ${stage.h} \u00d7 ${stage.w} locations.`, `Row ${row + 1}, column ${column + 1}: ${like} of ${values.length} locations agree with it by ${view.state.cut.threshold.toFixed(2)} or more.`];
    if (me.chosen) words.push(`${me.chosen.size} chosen in the cube.`);
    if (labels && labels.islands === undefined) labels.islands = components(stage.h, stage.w, (i, j) => labels[i] === labels[j]).count;
    if (labels) words.push(`${labels.islands} island${labels.islands === 1 ? "" : "s"}.`);
    if (labels && picture.masks && view.state.outlines) {
      if (!labels.score) labels.score = scoreOf(labels, stage.h, stage.w, picture.masks, picture.background);
      words.push(`Against the outlines: covering ${figure(labels.score.covering)}, mBO ${figure(labels.score.mbo)}.`);
    }
    if (me.patch) words.push(`Patched at ${me.patch.name}.`);
    if (me.source.said) words.push(`Class: ${classes(me.source.said)}${me.patch ? ` as it is; ${classes(me.patch.said)} patched` : ""}.`);
    caption.textContent = words.join(" ");
    canvas.setAttribute("aria-label", `${picture.name}. ${caption.textContent}`);
    scale.hidden = view.state.mode !== "cosine";
    scale.firstChild.textContent = `cosine ${low.toFixed(2)}`;
  }
  pointed(canvas, () => view.state.point, () => [1 / me.stage().w, 1 / me.stage().h], view.move);
  return me;
}

// Every place along one axis at once, small, under the same pointer: a button each.
function contactSheet(view, me) {
  const box = el("div", { class: "sheet", role: "group" });
  let shown = [], source = null, axis = 0;
  function build() {
    source = me.source;
    axis = source.axes.reduce((best, a, i) => (a.labels.length > source.axes[best].labels.length ? i : best), 0);
    box.setAttribute("aria-label", `every ${source.axes[axis].name}`);
    shown = source.axes[axis].labels.map((label, i) => {
      const canvas = el("canvas", { "aria-hidden": "true" });
      const button = el("button", { type: "button", onclick: () => me.sliders[axis].set(i) }, canvas, named(label, "span"));
      return { canvas, button, i };
    });
    box.hidden = shown.length < 2;
    box.replaceChildren(...shown.map((s) => s.button));
  }
  return {
    box,
    draw() {
      if (source !== me.source) build();
      if (box.hidden) return;
      for (const { canvas, button, i } of shown) {
        const stage = me.stageAt(me.at.map((at, k) => (k === axis ? i : at))), { mode, cut, point } = view.state;
        button.setAttribute("aria-pressed", String(me.at[axis] === i));
        const [context, width, height] = prepared(canvas, view.picture().width / view.picture().height);
        if (mode === "colours") put(context, coloured(stage), width, height, false);
        else if (mode === "islands") put(context, filled(stage, islandsOf(stage, cut)), width, height, false);
        else {
          const values = agreement(stage, locationAt(stage, point));
          put(context, mapped(stage, values, lowest(values), RAMP), width, height, false);
        }
      }
    },
  };
}

function pictureStrip(pictures, choose) {
  const box = el("div", { class: "strip", role: "group", "aria-label": "pictures" }), buttons = [];
  const pages = pager(pictures.length, SHOWN_AT_ONCE, (first, last) => {
    box.replaceChildren(...pictures.slice(first, last).map((picture, i) => {
      return (buttons[first + i] = el("button", { type: "button", onclick: () => choose(first + i) }, imageOf(picture.image, ""), named(picture.name)));
    }));
  });
  const whole = el("div", { class: "pictures", hidden: pictures.length < 2 }, box, pages);
  return { whole, mark: (index) => buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(i === index))) };
}

async function islandsView(pictures) {
  const state = { index: 0, point: [0.5, 0.4], mode: "agree", cut: { how: "number", number: 6, threshold: 0.9 }, outlines: true, beside: false };
  const root = el("div", { class: "islands" });
  let waiting = false;
  const view = {
    state,
    root,
    picture: () => pictures[state.index],
    move(point) { state.point = point; view.changed(); },
    changed() {
      if (waiting || !panes[1].source) return; // nothing is opened yet
      waiting = true;
      requestAnimationFrame(() => { waiting = false; draw(); });
    },
  };
  const panes = [pane(view, 0), pane(view, 1)], strip = pictureStrip(pictures, (i) => open(i));
  const sheet = contactSheet(view, panes[0]);
  const points = cube({ chosen: () => panes[0].chosen, changed: (set) => { panes[0].chosen = set; view.changed(); } });
  const cuts = el("span", { class: "cut" }), people = el("span"), note = el("p", { class: "soft", dir: "auto" });
  const beside = el("button", { type: "button", "aria-pressed": "false", text: "Compare", title: "a second network, layer or step, or the patched one, beside it, under the same pointer", onclick: () => { state.beside = !state.beside; show(); view.changed(); } });

  function cutting() {
    const by = state.cut.how;
    const how = select("islands by", [["number", "their number"], ["threshold", "a threshold"]], by, (to) => { state.cut.how = to; cutting(); view.changed(); });
    const one = by === "number"
      ? slider({ name: "number", count: 32, value: state.cut.number - 1, words: (i) => String(i + 1), change: (i) => { state.cut.number = i + 1; view.changed(); }, plays: false })
      : slider({ name: "cosine", count: 201, value: Math.round((state.cut.threshold + 1) * 100), words: (i) => (i / 100 - 1).toFixed(2), change: (i) => { state.cut.threshold = i / 100 - 1; view.changed(); }, plays: false });
    cuts.replaceChildren(how, one.box);
  }

  function show() {
    beside.setAttribute("aria-pressed", String(state.beside));
    panes[1].box.hidden = !state.beside;
    root.classList.toggle("two", state.beside);
  }

  async function open(index) {
    state.index = index;
    const picture = pictures[index];
    if (!picture.bitmap) picture.bitmap = await createImageBitmap(new Blob([picture.image], { type: "image/jpeg" }));
    panes.forEach((p, i) => {
      const same = picture.sources.find((s) => p.source && s.name === p.source.name && s.axes.length === p.source.axes.length);
      p.look(same || picture.sources[Math.min(i, picture.sources.length - 1)]);
    });
    if (panes[1].source === panes[0].source) panes[1].swap();
    people.replaceChildren(...(picture.masks ? [check(picture.masks.length > 1 ? `outlines of ${picture.masks.length} people` : "outlines", state.outlines, (on) => { state.outlines = on; view.changed(); })] : []));
    const error = Math.max(...picture.sources.flatMap((s) => [s, ...(s.patches || [])].flatMap((from) => from.stages.map((t) => t.error))));
    note.textContent = `${picture.note ? picture.note + ". " : ""}Cosines in this page are those of the whole features to ${error.toFixed(3)}, in the worst pair of locations of all.`;
    strip.mark(index);
    show();
    view.changed();
  }

  function draw() {
    const begun = performance.now(), seen = panes[0].draw();
    if (state.beside) panes[1].draw();
    sheet.draw();
    points.show(seen.stage, seen.q, seen.values, seen.low);
    root.dataset.ms = (performance.now() - begun).toFixed(2);
    root.dataset.drawn = String(1 + (+root.dataset.drawn || 0));
  }

  cutting();
  root.append(
    strip.whole,
    el("div", { class: "bar-of-controls" }, choice("show", MODES, state.mode, (mode) => { state.mode = mode; view.changed(); }), cuts, people, beside),
    el("div", { class: "stage" }, panes[0].box, panes[1].box, el("div", { class: "more" }, sheet.box, points.box)),
    note,
  );
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && panes[0].chosen) { panes[0].chosen = null; view.changed(); }
    if (event.key.toLowerCase() === "p" && !event.ctrlKey && !event.metaKey && !event.altKey && event.target.tagName !== "SELECT") panes[0].swap();
  });
  new ResizeObserver(() => view.changed()).observe(root);
  await open(0);
  return root;
}
