// The sections of the page, in order: each view is drawn from the run's arrays when what it shows is chosen.
"use strict";

const place = () => (run.channels > 1 ? `channel ${state.channel}, ` : "") + `row ${state.row}, column ${state.column}`;
const filterName = () => `filter ${state.filter}`;
const chosen = () => `Filter ${state.filter}, ${place()}`;
const kernel = (values) => values.at(state.filter, state.channel); // of an (O, C, kh, kw) array

function sections() {
  const distance = [...told.specialisation.distance.data];
  state.filter = distance.indexOf(Math.max(...distance));
  [state.row, state.column] = run.kernel.map((size) => Math.floor(size / 2));
  choices();
  film();
  ledger();
  dense();
  numeric();
  slice();
  activation();
  lockstep();
  saturation();
  specialisation();
  controls();
  pooling();
  chain();
}

// The bar, the columns of filters and the grid of weights: three ways to choose.
function choices() {
  const selects = { filter: run.filters, channel: run.channels, row: run.kernel[0], column: run.kernel[1] };
  for (const [key, count] of Object.entries(selects)) {
    const select = $(`choose-${key}`);
    select.append(...span(count).map((i) => element("option", { value: i, textContent: i })));
    select.addEventListener("change", () => choose({ [key]: Number(select.value) }));
    select.closest("label").hidden = count === 1;
  }
  const [rows, columns] = run.kernel;
  const grid = $("weights");
  grid.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
  const radios = span(rows * columns).map((i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const radio = element("input", { type: "radio", name: "weight", className: "radio" });
    radio.addEventListener("change", () => choose({ row, column }));
    radio.addEventListener("keydown", (event) => {
      const to = i + ({ ArrowUp: -columns, ArrowDown: columns }[event.key] ?? NaN);
      if (!(to in radios)) return;
      event.preventDefault();
      radios[to].focus();
      radios[to].click();
    });
    grid.append(element("label", {}, radio));
    return radio;
  });
  view(["filter", "channel", "row", "column"], () => {
    const values = kernel(told.film.weights.at(told.film.steps.data.length - 1));
    const limit = extent(values.data);
    radios.forEach((radio, i) => {
      const text = `row ${Math.floor(i / columns)}, column ${i % columns}: ${signed(values.data[i])}`;
      radio.ariaLabel = text;
      radio.parentElement.title = text;
      radio.parentElement.style.background = `rgb(${colourOf(values.data[i], limit)})`;
    });
    radios[state.row * columns + state.column].checked = true;
    for (const key of Object.keys(selects)) $(`choose-${key}`).value = state[key];
    $("chosen").textContent = `weight now ${signed(values.at(state.row, state.column))}`;
  });
}

