// A table that can be sorted by any column and filtered by any word; behind a row of a benchmark, its pictures.
const ROWS_AT_ONCE = 100, PICTURES_AT_ONCE = 40, FEW = 8; // rows that need no filter

function tableView(table) {
  const columns = table.columns, index = new Map(columns.map((c, i) => [c.name, i]));
  const count = columns.length ? columns[0].values.length : 0;
  const words = Array.from({ length: count }, (_, i) => columns.filter((c) => c.kind === "text").map((c) => c.values[i]).join(" ").toLowerCase());
  let order = Array.from({ length: count }, (_, i) => i), kept = order, by = null, up = true, filter = "", only = {};
  const body = el("tbody"), heads = columns.map((column, i) => {
    const button = el("button", { type: "button", onclick: () => sort(i) }, named(column.title || column.name, "span"));
    return el("th", { scope: "col", class: column.kind, "aria-sort": "none" }, button);
  });
  const status = el("p", { class: "soft", role: "status", hidden: count <= FEW }), place = el("div"), behind = el("div", { class: "behind" });
  const find = el("input", { type: "search", id: newId("find"), oninput: () => { filter = find.value.toLowerCase(); narrow(); } });
  const lists = (table.choose || []).map((name) => {
    const values = [...new Set(columns[index.get(name)].values)];
    return select(name, [["", "all"], ...values.map((v) => [v, v])], "", (to) => { only[name] = to; narrow(); });
  });

  function cell(column, i) {
    const value = column.values[i];
    const text = value === null || value === undefined ? "\u2013" : typeof value === "number" ? (Number.isInteger(value) ? String(value) : value.toFixed(column.digits ?? 2)) : String(value);
    const range = column.ranges && column.ranges[i];
    return el("td", { class: column.kind, text: range ? `${text} [${range.map((v) => v.toFixed(column.digits ?? 2)).join(", ")}]` : text, dir: column.kind === "text" ? "auto" : null });
  }

  function row(i) {
    const cellsOf = columns.map((column) => cell(column, i));
    if (table.behind) {
      cellsOf[0].replaceChildren(el("button", { type: "button", class: "link", title: "the pictures behind this row", onclick: () => open(i) }, named(columns[0].values[i], "span")));
    }
    return el("tr", {}, ...cellsOf);
  }

  function sort(i) {
    up = by === i ? !up : columns[i].kind === "text";
    by = i;
    const values = columns[i].values, empty = (v) => v === null || v === undefined;
    const compare = (a, b) => (empty(a) || empty(b) ? empty(a) - empty(b) : (typeof a === "number" ? a - b : String(a).localeCompare(String(b))) * (up ? 1 : -1));
    order = Array.from({ length: count }, (_, k) => k).sort((a, b) => compare(values[a], values[b]) || a - b);
    heads.forEach((head, k) => head.setAttribute("aria-sort", k !== i ? "none" : up ? "ascending" : "descending"));
    narrow();
  }

  function narrow() {
    const chosen = Object.entries(only).filter(([, value]) => value).map(([name, value]) => [columns[index.get(name)].values, value]);
    kept = order.filter((i) => words[i].includes(filter) && chosen.every(([values, value]) => values[i] === value));
    status.textContent = `${kept.length} of ${count} rows`;
    const pages = pager(kept.length, ROWS_AT_ONCE, (first, last) => body.replaceChildren(...kept.slice(first, last).map(row)));
    place.replaceChildren(pages);
    box.dataset.drawn = String(1 + (+box.dataset.drawn || 0));
  }

  // Which pictures one method got right and another wrong, under the condition of a row.
  function open(i) {
    const condition = columns[index.get("condition")].values[i], method = columns[index.get("method")].values[i];
    const data = table.behind.conditions[condition], asked = table.behind.sets[data.set], others = Object.keys(data.answers).filter((m) => m !== method);
    const verdict = (m, k) => (data.answers[m][k] < 0 ? null : data.answers[m][k] === data.labels[k]);
    let other = others[0] || null, group = "first";
    const list = el("ul", { class: "faces" }), spot = el("div");
    const groups = { first: [true, false], second: [false, true], both: [true, true], neither: [false, false] };
    const wanted = (k) => (other === null ? verdict(method, k) === (group !== "neither") : verdict(method, k) === groups[group][0] && verdict(other, k) === groups[group][1]);
    const say = (m, k) => (data.answers[m][k] < 0 ? "no answer" : asked.classes[data.answers[m][k]]);
    function show() {
      const found = asked.names.map((_, k) => k).filter(wanted);
      const pages = pager(found.length, PICTURES_AT_ONCE, (first, last) => list.replaceChildren(...found.slice(first, last).map((k) => {
        const image = asked.images[k] >= 0 ? imageOf(table.behind.images[asked.images[k]], "", { class: "hard" }) : null;
        const lines = [`is ${asked.classes[data.labels[k]]}`, `${method}: ${say(method, k)}`, other === null ? null : `${other}: ${say(other, k)}`];
        return el("li", {}, image, named(asked.names[k]), ...lines.filter(Boolean).map((text) => el("span", { text, dir: "auto" })));
      })));
      spot.replaceChildren(pages);
      behind.dataset.found = String(found.length);
    }
    const words = { first: `right by ${method}, wrong by the other`, second: `wrong by ${method}, right by the other`, both: "right by both", neither: "wrong by both" };
    const alone = [["both", `right by ${method}`], ["neither", `wrong by ${method}`]];
    if (other === null) group = "both";
    behind.replaceChildren(
      el("h3", { text: `${condition}: the pictures behind ${method}`, dir: "auto" }),
      other === null ? null : select("against", others.map((m) => [m, m]), other, (to) => { other = to; show(); }),
      select("which", other === null ? alone : Object.entries(words), group, (to) => { group = to; show(); }),
      list, spot, ...(table.behind.note ? [el("p", { class: "soft", text: table.behind.note })] : []));
    show();
    behind.scrollIntoView({ block: "nearest", behavior: still() ? "auto" : "smooth" });
  }

  const box = el("section", { class: "table" },
    el("h3", {}, named(table.name)),
    el("div", { class: "bar-of-controls", hidden: count <= FEW && !lists.length }, el("span", { class: "field" }, el("label", { for: find.id, text: "filter" }), find), ...lists),
    status,
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": table.name }, el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body)),
    place, table.note ? el("p", { class: "soft", text: table.note, dir: "auto" }) : null, behind);
  narrow();
  return box;
}
