// The page put together: a tab for each kind of thing that the view holds.
async function mount(root, source) {
  root.classList.add("apm-explorer");
  root.replaceChildren(el("p", { text: "opening\u2026", role: "status" }));
  if (typeof DecompressionStream === "undefined") {
    root.replaceChildren(el("p", { role: "alert", text: "This browser cannot unpack the page's data; any of 2023 or later can." }));
    return;
  }
  const view = await unpack(source), tabs = [];
  const many = (items, make) => async () => el("div", {}, ...(await Promise.all(items.map(make))));
  if (view.pictures && view.pictures.length) tabs.push(["Islands", () => islandsView(view.pictures)]);
  if (view.traces && view.traces.length) tabs.push(["Test-time training", many(view.traces, traceView)]);
  if (view.ways && view.ways.length) tabs.push(["Interpolation", many(view.ways, wayView)]);
  if (view.tables && view.tables.length) tabs.push(["Tables", many(view.tables, tableView)]);
  if (view.figures && view.figures.length) tabs.push(["Figures", many(view.figures, (f) => el("figure", { class: "shown" }, imageOf(f.image, f.name), el("figcaption", {}, named(f.name))))]);
  tabs.push(["About", async () => about(view)]);

  const list = el("div", { role: "tablist", "aria-label": "views" }), panel = el("div", { role: "tabpanel", id: newId("panel"), tabindex: -1 }), made = [];
  const buttons = tabs.map(([name], i) => el("button", { type: "button", role: "tab", id: newId("tab"), "aria-controls": panel.id, text: name, onclick: () => open(i) }));
  list.append(...buttons);
  list.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key], at = buttons.indexOf(document.activeElement);
    if (!way || at < 0) return;
    event.preventDefault();
    const to = (at + way + buttons.length) % buttons.length;
    open(to);
    buttons[to].focus();
  });
  async function open(at) {
    buttons.forEach((b, i) => { b.setAttribute("aria-selected", String(i === at)); b.tabIndex = i === at ? 0 : -1; });
    panel.setAttribute("aria-labelledby", buttons[at].id);
    made[at] = made[at] || await tabs[at][1]();
    panel.replaceChildren(made[at]);
  }
  root.replaceChildren(
    el("header", {}, el("h1", { text: view.title, dir: "auto" }), pagesOf(view)),
    ...view.notes.map((note) => el("p", { class: "note", text: note, dir: "auto" })),
    list, panel);
  await open(0);
  root.dataset.ready = "true";
}

// Where a run has more pictures than one page takes: the pages before and behind.
function pagesOf(view) {
  if (!view.pages) return null;
  const { number, before, next } = view.pages, link = (to, text) => (to ? el("a", { href: encodeURIComponent(to), text }) : null);
  return el("nav", { "aria-label": "pages" }, link(before, "\u2190 earlier pictures"), el("span", { text: `page ${number}` }), link(next, "further pictures \u2192"));
}

function about(view) {
  const facts = el("dl");
  for (const [name, value] of view.facts) facts.append(el("dt", { text: name, dir: "auto" }), el("dd", { text: value, dir: "auto" }));
  return el("div", { class: "about" }, el("h3", { text: "Keys and touch" }), el("p", { text: "Tab goes from control to control. Arrow keys on the picture move the point, on the cube turn it, on a slider move it. L on the cube, or its button Lasso, starts a ring around the point looked at: arrow keys move it, + and - size it, Enter keeps what is in it lit in the picture, Escape takes the choice back. P swaps the islands and the class for those where features were replaced, if any were. On a touch screen, drag over the picture or the cube." }),
    el("p", { text: "Everything is in this file: it needs no network, and its own policy forbids any request. Pictures of features are drawn from directions that are kept so that cosines stay as they are; below the picture stands how well." }),
    el("h3", { text: "How it was made" }), facts);
}
