"use strict";
// The page: what is known of the job, from the text that stands beside this script.

const job = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page");
const replicaNames = Array.from({ length: job.replicas }, (_, r) => `replica ${r}`);
const MOST_LINES = 8;

function table(parent, heads, rows) {
  const made = element("table");
  const align = (k) => (heads[k].startsWith("#") ? { class: "number" } : {});
  made.append(element("tr", {}, ...heads.map((text, k) => element("th", align(k), text.replace("#", "")))));
  for (const row of rows) made.append(element("tr", {}, ...row.map((text, k) => element("td", align(k), String(text)))));
  parent.append(made);
}

function section(grid, title, note, wide = false) {
  const made = element("section", wide ? { class: "wide" } : {}, element("h2", {}, title));
  made.append(element("p", { class: "note" }, note));
  grid.append(made);
  return made;
}

// Of a moment in the job.
function after(seconds) {
  return duration(Math.round(seconds * 10) / 10);
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleString("sv");
}

function sum(values) {
  return values.reduce((a, b) => a + b, 0);
}

function heading() {
  document.body.append(element("div", { id: "tip" }));
  const outcome = element("span", { class: job.failed ? "outcome bad" : "outcome" }, job.outcome);
  page.append(element("div", { class: "top" }, element("h1", {}, job.program.replace(/.*\//, "")), outcome));
  const until = job.ended === null ? "" : ` to ${clock(job.ended)}`;
  page.append(element("p", { class: "when" }, `${clock(job.started)}${until} · ${job.command}`));
  if (job.finding) page.append(element("p", { class: "finding" }, job.finding));
}

function tiles() {
  const box = element("div", { class: "tiles" });
  const total = sum(job.totals.flat());
  const waiting = job.phases.findIndex((phase) => phase.name === "waiting");
  const facts = [
    [duration(job.seconds), "from start to end"],
    [job.replicas.toLocaleString("en"), job.hosts.length > 1 ? `replicas on ${job.hosts.length} hosts` : job.replicas > 1 ? "replicas" : "replica"],
  ];
  if (job.steps) facts.push([job.steps.toLocaleString("en"), "steps"]);
  if (job.steps && job.stepping > 0) facts.push([number(job.steps / job.stepping), "steps a second"]);
  if (total > 0 && waiting >= 0) facts.push([`${Math.round((100 * sum(job.totals.map((row) => row[waiting]))) / total)} %`, "of the time waiting"]);
  if (job.attempts.length > 1) facts.push([String(job.attempts.length - 1), job.attempts.length > 2 ? "restarts" : "restart"]);
  if (job.checkpoints.length) facts.push([String(job.checkpoints.length), job.checkpoints.length > 1 ? "checkpoints" : "checkpoint"]);
  for (const [value, name] of facts) {
    box.append(element("div", { class: "tile" }, element("div", { class: "value" }, value), element("div", { class: "name" }, name)));
  }
  page.append(box);
}

// Metrics, each beside its validation.
function metrics(grid) {
  const names = Object.keys(job.metrics).filter((name) => !(name.startsWith("val_") && job.metrics[name.slice(4)]));
  for (const name of names) {
    const pairs = [[name, "training", "--own"], [`val_${name}`, "validation", "--wait"]].filter(([key]) => job.metrics[key]);
    const box = section(grid, name[0].toUpperCase() + name.slice(1), "as the program told it: fit after each epoch, log_metrics()");
    const lines = pairs.map(([key, label, own]) => ({ name: label, colour: own, x: job.metrics[key].step, y: job.metrics[key].value }));
    if (names.some((other) => job.metrics[`val_${other}`])) legend(box, lines);
    curves(box, { lines, xLabel: "step", zero: false });
  }
  return names.length;
}

function restarts() {
  return job.attempts.slice(1).map((attempt) => ({ at: attempt.begin, text: `started again after ${duration(attempt.begin)}` }));
}

function timeAxis() {
  const [unit, name] = timeUnit(job.seconds);
  return { xUnit: unit, xLabel: `time since the start (${name})`, marks: restarts() };
}

function rate(grid, wide) {
  if (job.rate.time.length < 2) return;
  const box = section(grid, "Steps a second", "all replicas make a step together", wide);
  curves(box, { width: wide ? WIDE : HALF, lines: [{ name: "steps a second", colour: "--own", x: job.rate.time, y: job.rate.value }], ...timeAxis() });
}

function phases(grid) {
  const used = job.phases.map((phase, k) => ({ ...phase, k })).filter(({ k }) => job.totals.some((row) => row[k] > 0));
  if (!used.length) return;
  const box = section(grid, "Where the time went", "of each replica, from its first step to its last", true);
  const most = Math.max(...job.totals.map(sum));
  const [unit, name] = timeUnit(most);
  legend(box, used);
  stackedBars(box, {
    names: replicaNames,
    parts: used,
    rows: job.totals.map((row) => used.map(({ k }) => row[k] / unit)),
    xLabel: `time (${name})`,
    value: (v) => `${duration(v * unit)} (${Math.round((100 * v * unit) / most)} %)`,
  });
}

function arrivals(grid) {
  const flat = job.heat.cells.flat().filter((v) => v !== null);
  if (job.replicas < 2 || !flat.length) return;
  const sorted = [...flat].sort((a, b) => a - b);
  const most = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.95))] || sorted[sorted.length - 1];
  const unit = most >= 1 ? [1, "s"] : most >= 1e-3 ? [1e-3, "ms"] : [1e-6, "µs"];
  const each = job.heat.each > 1 ? `, mean of ${job.heat.each} steps` : "";
  const box = section(grid, "Who came late", `how long after the first replica each one came to the step${each}`, true);
  const cells = job.heat.cells.map((row) => row.map((v) => (v === null ? null : v / unit[0])));
  heatMap(box, { names: replicaNames, x: job.heat.first, end: job.heat.last, cells, unit: unit[1], most: most / unit[0], xLabel: "step" });
}

// One line a replica while they can be told apart, else the range of all and its middle.
function usage(grid, title, note, key, value, scale) {
  const word = job.replicas > job.processes ? "process" : "replica";
  const known = Object.entries(job.usage[key]).filter(([, series]) => series.time.length > 1);
  if (!known.length) return;
  const box = section(grid, title, note);
  const all = known.map(([name, series], k) => ({ name: `${word} ${name}`, colour: PALETTE[k % PALETTE.length], x: series.time, y: series.value.map((v) => v * scale) }));
  if (all.length <= MOST_LINES) {
    if (all.length > 1) legend(box, all);
    curves(box, { lines: all, value, ...timeAxis() });
    return;
  }
  const x = all.reduce((a, b) => (b.x.length > a.x.length ? b : a)).x;
  const there = x.map((t) => all.map((line) => line.y[nearest(line.x, t)]).sort((a, b) => a - b));
  const band = { name: "all replicas", colour: "--own", x, low: there.map((v) => v[0]), high: there.map((v) => v[v.length - 1]) };
  const middle = { name: "median", colour: "--own", x, y: there.map((v) => v[Math.floor(v.length / 2)]) };
  curves(box, { lines: [middle], bands: [band], value, ...timeAxis() });
}

function tables(grid) {
  if (job.hosts.length) {
    const box = section(grid, "Hosts and threads", "threads: OMP_NUM_THREADS of each process", true);
    table(box, ["host", "processes", "#cores", "#threads each"], job.hosts.map((h) => [h.host, h.processes, h.cores, h.threads]));
  }
  if (job.pipelines.length) {
    const box = section(grid, "Pipeline in force", "optimizer.describe() at the first step", true);
    for (const text of job.pipelines) box.append(element("pre", {}, text));
  }
  if (job.warnings.length) {
    const box = section(grid, "Warnings", "the first of each kind, and how many there were", true);
    table(box, ["#after", "replica", "#times", "warning"], job.warnings.map((w) => [after(w.at), w.replica < 0 ? "launcher" : w.replica, w.count, w.text]));
  }
  if (job.attempts.length > 1) {
    const box = section(grid, "Restarts", "what ended each attempt", true);
    table(box, ["#attempt", "#began after", "how it ended"], job.attempts.map((a, k) => [k + 1, after(a.begin), a.outcome]));
  }
  if (job.checkpoints.length) {
    const box = section(grid, "Checkpoints", "the last ones; from the call to the complete checkpoint", true);
    table(box, ["#after", "#step", "#took", "path"], job.checkpoints.slice(-20).map((c) => [after(c.at), c.step.toLocaleString("en"), duration(c.seconds), c.path]));
  }
}

function draw() {
  heading();
  tiles();
  const grid = element("div", { class: "grid" });
  page.append(grid);
  const shown = metrics(grid);
  rate(grid, shown % 2 === 0);
  phases(grid);
  arrivals(grid);
  usage(grid, "Memory", "resident set of each process (GB); memory that they share counts in each", "rss", (v) => `${number(v)} GB`, 1e-9);
  usage(grid, "Processor", "cores that each process kept busy", "cpu", (v) => `${number(v)} cores`, 1);
  tables(grid);
}

draw();
