"use strict";
// The page works without this script; with it, images open in place and arrow keys move.
const data = JSON.parse(document.getElementById("grid").textContent);
const counts = [0, 1, 2].map((n) => Math.max(1, data.axes[n]?.values.length ?? 1));
const $ = (id) => document.getElementById(id);
const dialog = $("viewer"), stage = $("stage"), image = $("image");
const SMALL = 256; // pixels; smaller images are enlarged without blurring
let at = [0, 0, 0]; // x, y, z
let showsBase = false;

const fileAt = ([x, y, z]) => data.files[data.cells[z][y][x]];

function showSheet(z) {
  at[2] = z;
  document.querySelectorAll("section[data-z]").forEach((section) => {
    section.hidden = Number(section.dataset.z) !== z;
  });
  document.querySelectorAll(".tabs button").forEach((button, n) => {
    button.setAttribute("aria-pressed", String(n === z));
  });
}

function baseOf(place) {
  if (!data.base) return null;
  const other = [...place];
  other[data.base.axis] = data.base.value;
  return other;
}

function show() {
  const place = showsBase ? baseOf(at) : at;
  const file = fileAt(place);
  image.src = file.url;
  image.alt = file.parameters.split("\n")[0];
  stage.classList.toggle("small", Math.max(file.width, file.height) <= SMALL);
  image.classList.toggle("small", Math.max(file.width, file.height) <= SMALL);
  $("parameters").textContent = file.parameters;
  $("file").textContent = file.name;
  $("file").href = file.url;
  const number = (at[2] * counts[1] + at[1]) * counts[0] + at[0] + 1;
  $("count").textContent = `${number} of ${counts[0] * counts[1] * counts[2]}`;
  const list = $("labels");
  list.replaceChildren();
  data.axes.forEach((axis, n) => {
    const value = axis.values[place[n]];
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = axis.name;
    text.textContent = value.note ? `${value.label} (${value.note})` : value.label;
    list.append(term, text);
  });
}

function open(place) {
  at = place;
  showsBase = false;
  if (!dialog.open) dialog.showModal();
  stage.className = "stage fit";
  show();
}

function move(axis, by) {
  const next = at[axis] + by;
  if (next < 0 || next >= counts[axis]) return;
  at[axis] = next;
  if (axis === 2) showSheet(next);
  if (dialog.open) show();
}

function zoom() {
  stage.classList.toggle("real");
  stage.classList.toggle("fit");
}

function resize(pixels) {
  const size = Math.min(1024, Math.max(64, pixels));
  document.documentElement.style.setProperty("--cell", `${size}px`);
  $("size").value = String(size);
}

const MOVES = {
  ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, -1], ArrowDown: [1, 1],
  PageUp: [2, -1], PageDown: [2, 1],
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  const key = event.key;
  if (key in MOVES && (dialog.open || MOVES[key][0] === 2)) {
    event.preventDefault();
    move(...MOVES[key]);
  } else if (key === "+" || key === "=") resize(Number($("size").value) + 32);
  else if (key === "-") resize(Number($("size").value) - 32);
  else if (dialog.open && key === "z") zoom();
  else if (dialog.open && key === "b" && data.base && !showsBase) {
    showsBase = true;
    show();
  }
});
document.addEventListener("keyup", (event) => {
  if (event.key === "b" && showsBase) {
    showsBase = false;
    if (dialog.open) show();
  }
});

document.querySelectorAll("a.cell").forEach((cell) => {
  cell.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(cell.dataset.at.split(",").map(Number));
  });
});
dialog.addEventListener("close", () => {
  document.querySelector(`a.cell[data-at="${at.join(",")}"]`)?.focus();
});
$("close").addEventListener("click", () => dialog.close());
image.addEventListener("click", zoom);
$("copy").addEventListener("click", async () => {
  const text = $("parameters").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page from a file may not write to the clipboard
    getSelection().selectAllChildren($("parameters"));
    document.execCommand("copy");
  }
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1200);
});
document.querySelectorAll(".tabs button").forEach((button, n) => {
  button.addEventListener("click", () => showSheet(n));
});
$("size").addEventListener("input", (event) => resize(Number(event.target.value)));

$("controls").hidden = false;
resize(data.cell);
showSheet(0);
