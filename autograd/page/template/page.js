// What all sections share: the run's numbers, what is chosen, pictures of arrays, charts with tables, light and dark.
"use strict";

const TYPES = { f4: Float32Array, f8: Float64Array, i4: Int32Array, u1: Uint8Array };

// A NumPy array from the page: `data` in C order, and its `shape`.
class Values {
  constructor(data, shape) {
    this.data = data;
    this.shape = shape;
    this.strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  }

  // The number at a full index, or the part at a shorter one, as in NumPy; no copy is made.
  at(...index) {
    const start = index.reduce((sum, i, axis) => sum + i * this.strides[axis], 0);
    if (index.length === this.shape.length) return this.data[start];
    const shape = this.shape.slice(index.length);
    return new Values(this.data.subarray(start, start + this.strides[index.length - 1]), shape);
  }
}

// The run is zlib-compressed JSON; arrays are {dtype, shape, data} with base64 of their little-endian bytes.
async function read(element) {
  const stream = new Blob([bytes(element.textContent)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text(), (_, value) =>
    value?.dtype ? new Values(new TYPES[value.dtype](bytes(value.data).buffer), value.shape) : value);
}

const bytes = (text) => Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));

// What is chosen, and what is drawn again when it changes.
const state = { frame: 0, filter: 0, channel: 0, row: 0, column: 0 };
const views = [];

function view(keys, draw) {
  views.push({ keys, draw });
  draw();
}

function choose(change) {
  Object.assign(state, change);
  for (const { keys, draw } of views) if (keys.some((key) => key in change)) draw();
}

const weight = () => [state.filter, state.channel, state.row, state.column];
const $ = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const percent = (share) => (100 * share).toFixed(1) + "%";
const span = (n) => [...Array(n).keys()];

// Numbers for reading: with thousands' commas, so many digits, a real minus sign.
function number(value, digits = 4) {
  if (Number.isInteger(value)) return value.toLocaleString("en").replace("-", "\u2212");
  const small = Math.abs(value) < 1e-3;
  return (small ? value.toExponential(digits - 1) : value.toPrecision(digits)).replaceAll("-", "\u2212");
}

const signed = (value, digits) => (value > 0 ? "+" : "") + number(value, digits);
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Pictures of arrays.

function rgb(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
}

function extent(values) {
  let most = 0;
  for (const value of values) if (Math.abs(value) > most) most = Math.abs(value);
  return most || 1;
}

function colourOf(value, limit) {
  const [middle, end] = [rgb(css("--middle")), rgb(css(value < 0 ? "--low" : "--high"))];
  const share = Math.min(1, Math.abs(value) / limit);
  return middle.map((low, i) => Math.round(low + share * (end[i] - low)));
}

// Fills a canvas with a (rows, columns) array: blue below zero, red above; hover shows the number.
function heat(canvas, values, limit, alt, unit = "") {
  const [rows, columns] = values.shape;
  const [low, middle, high] = ["--low", "--middle", "--high"].map((name) => rgb(css(name)));
  paint(canvas, rows, columns, (i, pixel) => {
    const end = values.data[i] < 0 ? low : high;
    const share = Math.min(1, Math.abs(values.data[i]) / limit);
    for (let k = 0; k < 3; k++) pixel[k] = middle[k] + share * (end[k] - middle[k]);
  });
  describe(canvas, alt, (row, column) => `row ${row}, column ${column}: ${unit}${number(values.at(row, column))}`);
}

// Fills a canvas with an image (channels, rows, columns), grey or of three channels, from its least to its greatest.
function picture(canvas, values, alt) {
  const [channels, rows, columns] = values.shape;
  const low = Math.min(...values.data);
  const range = Math.max(...values.data) - low || 1;
  const plane = rows * columns;
  paint(canvas, rows, columns, (i, pixel) => {
    for (let k = 0; k < 3; k++) pixel[k] = (255 * (values.data[(k % channels) * plane + i] - low)) / range;
  });
  describe(canvas, alt, (row, column) =>
    `row ${row}, column ${column}: ${span(channels).map((c) => number(values.at(c, row, column), 3)).join(", ")}`);
}

// Fills a canvas with cells of named colours: cell(row, column) -> name of a CSS colour; hover shows label(row, column).
function cells(canvas, rows, columns, cell, alt, label) {
  const colours = {};
  paint(canvas, rows, columns, (i, pixel) => {
    const name = cell(Math.floor(i / columns), i % columns);
    colours[name] ??= rgb(css(name));
    for (let k = 0; k < 3; k++) pixel[k] = colours[name][k];
  });
  describe(canvas, alt, label);
}