// 5 and the first screen: the filters at a step, as they were, what the steps added, what they are.
function film() {
  const { weights, gradients, updates, steps, rates } = told.film;
  const last = steps.data.length - 1;
  const start = weights.at(0);
  const limit = extent(weights.data);
  state.frame = last;
  const columns = span(run.filters).map((filter) => {
    const radio = element("input", { type: "radio", name: "filter", className: "radio", ariaLabel: `filter ${filter}` });
    radio.addEventListener("change", () => choose({ filter }));
    const canvases = span(3).map(() => element("canvas"));
    $("filters").append(element("label", {}, radio, ...canvases, String(filter)));
    return { radio, canvases };
  });
  const sliders = [$("step"), $("step-again")];
  for (const slider of sliders) {
    slider.max = last;
    slider.addEventListener("input", () => choose({ frame: Number(slider.value) }));
  }
  const moved = (filter) => {
    const [from, to] = [start.at(filter, state.channel), weights.at(state.frame, filter, state.channel)];
    return new Values(to.data.map((value, i) => value - from.data[i]), to.shape);
  };
  view(["frame", "channel"], () => {
    const step = steps.data[state.frame];
    for (const slider of sliders) {
      slider.value = state.frame;
      slider.ariaValueText = `after ${number(step)} of ${number(run.steps)} steps`;
    }
    for (const output of document.querySelectorAll(".step output")) {
      const loss = step ? `loss ${told.film.losses.data[step - 1].toFixed(3)}` : "untrained";
      output.textContent = `after ${number(step)} of ${number(run.steps)} steps, ${loss}`;
    }
    columns.forEach(({ canvases }, filter) => {
      heat(canvases[0], start.at(filter, state.channel), limit, `filter ${filter} at the start`);
      heat(canvases[1], moved(filter), limit, `what ${step} steps added to filter ${filter}`);
      heat(canvases[2], weights.at(state.frame, filter, state.channel), limit, `filter ${filter} after ${step} steps`);
    });
  });
  view(["filter"], () => { columns[state.filter].radio.checked = true; });

  const parts = ["weights before the step", "gradient", "update = \u2212rate \u00d7 gradient"].map((text) => figure(text));
  $("film-step").append(...parts.map((part) => part.figure));
  view(["frame", "filter", "channel"], () => {
    const frame = Math.min(state.frame, last - 1);
    const of = (values) => kernel(values.at(frame));
    [weights, gradients, updates].forEach((values, i) => {
      const part = of(values);
      heat(parts[i].canvas, part, extent(part.data), `${filterName()}, step ${steps.data[frame] + 1}: ` +
        `${["weights", "gradient", "update"][i]} up to ${number(extent(part.data), 3)} in size`);
    });
    const [g, u] = [of(gradients), of(updates)].map((part) => part.at(state.row, state.column));
    check("film-check", `${chosen()}, step ${number(steps.data[frame] + 1)}: gradient ${signed(g)}, ` +
      `\u2212${number(rates.data[frame])} \u00d7 gradient = ${signed(-rates.data[frame] * g)}, update ${signed(u)}.`,
      Math.abs(u + rates.data[frame] * g) <= 2 ** -23 * limit);
  });
  view(["frame", "filter", "channel", "row", "column"], () => {
    const values = [...steps.data].map((_, frame) => weights.at(frame, ...weight()));
    const step = steps.data[state.frame];
    chart("film-chart", `The weight of ${filterName()}, ${place()}, went from ${signed(values[0])} to ` +
      `${signed(values[last])} in ${number(run.steps)} steps.`, [
      { x: [...steps.data], y: values, name: "the weight", mode: "lines" },
      { x: [step], y: [values[state.frame]], name: "at the slider", mode: "markers", marker: { size: 11 } },
    ], { xaxis: { title: { text: "step" } }, yaxis: { title: { text: "weight" } } });
  });
  const { momentum } = told.film;
  view(["filter"], () => chart("momentum-chart", "With momentum, the part of the update that comes from earlier steps " +
    "grows to several times the part from this step's gradient.", [
    { x: [...momentum.steps.data], y: [...momentum.gradient.at(state.filter).data], name: "from this gradient" },
    { x: [...momentum.steps.data], y: [...momentum.momentum.at(state.filter).data], name: "from earlier ones (momentum)" },
  ], { xaxis: { title: { text: "step" } }, yaxis: { title: { text: `size of the parts, ${filterName()}` }, rangemode: "tozero" } }));
}

