"use strict";
// Charts: curves, stacked bars and a heat map, drawn by hand. All text goes in as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const [WIDE, HALF] = [1124, 544];
const PALETTE = ["--own", "--wait", "--sum", "--save", "--input", "--wire", "--bad", "--other"];

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  for (const child of children) made.append(child);
  return made;
}

function shape(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// Colours stand in attributes: the page's security policy forbids inline style.
function colour(name) {
  return name.startsWith("--") ? `var(${name})` : name;
}

// -- numbers
function ticks(low, high, count) {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => span / s <= count) || 10 * power;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e15 || size < 1e-4) return value.toExponential(1);
  if (size >= 1e4) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(size >= 100 ? 4 : 3)));
}

function timeUnit(seconds) {
  if (seconds >= 2 * 86400) return [86400, "days"];
  if (seconds >= 2 * 3600) return [3600, "h"];
  if (seconds >= 300) return [60, "min"];
  return [1, "s"];
}

function duration(seconds) {
  if (seconds >= 3600) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  if (seconds >= 100) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds === 0) return "0 s";
  if (seconds >= 1) return `${number(seconds)} s`;
  return seconds >= 1e-3 ? `${number(seconds * 1e3)} ms` : `${number(seconds * 1e6)} µs`;
}

// -- what a pointer shows
function hover(target, show, leave) {
  const tip = document.getElementById("tip");
  target.addEventListener("pointermove", (event) => {
    const box = target.getBoundingClientRect();
    const text = show(event.clientX - box.left, event.clientY - box.top);
    tip.textContent = text || "";
    tip.style.visibility = text ? "visible" : "hidden";
    const right = event.clientX + 16 + tip.offsetWidth > window.innerWidth;
    tip.style.left = `${right ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16}px`;
    tip.style.top = `${Math.max(4, event.clientY - tip.offsetHeight - 8)}px`;
  });
  target.addEventListener("pointerleave", () => {
    tip.style.visibility = "hidden";
    if (leave) leave();
  });
}

