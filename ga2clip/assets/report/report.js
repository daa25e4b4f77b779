"use strict";
for (const head of document.querySelectorAll("th[data-sort]")) {
  head.tabIndex = 0;
  const sort = () => {
    const table = head.closest("table"), place = [...head.parentNode.children].indexOf(head);
    const rising = head.getAttribute("aria-sort") === "descending" ||
      (!head.hasAttribute("aria-sort") && head.dataset.sort === "text");
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const value = row => {
      const cell = row.children[place];
      return head.dataset.sort === "text" ? cell.textContent.trim() : Number(cell.dataset.v ?? cell.textContent);
    };
    const order = (a, b) => head.dataset.sort === "text" ? a.localeCompare(b) : a - b;
    const rows = [...table.tBodies[0].rows].map(row => [value(row), row]);
    rows.sort((a, b) => (rising ? 1 : -1) * order(a[0], b[0]));
    table.tBodies[0].append(...rows.map(pair => pair[1]));
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}

const SVG = "http://www.w3.org/2000/svg";
// A name written from right to left takes no number beside it along, as <bdi> does.
const alone = name => `\u2068${name}\u2069`;
const make = (name, attributes) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};

for (const box of document.querySelectorAll(".matrix")) {
  const data = JSON.parse(box.previousElementSibling.textContent), count = data.names.length;
  const section = box.parentNode, say = section.querySelector(".say");
  const side = count <= 40 ? 22 : 13, left = box.querySelector(".left"), top = box.querySelector(".top");
  const counts = new Map(data.cells.map(([row, column, n]) => [row * count + column, n]));
  const right = data.clips.map((clips, index) => clips ? (counts.get(index * count + index) || 0) / clips : 2);
  if (count > 60) box.classList.add("large");
  const label = (name, size) => {
    const element = document.createElement("div");
    element.textContent = element.title = name;
    element.style[size] = element.style.lineHeight = side + "px";
    element.style.fontSize = Math.min(13, side - 2) + "px";
    return element;
  };
  let order = [];
  const draw = how => {
    order = [...data.names.keys()];
    if (how === "accuracy") order.sort((a, b) => right[a] - right[b] || a - b);
    if (how === "clips") order.sort((a, b) => data.clips[b] - data.clips[a] || a - b);
    if (how === "together") order = together();
    const place = new Map(order.map((name, index) => [name, index]));
    left.replaceChildren(...order.map(name => label(data.names[name], "height")));
    top.replaceChildren(...order.map(name => label(data.names[name], "width")));
    const size = count * side, picture = make("svg", { width: size, height: size });
    picture.append(make("rect", { width: size, height: size, fill: "#f7f8fb" }));
    const paths = {};
    for (const [row, column, n] of data.cells) {
      const level = Math.ceil(5 * n / Math.max(1, data.clips[row]));
      const key = (row === column ? "r" : "w") + level;
      paths[key] = (paths[key] || "") + `M${place.get(column) * side} ${place.get(row) * side}h${side - 1}v${side - 1}h${1 - side}z`;
    }
    for (const [key, d] of Object.entries(paths)) {
      picture.append(make("path", { d, fill: key[0] === "r" ? "#1f5fa8" : "#b4441c", "fill-opacity": 0.2 * key[1] }));
    }
    if (side === 22) for (const [row, column, n] of data.cells) {
      const dark = n / Math.max(1, data.clips[row]) > 0.5;
      const text = make("text", { x: place.get(column) * side + 10.5, y: place.get(row) * side + 14.5,
        "text-anchor": "middle", "font-size": 11, fill: dark ? "#fff" : "#1c1e21" });
      text.textContent = n;
      picture.append(text);
    }
    box.querySelector("svg").replaceWith(picture);
  };
  // A greedy chain: after each class the one that it is most often confused with, of those that are left.
  const together = () => {
    const near = data.names.map(() => []);
    for (const [row, column, n] of data.cells) if (row !== column) { near[row].push([column, n]); near[column].push([row, n]); }
    const weight = index => near[index].reduce((sum, pair) => sum + pair[1], 0);
    const rest = new Set([...data.names.keys()].sort((a, b) => weight(b) - weight(a) || a - b)), chain = [];
    let last = null;
    while (rest.size) {
      const close = last === null ? [] : near[last].filter(pair => rest.has(pair[0])).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
      last = close.length ? close[0][0] : rest.values().next().value;
      rest.delete(last);
      chain.push(last);
    }
    return chain;
  };
  box.addEventListener("mousemove", event => {
    const area = box.querySelector("svg").getBoundingClientRect();
    const column = Math.floor((event.clientX - area.left) / side), row = Math.floor((event.clientY - area.top) / side);
    for (const marked of box.querySelectorAll(".at")) marked.classList.remove("at");
    if (row < 0 || column < 0 || row >= count || column >= count) { say.textContent = ""; return; }
    left.children[row].classList.add("at");
    top.children[column].classList.add("at");
    const from = order[row], to = order[column], n = counts.get(from * count + to) || 0;
    say.textContent = `${alone(data.names[from])} → ${alone(data.names[to])}: ${n} of ${data.clips[from]} clips`;
  });
  const choice = section.querySelector("select");
  choice.addEventListener("change", () => draw(choice.value));
  draw("name");
}