// 1. Every term of one weight's gradient, ranked. Nothing is shown unless the sum is the gradient.
function ledger() {
  const { pixels, upstream, gradient, tolerance } = told.ledger;
  const [images, , height, width] = pixels.shape;
  const [, , rows, columns] = upstream.shape;
  const [top, left] = run.padding;

  const termsOf = ([o, c, u, v]) => {
    const terms = [];
    for (let n = 0; n < images; n++) {
      const [g, x] = [upstream.at(n, o), pixels.at(n, c)];
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          const [y, z] = [i + u - top, j + v - left];
          if (y < 0 || z < 0 || y >= height || z >= width) continue; // padding: a zero
          const [slope, pixel] = [g.data[i * columns + j], x.data[y * width + z]];
          terms.push({ n, i, j, slope, pixel, term: slope * pixel });
        }
      }
    }
    return terms.sort((a, b) => Math.abs(b.term) - Math.abs(a.term));
  };
  const patch = (canvas, { n, i, j }) => {
    const [, channels] = pixels.shape;
    const [kh, kw] = run.kernel;
    const values = new Values(new Float32Array(channels * kh * kw), [channels, kh, kw]);
    for (let c = 0; c < channels; c++) {
      for (let u = 0; u < kh; u++) {
        for (let v = 0; v < kw; v++) {
          const [y, z] = [i + u - top, j + v - left];
          if (y >= 0 && z >= 0 && y < height && z < width) values.data[(c * kh + u) * kw + v] = pixels.at(n, c, y, z);
        }
      }
    }
    picture(canvas, values, `what the filter saw in image ${n} at row ${i}, column ${j}`);
    return canvas;
  };
  view(["filter", "channel", "row", "column"], () => {
    const terms = termsOf(weight());
    const running = [];
    terms.reduce((sum, { term }, k) => (running[k] = sum + term), 0);
    const sum = running.at(-1);
    const grad = gradient.at(...weight());
    const [difference, allowed] = [Math.abs(sum - grad), tolerance.at(...weight())];
    const holds = difference <= allowed;
    check("ledger-sum", `${chosen()}: sum of ${number(terms.length)} terms = ${signed(sum, 9)}, ` +
      `.grad = ${signed(grad, 9)}, difference ${number(difference, 2)}; rounding allows ${number(allowed, 2)}.`, holds);
    $("ledger-picture").hidden = !holds;
    if (!holds) return;
    const zero = terms.filter(({ term }) => term === 0).length;
    const padded = images * rows * columns - terms.length;
    $("ledger-zero").textContent = `${percent(zero / terms.length)} of the terms are zero: no gradient came through ` +
      "at that place." + (padded ? ` At ${number(padded)} positions the weight lies on the padding and has no term.` : "");
    const kept = span(terms.length).filter((k) => k < 50 || k % Math.ceil(terms.length / 400) === 0 || k === terms.length - 1);
    chart("ledger-chart", `The running sum of the terms, the largest first, arrives at the gradient, ${signed(grad)}.`, [
      { x: kept.map((k) => k + 1), y: kept.map((k) => running[k]), name: "running sum", mode: "lines" },
      { x: [1, terms.length], y: [grad, grad], name: ".grad", mode: "lines", line: { dash: "dash" } },
    ], { xaxis: { title: { text: "terms, ranked by size" }, type: "log" }, yaxis: { title: { text: "sum so far" } } });
    $("ledger-table").replaceChildren(table(
      ["", "seen there", "image", "position", "upstream gradient", "\u00d7 pixel", "= term", "sum so far"],
      terms.slice(0, 8).map((term, k) => [String(k + 1), patch(element("canvas"), term), String(term.n),
        `${term.i}, ${term.j}`, signed(term.slope), signed(term.pixel), signed(term.term), signed(running[k])])));
  });
}

// 2. The same convolution as a matrix, whose tied entries are one weight.
function dense() {
  const { ties, matrix, dense_gradient: gradient, direct, tolerance } = told.dense;
  const [rows, columns] = ties.shape;
  const [kh, kw] = run.kernel;
  const shown = figure("the matrix: an output position a row, a pixel a column", "wide");
  const entries = figure("the entries of the chosen weight", "wide");
  $("dense-pictures").append(shown.figure, entries.figure);
  const limit = extent(matrix.data);
  view([], () => heat(shown.canvas, matrix, limit, `the convolution as a matrix of ${rows} by ${columns} entries`));
  view(["channel", "row", "column"], () => {
    const tie = (state.channel * kh + state.row) * kw + state.column;
    const found = span(rows * columns).filter((k) => ties.data[k] === tie);
    cells(entries.canvas, rows, columns,
      (i, j) => (ties.at(i, j) === tie ? "--high" : ties.at(i, j) < 0 ? "--empty" : "--middle"),
      `${found.length} entries of the matrix are the weight of row ${state.row}, column ${state.column}`,
      (i, j) => (ties.at(i, j) < 0 ? "no connection" : `weight ${Math.floor(ties.at(i, j) / kw)}, ${ties.at(i, j) % kw}: ` +
        `dense gradient ${number(gradient.at(i, j))}`));
    const sum = found.reduce((total, k) => total + gradient.data[k], 0);
    check("dense-check", `Weight ${state.row}, ${state.column}: ${found.length} tied entries, their dense gradients ` +
      `add up to ${signed(sum, 9)}; the convolution's gradient is ${signed(direct.data[tie], 9)}; ` +
      `difference ${number(Math.abs(sum - direct.data[tie]), 2)}.`, Math.abs(sum - direct.data[tie]) <= tolerance);
  });
}