function paint(canvas, rows, columns, colour) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    colour(i, image.data.subarray(4 * i, 4 * i + 3));
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

function describe(canvas, alt, label) {
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", alt);
  canvas.label = label;
}

// One tip for all canvases.
function followPointer() {
  const tip = element("div", { className: "tip", hidden: true, ariaHidden: "true" });
  document.body.append(tip);
  document.addEventListener("pointermove", (event) => {
    const canvas = event.target;
    tip.hidden = !canvas.label;
    if (tip.hidden) return;
    const box = canvas.getBoundingClientRect();
    const row = Math.min(canvas.height - 1, Math.floor(((event.clientY - box.top) / box.height) * canvas.height));
    const column = Math.min(canvas.width - 1, Math.floor(((event.clientX - box.left) / box.width) * canvas.width));
    tip.textContent = canvas.label(Math.max(0, row), Math.max(0, column));
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = event.clientY + 16 + "px";
  });
}

// A figure: a canvas and its caption.
function figure(caption, className = "") {
  const canvas = element("canvas");
  return { canvas, figure: element("figure", { className }, canvas, element("figcaption", {}, caption)) };
}

// Charts, by Plotly, in the page's colours. Each has a sentence for those who cannot see it, and its numbers as a table.

const tables = new Map();

function chart(id, alt, traces, layout = {}) {
  const box = $(id);
  const ink = css("--quiet");
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--quiet"), linecolor: css("--line"), automargin: true };
  const { xaxis, yaxis, ...rest } = layout;
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", alt);
  Plotly.react(box, traces, {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: "system-ui, sans-serif", size: 13 },
    colorway: [css("--low"), css("--high"), css("--quiet"), css("--good"), "#b07d1a", "#8a63b8"],
    margin: { l: 10, r: 10, t: 10, b: 10 },
    dragmode: false,
    hovermode: "closest",
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
    ...rest,
  }, { displayModeBar: false });
  fill(id, traces, layout);
}

function fill(id, traces, layout) {
  if (!tables.has(id)) {
    const body = element("div", { className: "scroll", tabIndex: 0 });
    const box = element("details", {}, element("summary", {}, "The numbers as a table"), body);
    $(id).after(box);
    new ResizeObserver(() => Plotly.Plots.resize($(id))).observe($(id));
    tables.set(id, { box, body });
    box.addEventListener("toggle", () => fill(id, $(id).data, $(id).layout));
  }
  const { box, body } = tables.get(id);
  if (!box.open) return;
  const name = (axis, other) => axis?.title?.text ?? other;
  const columns = traces.flatMap((trace) => [
    { head: name(layout.xaxis, "x"), values: trace.x },
    { head: trace.name ?? name(layout.yaxis, "y"), values: trace.y },
  ]).filter((column, i, all) => i % 2 || i === 0 || column.values !== all[0].values);
  const rows = Math.max(...columns.map((column) => column.values.length));
  body.replaceChildren(table(columns.map((column) => column.head), span(rows).map((i) =>
    columns.map(({ values }) => (i < values.length ? cellText(values[i]) : "")))));
  body.ariaLabel = "table of the chart's numbers";
}

const cellText = (value) => (typeof value === "number" ? number(value, 6) : value);

function table(head, rows, chosen = -1) {
  const line = (tag, values) => values.map((value) =>
    element(tag, tag === "th" ? { scope: "col" } : {}, value));
  return element("table", {},
    element("thead", {}, element("tr", {}, ...line("th", head))),
    element("tbody", {}, ...rows.map((row, i) =>
      element("tr", { className: i === chosen ? "chosen" : "" }, ...line("td", row)))));
}

function check(id, text, holds = true) {
  $(id).textContent = text;
  $(id).classList.toggle("failed", !holds);
}

// Light and dark: what the system says, until the button is pressed.
function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = (name) => {
    document.documentElement.dataset.theme = name;
    $("theme").textContent = name === "dark" ? "Light" : "Dark";
    $("theme").ariaLabel = `Switch to ${name === "dark" ? "light" : "dark"} colours`;
    for (const { draw } of views) draw();
  };
  dark.addEventListener("change", () => apply(dark.matches ? "dark" : "light"));
  $("theme").addEventListener("click", () =>
    apply(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  apply(dark.matches ? "dark" : "light");
}
