// Pieces of the page. Text from a file or a class only ever becomes text: by `textContent` or an attribute.
function el(tag, settings = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

let numberOfIds = 0;
const newId = (word) => `apm-${word}-${++numberOfIds}`;

const still = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

// A name as it is shown: isolated, so that one that runs right to left leaves its neighbours where they are.
const named = (text, tag = "bdi") => el(tag, { text, dir: "auto" });

// A slider with its name, its value in words and, where `plays`, a button that moves it by itself.
function slider({ name, count, value, words, change, plays = true }) {
  const id = newId("slider"), output = el("output", { for: id, dir: "auto" });
  const input = el("input", { type: "range", id, min: 0, max: count - 1, step: 1, value });
  let timer = null;
  const button = el("button", { type: "button", class: "play", "aria-label": `play ${name}`, "aria-pressed": "false", text: "\u25b6" });
  const set = (to, tell = true) => {
    input.value = to;
    output.textContent = words(+input.value);
    input.setAttribute("aria-valuetext", output.textContent);
    if (tell) change(+input.value);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "\u25b6";
    button.setAttribute("aria-pressed", "false");
  };
  button.addEventListener("click", () => {
    if (timer) return stop();
    button.textContent = "\u23f8";
    button.setAttribute("aria-pressed", "true");
    timer = setInterval(() => (document.hidden ? null : button.isConnected ? set((+input.value + 1) % count) : stop()), still() ? 1600 : 700);
  });
  input.addEventListener("input", () => set(+input.value));
  set(value, false);
  const box = el("div", { class: "slider" }, plays ? button : null, el("label", { for: id, text: name }), input, output);
  return { box, set, get value() { return +input.value; } };
}

// One of several, as buttons side by side.
function choice(name, options, chosen, change) {
  const id = newId("choice");
  const parts = options.map(([value, text]) => {
    const input = el("input", { type: "radio", name: id, value, id: `${id}-${value}`, checked: value === chosen, onchange: () => change(value) });
    return el("span", {}, input, el("label", { for: `${id}-${value}`, text }));
  });
  return el("fieldset", { class: "choice" }, el("legend", { text: name }), ...parts);
}

function select(name, options, chosen, change) {
  const id = newId("select");
  const list = el("select", { id, onchange: () => change(list.value) });
  for (const [value, text] of options) list.append(el("option", { value, text, selected: value === chosen, dir: "auto" }));
  return el("span", { class: "field" }, el("label", { for: id, text: name }), list);
}

function check(name, on, change) {
  const id = newId("check"), box = el("input", { type: "checkbox", id, checked: on, onchange: () => change(box.checked) });
  return el("span", { class: "field" }, box, el("label", { for: id, text: name }));
}

// Parts of a long list, `size` at a time: `show(first, last)` fills the place above the two buttons.
function pager(total, size, show) {
  let at = 0;
  const place = el("span", { "aria-live": "polite" });
  const back = el("button", { type: "button", text: "\u2190 earlier", onclick: () => turn(-1) });
  const on = el("button", { type: "button", text: "later \u2192", onclick: () => turn(1) });
  const box = el("div", { class: "pager" }, back, place, on);
  function turn(by) {
    at = Math.min(Math.max(at + by, 0), Math.max(Math.ceil(total / size) - 1, 0));
    const first = at * size, last = Math.min(first + size, total);
    place.textContent = total ? `${first + 1} to ${last} of ${total}` : "none";
    back.disabled = at === 0;
    on.disabled = last >= total;
    box.hidden = total <= size;
    show(first, last);
  }
  turn(0);
  return box;
}

// Pointer and keys on a canvas: `move([x, y])` in [0, 1), arrows by `step()` of it.
function pointed(canvas, point, step, move) {
  const inside = (x) => Math.min(Math.max(x, 0), 0.999999);
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    move([inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)]);
  };
  canvas.addEventListener("pointermove", at);
  canvas.addEventListener("pointerdown", at);
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    const [dx, dy] = step(), [x, y] = point();
    move([inside(x + way[0] * dx), inside(y + way[1] * dy)]);
  });
}

const figure = (value, digits = 2) => (value === null || value === undefined ? "\u2013" : value.toFixed(digits));