// 3. The gradient from the chain rule beside the one from nudging every weight.
function numeric() {
  const { analytic, numeric: nudged, curve } = told.numeric;
  const parts = ["from the chain rule: one pass backwards", "from nudging each weight", "difference"].map((t) => figure(t));
  $("numeric-pictures").append(...parts.map((part) => part.figure));
  view(["filter", "channel"], () => {
    const [a, b] = [kernel(analytic), kernel(nudged)];
    const difference = new Values(a.data.map((value, i) => b.data[i] - value), a.shape);
    const limit = extent(a.data);
    heat(parts[0].canvas, a, limit, `${filterName()}: gradient from the chain rule`);
    heat(parts[1].canvas, b, limit, `${filterName()}: gradient from central differences`);
    heat(parts[2].canvas, difference, limit, `${filterName()}: their difference, at most ${number(extent(difference.data), 2)}`);
  });
  view(["filter", "channel", "row", "column"], () => {
    const [a, b] = [analytic.at(...weight()), nudged.at(...weight())];
    check("numeric-check", `${chosen()}: chain rule ${signed(a, 9)}, (loss(w + \u03b5) \u2212 loss(w \u2212 \u03b5)) / 2\u03b5 = ` +
      `${signed(b, 9)} with \u03b5 = ${number(told.numeric.epsilon, 2)}, difference ${number(Math.abs(a - b), 2)}.`);
  });
  view([], () => chart("numeric-chart", `The error of the nudge is least, ${number(Math.min(...curve.error.data), 2)}, near ` +
    `\u03b5 = ${number(curve.best, 2)}: larger nudges bend with the curve, smaller ones drown in rounding.`, [
    { x: [...curve.epsilons.data], y: [...curve.error.data], name: "error of the nudge", mode: "lines+markers" },
  ], {
    xaxis: { title: { text: "\u03b5, the size of the nudge" }, type: "log", exponentformat: "power" },
    yaxis: { title: { text: "error" }, type: "log", exponentformat: "power" },
  }));
}

// 4. The loss along one weight.
function slice() {
  const { weights, losses, slopes, loss, rate } = told.slices;
  view(["filter", "channel", "row", "column"], () => {
    const [x, y] = [weights, losses].map((values) => [...values.at(...weight()).data]);
    const [slope, now] = [slopes.at(...weight()), told.slices.now.at(...weight())];
    const [to, below] = [told.slices.next.at(...weight()), told.slices.next_loss.at(...weight())];
    chart("slice-chart", `The loss along the weight of ${filterName()}, ${place()}: it stands at ${signed(now)}, where the ` +
      `slope is ${signed(slope)}; the step goes to ${signed(to)}.`, [
      { x, y, name: "loss, run forward", mode: "lines+markers", marker: { size: 5 } },
      { x: [x[0], x.at(-1)], y: [x[0], x.at(-1)].map((w) => loss + slope * (w - now)), name: "tangent, from .grad", mode: "lines", line: { dash: "dash" } },
      { x: [now], y: [loss], name: "the weight", mode: "markers", marker: { size: 12 } },
      { x: [to], y: [below], name: "after one step", mode: "markers", marker: { size: 12, symbol: "diamond" } },
    ], { xaxis: { title: { text: "weight" } }, yaxis: { title: { text: "loss" }, range: span2(y) } });
    check("slice-check", `The step \u2212${number(rate)} \u00d7 ${signed(slope)} = ${signed(to - now)} takes the weight from ` +
      `${signed(now, 6)} to ${signed(to, 6)}, and the loss from ${number(loss, 8)} to ${number(below, 8)}.`);
  });
}

// The range of some numbers with a margin, so that a steep tangent does not flatten the curve.
function span2(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = 0.15 * (high - low) || 1e-9;
  return [low - margin, high + margin];
}

// 6. What the activation does to the map and to the gradient, and that it does nothing to the filter.
function activation() {
  const data = told.activation;
  const names = ["image", "map before", `after ${run.activation_label}`, "where the slope is not 0", "gradient of the map after", "gradient of the map before"];
  const rows = span(data.images.shape[0]).map(() => {
    const figures = names.map((name) => figure(name));
    $("activation-pictures").append(element("div", { className: "row" }, ...figures.map((f) => f.figure)));
    return figures.map((f) => f.canvas);
  });
  view(["filter"], () => rows.forEach((canvases, n) => {
    picture(canvases[0], data.images.at(n), `image ${n}`);
    const maps = [data.before, data.after, data.slope, data.gradient_after, data.gradient_before]
      .map((values) => values.at(n, state.filter));
    const limit = extent(maps[0].data);
    const zeros = maps[1].data.filter((value) => value === 0).length / maps[1].data.length;
    heat(canvases[1], maps[0], limit, `map of ${filterName()} before the activation`);
    heat(canvases[2], maps[1], limit, `map after the activation: ${percent(zeros)} zeros`);
    cells(canvases[3], ...maps[2].shape, (i, j) => (maps[2].at(i, j) ? "--accent" : "--empty"),
      "where the activation lets the gradient through", (i, j) => `slope ${number(maps[2].at(i, j))}`);
    const size = extent(maps[3].data);
    heat(canvases[4], maps[3], size, "gradient of the loss with respect to the map after the activation");
    heat(canvases[5], maps[4], size, "the same before the activation: times its slope");
  }));
}

