"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Filters: each button narrows figures and rows to one value of the key.
const chosen = {};
const filters = all("fieldset[data-filter]");
function apply() {
  for (const element of all("figure, .rows tbody tr")) {
    element.hidden = Object.entries(chosen).some(([name, value]) =>
      value && name in element.dataset && element.dataset[name] !== value);
  }
  for (const section of all("section:has(figure)")) {
    section.hidden = all("figure", section).every((figure) => figure.hidden);
  }
}
for (const group of filters) {
  const buttons = all("button", group);
  const choose = (button) => {
    chosen[group.dataset.filter] = button.value;
    for (const each of buttons) each.setAttribute("aria-pressed", each === button);
    apply();
  };
  for (const button of buttons) button.addEventListener("click", () => choose(button));
  choose(buttons[0]);
}

// A table sorts by any column; what was not measured stays at the end.
function sort(table, head, column) {
  const body = table.tBodies[0];
  const upwards = head.getAttribute("aria-sort") !== "ascending";
  for (const each of all("th", table)) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", upwards ? "ascending" : "descending");
  const key = (row) => row.cells[column]?.dataset.key ?? "";
  const numeric = head.classList.contains("number");
  const order = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const sign = numeric ? x - y : x.localeCompare(y, undefined, {numeric: true});
    return upwards ? sign : -sign;
  };
  body.append(...all("tr", body).sort(order));
}
for (const table of all(".rows")) {
  all("th", table).forEach((head, column) =>
    head.addEventListener("click", () => sort(table, head, column)));
}

// Points of the roofline tell their row, and a row shows its point.
for (const row of all(".rows tbody tr")) {
  const point = document.getElementById("p" + row.id.slice(1));
  if (!point) continue;
  const text = [...row.cells].map((cell) => cell.textContent).filter(Boolean).join("  ");
  const title = document.createElementNS(point.namespaceURI, "title");
  title.textContent = text;
  point.prepend(title);
  row.addEventListener("mouseenter", () => point.classList.add("hot"));
  row.addEventListener("mouseleave", () => point.classList.remove("hot"));
}