// -- axes
function frame(parent, width, height, left) {
  const svg = shape(parent, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
  return { svg, left, right: width - 26, top: 8, bottom: height - 36 };
}

function xAxis(box, low, high, label, unit) {
  const scale = (value) => box.left + ((value - low) / (high - low || 1)) * (box.right - box.left);
  for (const tick of ticks(low / unit, high / unit, Math.floor((box.right - box.left) / 90))) {
    const x = scale(tick * unit);
    shape(box.svg, "line", { x1: x, x2: x, y1: box.bottom, y2: box.bottom + 4, class: "axis" });
    shape(box.svg, "text", { x, y: box.bottom + 16, "text-anchor": "middle" }, number(tick));
  }
  shape(box.svg, "path", { d: `M${box.left} ${box.bottom}H${box.right}`, class: "axis" });
  shape(box.svg, "text", { x: box.right, y: box.bottom + 31, "text-anchor": "end" }, label);
  return scale;
}

function yAxis(box, low, high) {
  const scale = (value) => box.bottom - ((value - low) / (high - low || 1)) * (box.bottom - box.top);
  for (const tick of ticks(low, high, 5)) {
    const y = scale(tick);
    shape(box.svg, "line", { x1: box.left, x2: box.right, y1: y, y2: y, class: "grid-line" });
    shape(box.svg, "text", { x: box.left - 6, y: y + 4, "text-anchor": "end" }, number(tick));
  }
  return scale;
}

function nearest(list, value) {
  let best = 0;
  for (let k = 1; k < list.length; k++) if (Math.abs(list[k] - value) < Math.abs(list[best] - value)) best = k;
  return best;
}

// Curves over x. `curves`: [{name, colour, x, y}], or a band {name, colour, x, low, high}.
function curves(parent, { lines, bands = [], xLabel, xUnit = 1, zero = true, marks = [], value = number, width = HALF, height = 220 }) {
  const every = [...lines.map((l) => [l.x, l.y]), ...bands.flatMap((b) => [[b.x, b.low], [b.x, b.high]])];
  const xs = every.flatMap(([x]) => x);
  const ys = every.flatMap(([, y]) => y).filter((v) => v !== null && Number.isFinite(v));
  const [xLow, xHigh] = [xs.reduce((a, b) => Math.min(a, b), Infinity), xs.reduce((a, b) => Math.max(a, b), -Infinity)];
  let [yLow, yHigh] = [ys.reduce((a, b) => Math.min(a, b), Infinity), ys.reduce((a, b) => Math.max(a, b), -Infinity)];
  if (!ys.length) [yLow, yHigh] = [0, 1];
  if (zero) yLow = Math.min(0, yLow);
  if (yHigh === yLow) yHigh = yLow + (Math.abs(yLow) || 1);
  const room = (yHigh - yLow) * 0.06;
  const box = frame(parent, width, height, 56);
  const y = yAxis(box, zero && yLow === 0 ? 0 : yLow - room, yHigh + room);
  const x = xAxis(box, xLow, xHigh, xLabel, xUnit);
  for (const mark of marks) {
    if (mark.at >= xLow && mark.at <= xHigh) {
      const line = shape(box.svg, "line", { x1: x(mark.at), x2: x(mark.at), y1: box.top, y2: box.bottom, class: "mark" });
      shape(line, "title", {}, mark.text);
    }
  }
  for (const band of bands) {
    const up = band.x.map((v, k) => `${x(v).toFixed(1)} ${y(band.high[k]).toFixed(1)}`);
    const down = band.x.map((v, k) => `${x(v).toFixed(1)} ${y(band.low[k]).toFixed(1)}`).reverse();
    shape(box.svg, "path", { d: `M${[...up, ...down].join("L")}Z`, class: "band", fill: colour(band.colour) });
  }
  for (const line of lines) {
    let path = "", pen = "M";
    line.x.forEach((v, k) => {
      const known = line.y[k] !== null && Number.isFinite(line.y[k]);
      // A job that was started again begins a new piece.
      if (k > 0 && (v < line.x[k - 1] || marks.some((mark) => line.x[k - 1] < mark.at && mark.at < v))) pen = "M";
      if (known) path += `${pen}${x(v).toFixed(1)} ${y(line.y[k]).toFixed(1)}`;
      pen = known ? "L" : "M";
    });
    shape(box.svg, "path", { d: path, class: "curve", stroke: colour(line.colour) });
    if (line.x.length === 1) shape(box.svg, "circle", { cx: x(line.x[0]), cy: y(line.y[0] ?? 0), r: 3, fill: colour(line.colour) });
  }
  const cursor = shape(box.svg, "line", { y1: box.top, y2: box.bottom, class: "cursor" });
  hover(box.svg, (px) => {
    const at = xLow + ((px * width) / box.svg.clientWidth - box.left) / (box.right - box.left) * (xHigh - xLow);
    if (at < xLow - (xHigh - xLow) * 0.02) return null;
    const longest = [...lines, ...bands].reduce((a, b) => (b.x.length > a.x.length ? b : a));
    const here = longest.x[nearest(longest.x, at)];
    cursor.setAttribute("x1", x(here));
    cursor.setAttribute("x2", x(here));
    cursor.style.visibility = "visible";
    const texts = lines.map((l) => [l, l.y[nearest(l.x, here)]]).filter(([, v]) => v !== null).map(([l, v]) => `${l.name}: ${value(v)}`);
    const ranges = bands.map((b) => `${b.name}: ${value(b.low[nearest(b.x, here)])} to ${value(b.high[nearest(b.x, here)])}`);
    return [`${xLabel.replace(/ \(.*\)/, "")} ${number(here / xUnit)}`, ...texts, ...ranges].join("\n");
  }, () => (cursor.style.visibility = "hidden"));
}

function legend(parent, entries) {
  const box = element("div", { class: "legend" });
  for (const { name, colour: own } of entries) {
    const swatch = element("i");
    swatch.style.background = colour(own);
    box.append(element("span", {}, swatch, name));
  }
  parent.append(box);
}

// Horizontal bars, a row each: `rows` [[value per part]], in units of the x axis.
function stackedBars(parent, { names, parts, rows, xLabel, value, width = WIDE }) {
  const row = Math.max(2, Math.min(22, Math.floor(520 / rows.length)));
  const box = frame(parent, width, rows.length * row + 48, 84);
  const most = Math.max(...rows.map((values) => values.reduce((a, b) => a + b, 0)), 1e-12);
  const x = (v) => box.left + (v / most) * (box.right - box.left);
  for (const tick of ticks(0, most, Math.floor((box.right - box.left) / 90))) {
    shape(box.svg, "line", { x1: x(tick), x2: x(tick), y1: box.top, y2: box.bottom, class: "grid-line" });
  }
  const every = Math.ceil(14 / row);
  rows.forEach((values, k) => {
    let begin = 0;
    const y = box.top + k * row;
    values.forEach((v, part) => {
      if (v > 0) shape(box.svg, "rect", { x: x(begin), y, width: Math.max(0, x(begin + v) - x(begin)), height: row > 6 ? row - 4 : row, fill: colour(parts[part].colour) });
      begin += v;
    });
    if (k % every === 0) shape(box.svg, "text", { x: box.left - 8, y: y + Math.min(row, 14) / 2 + 5, "text-anchor": "end" }, names[k]);
  });
  xAxis(box, 0, most, xLabel, 1);
  hover(box.svg, (_px, py) => {
    const k = Math.floor((py - box.top) / row);
    if (k < 0 || k >= rows.length) return null;
    return [names[k], ...rows[k].map((v, part) => [parts[part].name, v]).filter(([, v]) => v > 0).map(([name, v]) => `${name}: ${value(v)}`)].join("\n");
  });
}

// -- the heat map
const HEAT_LIGHT = [[247, 246, 243], [253, 212, 158], [252, 141, 89], [215, 48, 31], [127, 0, 0]];
const HEAT_DARK = [[32, 36, 42], [92, 52, 38], [176, 74, 44], [240, 138, 78], [255, 226, 180]];

function heatColour(share, dark) {
  const stops = dark ? HEAT_DARK : HEAT_LIGHT;
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const k = Math.min(Math.floor(at), stops.length - 2);
  return stops[k].map((v, c) => Math.round(v + (stops[k + 1][c] - v) * (at - k)));
}

// `cells`: [row][column] numbers or null; columns begin at `x`.
function heatMap(parent, { names, x, end, cells, unit, most, xLabel }) {
  const row = Math.max(1, Math.min(22, Math.floor(480 / cells.length)));
  const [width, left, height] = [WIDE, 84, cells.length * row];
  const holder = element("div", { class: "heat" });
  const scale = element("div", { class: "scale" }, "0");
  const bar = element("canvas", { width: 160, height: 10 });
  scale.append(bar, `${number(most)} ${unit} and more after the first`);
  parent.append(scale, holder);
  const box = { ...frame(holder, width, height + 40, left), top: 0, bottom: height + 2 };
  const image = shape(box.svg, "image", { x: left, y: 0, width: box.right - left, height, preserveAspectRatio: "none" });
  image.style.imageRendering = "pixelated";
  const canvas = element("canvas", { width: x.length, height: cells.length });
  const paint = () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(x.length, cells.length);
    cells.forEach((values, r) => values.forEach((v, c) => {
      const rgb = v === null ? null : heatColour(v / (most || 1), dark);
      pixels.data.set(rgb ? [...rgb, 255] : [0, 0, 0, 0], 4 * (r * x.length + c));
    }));
    context.putImageData(pixels, 0, 0);
    image.setAttribute("href", canvas.toDataURL());
    const ramp = bar.getContext("2d");
    for (let k = 0; k < 160; k++) {
      ramp.fillStyle = `rgb(${heatColour(k / 159, dark).join(",")})`;
      ramp.fillRect(k, 0, 1, 10);
    }
  };
  paint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  const every = Math.ceil(14 / row);
  names.forEach((name, k) => {
    if (k % every === 0) shape(box.svg, "text", { x: left - 8, y: k * row + Math.min(row, 16) / 2 + 5, "text-anchor": "end" }, name);
  });
  xAxis(box, x[0], end, xLabel, 1);
  hover(box.svg, (px, py) => {
    const share = ((px * width) / box.svg.clientWidth - left) / (box.right - left);
    const [r, c] = [Math.floor(py / row), Math.floor(share * x.length)];
    if (share < 0 || share >= 1 || r < 0 || r >= cells.length) return null;
    const last = (c + 1 < x.length ? x[c + 1] : end + 1) - 1;
    const steps = last > x[c] ? `steps ${x[c]} to ${last}` : `step ${x[c]}`;
    return `${names[r]}, ${steps}\n${cells[r][c] === null ? "not known" : `${number(cells[r][c])} ${unit} after the first`}`;
  });
}