// 7. The same start and batches under other activations.
function lockstep() {
  const { names, steps, accuracy, filters } = told.lockstep;
  view([], () => chart("lockstep-chart", "Held-out accuracy of the same network under each activation: " +
    names.map((name, a) => `${name} ${percent(accuracy.at(a).data.at(-1))}`).join(", ") + ".",
    names.map((name, a) => ({ x: [...steps.data], y: [...accuracy.at(a).data], name, mode: "lines+markers" })),
    { xaxis: { title: { text: "step" } }, yaxis: { title: { text: "held-out accuracy" }, tickformat: ".0%" } }));
  const shown = names.map((name) => figure(name));
  $("lockstep-filters").append(...shown.map((f) => f.figure));
  view(["filter", "channel"], () => {
    const limit = Math.max(...names.map((_, a) => extent(kernel(filters.at(a)).data)));
    shown.forEach(({ canvas }, a) => heat(canvas, kernel(filters.at(a)), limit, `${filterName()} trained under ${names[a]}`));
  });
}

// 8. Which filters are dead, sparse or saturated.
function saturation() {
  const data = told.saturation;
  view(["filter"], () => bars("saturation-chart", "share of zeros in each filter's map, after the activation, over all " +
    "held-out images", data.zeros.data, "share of zeros", { tickformat: ".0%", range: [0, 1] }));
  const position = figure("share of zeros at each position of the map", "large");
  $("saturation-pictures").prepend(position.figure);
  view(["filter"], () => {
    const values = data.zeros_by_position.at(state.filter);
    cellsOfShare(position.canvas, values, `share of zeros of ${filterName()} at each position`);
    chart("saturation-images", `How many images have which share of zeros in the map of ${filterName()}.`, [{
      x: span(20).map((i) => (i + 0.5) / 20), y: [...data.histogram.at(state.filter).data], type: "bar", name: "images",
    }], { xaxis: { title: { text: "share of zeros in the image's map" }, tickformat: ".0%" }, yaxis: { title: { text: "images" } } });
    $("saturation-filter").textContent = `${filterName()}: ${percent(data.zeros.data[state.filter])} zeros, ` +
      `${percent(data.saturated.data[state.filter])} saturated (slope under 0.01), gradient of length ` +
      `${number(data.gradient_norm.data[state.filter])}: ${data.dead.data[state.filter] ? "dead" : "alive"}.`;
  });
}

function cellsOfShare(canvas, values, alt) {
  heat(canvas, values, 1, alt);
  canvas.label = (row, column) => `row ${row}, column ${column}: ${percent(values.at(row, column))}`;
}

// Bars, one a filter, the chosen one marked; a click chooses.
function bars(id, alt, values, title, axis = {}) {
  const colours = [...values].map((_, i) => css(i === state.filter ? "--high" : "--low"));
  chart(id, `${alt}; from ${number(Math.min(...values), 3)} to ${number(Math.max(...values), 3)}`,
    [{ x: span(values.length), y: [...values], type: "bar", marker: { color: colours }, name: title }],
    { xaxis: { title: { text: "filter" }, dtick: 1, tickangle: 0 }, yaxis: { title: { text: title }, ...axis } });
}

// 9. What a filter has become good at.
function specialisation() {
  const data = told.specialisation;
  const similarity = figure("likeness of every two filters: cosine, 1 on the diagonal", "large");
  $("similarity").prepend(similarity.figure);
  view([], () => {
    heat(similarity.canvas, data.similarity, 1, "cosine between every two filters");
    similarity.canvas.label = (a, b) => `filters ${a} and ${b}: ${number(data.similarity.at(a, b), 3)}`;
  });
  const patches = span(data.patches.shape[1]).map(() => element("canvas"));
  $("patches").append(...patches);
  view(["filter"], () => {
    patches.forEach((canvas, k) => picture(canvas, data.patches.at(state.filter, k),
      `patch ${k + 1} of those that excite ${filterName()} most: response ${number(data.response.at(state.filter, k), 3)}`));
    const means = [...data.means.at(state.filter).data];
    chart("classes-chart", `Mean response of ${filterName()} to each class; most to ${run.classes[data.preferred.data[state.filter]]}.`,
      [{ x: means, y: run.classes, type: "bar", orientation: "h", name: "class" }],
      { xaxis: { title: { text: "mean response" } }, yaxis: { autorange: "reversed" } });
    chart("tuning-chart", `Response of ${filterName()} to gratings of each direction; most at ` +
      `${Math.round(data.orientation.data[state.filter])} degrees.`,
      [{ x: [...data.angles.data], y: [...data.tuning.at(state.filter).data], mode: "lines+markers", name: "response" }],
      { xaxis: { title: { text: "direction of the grating, degrees" }, dtick: 45 }, yaxis: { title: { text: "response" }, rangemode: "tozero" } });
    bars("ablation-chart", "how much the held-out loss rises when a filter's map is set to zero", data.ablation.data,
      "rise of the loss");
    bars("distance-chart", "distance of each filter from its start, relative to its length there", data.distance.data,
      "distance / length at start");
  });
}

// 10. What happens without a random start, and without learning.
function controls() {
  const { distance, control, twins, accuracies, frozen, learned } = told.controls;
  const steps = span(distance.data.length);
  view([], () => chart("twins-chart", `Two filters that start equal stay equal (distance ${number(Math.max(...distance.data))}); ` +
    `two whose readers differ come apart (${number(control.data.at(-1), 3)}).`, [
    { x: steps, y: [...distance.data], name: "twins: equal filters, equal readers", mode: "lines", line: { width: 3 } },
    { x: steps, y: [...control.data], name: "equal filters, different readers", mode: "lines" },
  ], { xaxis: { title: { text: "step" } }, yaxis: { title: { text: "distance of the two filters" } } }));
  view([], () => chart("frozen-chart", `Held-out accuracy: ${Object.entries(accuracies).map(([k, v]) => `${k} ${percent(v)}`).join(", ")}.`,
    [{ x: Object.keys(accuracies), y: Object.values(accuracies), type: "bar", name: "held-out accuracy" }],
    { yaxis: { title: { text: "held-out accuracy" }, tickformat: ".0%", range: [0, 1] } }));
  const shown = ["twin", "its twin", "frozen: as it started", "learned"].map((text) => figure(text));
  $("controls-pictures").append(...shown.map((f) => f.figure));
  view(["filter", "channel"], () => {
    const parts = [twins.at(0, state.channel), twins.at(1, state.channel), kernel(frozen), kernel(learned)];
    parts.forEach((part, i) => heat(shown[i].canvas, part, extent(part.data), ["the first twin at the end",
      "the second twin at the end", `${filterName()}, frozen`, `${filterName()}, learned`][i]));
  });
}

// 11. Which cells the pooling's gradient goes to.
function pooling() {
  const data = told.pooling;
  const names = ["the map that is pooled", "cells that won, ties marked", "gradient that arrives", "gradient sent on"];
  const shown = names.map((text) => figure(text, "quarter"));
  $("pooling-pictures").append(...shown.map((f) => f.figure));
  view(["filter"], () => {
    const [map, wins, tied, arrives, sent] = [data.input, data.wins, data.tied, data.gradient_output, data.gradient_input]
      .map((values) => values.at(state.filter));
    heat(shown[0].canvas, map, extent(map.data), `map of ${filterName()} in front of the pooling`);
    cells(shown[1].canvas, ...wins.shape,
      (i, j) => (wins.at(i, j) ? (tied.at(i, j) ? "--high" : "--accent") : "--empty"),
      "cells that were the largest of their window",
      (i, j) => (wins.at(i, j) ? "won" : "lost") + (tied.at(i, j) ? ", a tie: the first of the equal cells" : ""));
    const limit = extent(arrives.data);
    heat(shown[2].canvas, arrives, limit, "gradient with respect to the pooled map");
    heat(shown[3].canvas, sent, limit, "gradient with respect to the map: the same numbers at the winners, 0 elsewhere");
  });
}

// 12. From the loss to the filter, node by node.
function chain() {
  const { links } = told.chain;
  $("chain-table").append(table(
    ["operation", "rule for the next", "shape", "length of the gradient", "first values", "uses", "rule"],
    links.map((link) => [link.operation, element("code", { textContent: link.rule || "\u2014" }), link.shape, number(link.norm),
      link.sample.map((value) => signed(value, 3)).join(" "), String(link.paths || ""), link.exact])));
}

let told; // the sections' numbers and arrays
let run; // what was trained
addEventListener("DOMContentLoaded", async () => {
  told = await read($("run"));
  run = told.run;
  theme();
  followPointer();
  sections();
  document.body.dataset.ready = "true";
});
