const report = JSON.parse(document.getElementById("values").textContent);
const SHADES = { bert: 3, teacher: 2, student: 2, rival: 8 };
const counted = {};
for (const engine of report.engines) {
  const number = (counted[engine.family] = (counted[engine.family] ?? -1) + 1);
  const kept = engine.family === "student" ? Number(!engine.student) : number % SHADES[engine.family];
  engine.colour = `${engine.family}-${kept}`;
  engine.shown = true;
}
const state = { input: report.headline };
const cellOf = (engine, batch, input = state.input) => engine.cells.find((one) => one.input === input && one.batch === batch);
const shown = () => report.engines.filter((one) => one.shown);
const seriesOf = (engine, more) => ({ family: engine.family, colour: engine.colour, strong: engine.student, name: engine.title, ...more });
const titleOf = (input) => report.inputs.find((one) => one.name === input).title;

/** A check box, or a choice of several options ([[value, title]]), that draws again. */
function checkBox(title, checked, change, before = []) {
  const box = element("input", { type: "checkbox", checked });
  box.onchange = () => change(box.checked);
  return element("label", {}, box, ...before, title);
}
function choice(title, options, value, change) {
  const list = element("select", {}, ...options.map(([key, text]) => element("option", { value: key }, text)));
  list.value = value;
  list.onchange = () => change(list.value);
  return element("label", {}, title, list);
}

/** The mark of a series, for a legend. */
const keyOf = (family, colour) => paint(shape("svg", { width: 14, height: 14, "aria-hidden": "true" }, symbol(family, 7, 7, 5)), colour);

/** A plot: its controls, the drawing, which takes the arrow keys, and the line that says what is pointed at. */
function makePlot(id, title, controls, draw) {
  const host = document.getElementById(id);
  if (!report.inputs.length || host.closest("section").hidden) return () => {}; // nothing was timed, or no load was given
  const place = element("div", { className: "chart", tabIndex: 0 });
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", `Plot: ${title}. The arrow keys go through its points; the table below has all figures.`);
  place.readout = element("p", { className: "readout" }, "Point at a mark, or press the arrow keys in the plot.");
  place.readout.setAttribute("role", "status");
  const again = () => draw(place);
  host.append(element("div", { className: "controls" }, ...controls(again)), place, place.readout);
  let width = 0;
  new ResizeObserver(() => {
    if (place.clientWidth !== width) again();
    width = place.clientWidth;
  }).observe(place);
  return again;
}

const plots = [];

const accuracy = { log: true };
plots.push(makePlot("accuracy", "accuracy against latency", (again) => [checkBox("log axis", true, (on) => { accuracy.log = on; again(); })], (place) => {
  const timed = shown().map((engine) => ({ engine, cell: cellOf(engine, 1) })).filter(({ cell }) => cell);
  const said = ({ engine, cell }) =>
    `${engine.title}: ${engine.said.accuracy}${engine.accuracy === null ? "" : " %"}, p50 ${figure(cell.quantiles.p50)} ms, ${cell.speedUp === "–" ? "" : `${cell.speedUp} as fast as BERT, `}share of the gap ${engine.said.share}`;
  const known = timed.filter(({ engine }) => engine.accuracy !== null);
  drawPoints(place, {
    x: { title: `p50 at batch 1, ms: ${titleOf(state.input)}`, log: accuracy.log, zero: true },
    y: { title: `accuracy on ${report.split}, %` },
    series: known.map((one) => seriesOf(one.engine, { points: [{ x: one.cell.quantiles.p50, y: one.engine.accuracy, said: said(one) }] })),
    uprights: timed.filter(({ engine }) => engine.accuracy === null).map((one) => ({ x: one.cell.quantiles.p50, name: one.engine.title, colour: one.engine.colour, said: said(one) })),
    front: true,
    labels: true,
  });
}));

const percentiles = { log: true };
plots.push(makePlot("percentiles", "latency percentiles", (again) => [checkBox("log axis", true, (on) => { percentiles.log = on; again(); })], (place) => {
  const series = shown().flatMap((engine) => {
    const cell = cellOf(engine, 1);
    if (!cell) return [];
    const points = report.steps.filter((step) => cell.quantiles[step] !== null).map((step) => ({ x: step, y: cell.quantiles[step], said: `${engine.title}: ${step} ${figure(cell.quantiles[step])} ms, of ${cell.samples.toLocaleString("en")} samples` }));
    return [seriesOf(engine, { joined: true, points })];
  });
  drawPoints(place, { x: { title: `percentile at batch 1: ${titleOf(state.input)}`, names: report.steps }, y: { title: "ms", log: percentiles.log, zero: true }, series });
}));

const lengths = { log: true, batch: "1" };
const batches = [...new Set([1, report.batch])].map((size) => [String(size), `batch ${size}`]);
plots.push(makePlot("lengths", "latency against length and batch", (again) => [
  choice("Batch", [...batches, ["all", "both"]], "1", (value) => { lengths.batch = value; again(); }),
  checkBox("log axes", true, (on) => { lengths.log = on; again(); }),
], (place) => {
  const sizes = lengths.batch === "all" ? batches.map(([size]) => Number(size)) : [Number(lengths.batch)];
  const series = shown().flatMap((engine) => sizes.map((size) => {
    const cells = engine.cells.filter((cell) => cell.batch === size && cell.textMs !== null).sort((a, b) => a.tokens - b.tokens);
    const points = cells.map((cell) => ({ x: cell.tokens, y: cell.textMs, ring: cell.length === null, said: `${engine.title}: ${figure(cell.textMs)} ms for a text of ${cell.length === null ? "the task's own, " : ""}${cell.tokens} tokens at batch ${size}` }));
    return seriesOf(engine, { name: `${engine.title} ${size}`, joined: true, dashed: size !== 1, points });
  }));
  drawPoints(place, { x: { title: "tokens of a text", log: lengths.log, zero: true }, y: { title: `ms for a text${lengths.batch === "all" ? ` (dashed: batch ${report.batch})` : ""}`, log: lengths.log, zero: true }, series });
}));

const MEASURES = { second: `texts per ${report.unit}-second`, memory: "texts/s per GB of memory", hours: `${report.unit}-hours for 1e9 texts` };
const cost = { log: true, measure: "second" };
plots.push(makePlot("cost", "cost", (again) => [
  choice("Show", Object.entries(MEASURES), "second", (value) => { cost.measure = value; again(); }),
  checkBox("log axis", true, (on) => { cost.log = on; again(); }),
], (place) => {
  const bars = shown().flatMap((engine) => {
    const cell = cellOf(engine, report.batch);
    if (!cell) return [];
    const said = `${engine.title}: ${Object.entries(MEASURES).map(([key, text]) => `${figure(cell.cost[key])} ${text}`).join(", ")}`;
    return [seriesOf(engine, { value: cell.cost[cost.measure], said })];
  });
  drawBars(place, { title: `${MEASURES[cost.measure]}: ${titleOf(state.input)}, batch ${report.batch}`, log: cost.log, bars });
}));

const load = { log: true, step: "p99" };
const loadColour = (number) => `rival-${number % SHADES.rival}`;
plots.push(makePlot("load", "throughput against latency under load", (again) => [
  choice("Latency", report.loadSteps.map((step) => [step, step]), "p99", (value) => { load.step = value; again(); }),
  checkBox("log axis", true, (on) => { load.log = on; again(); }),
  ...report.loads.map((one, number) => element("span", { className: "key" }, keyOf("load", loadColour(number)), one.title)),
], (place) => {
  const series = report.loads.map((one, number) => ({ family: "load", colour: loadColour(number), name: one.title, joined: true,
    points: one.stages.filter((stage) => stage.quantiles[load.step] !== null).map((stage) => ({ x: stage.perSecond, y: stage.quantiles[load.step],
      said: `${one.title}, ${stage.title}: ${figure(stage.perSecond)} answers/s, ${report.loadSteps.map((step) => `${step} ${figure(stage.quantiles[step])} ms`).join(", ")}, ${stage.errors} errors of ${stage.requests.toLocaleString("en")} requests` })) }));
  drawPoints(place, { x: { title: "answers/s", zero: true }, y: { title: `${load.step}, ms`, log: load.log, zero: true }, series });
}));

/** The choices that all plots share: the texts, and the engines, which the plots have no other legend for. */
function makeChoices() {
  const form = document.getElementById("choices");
  const drawAll = () => plots.forEach((draw) => draw());
  const engines = element("fieldset", {}, element("legend", {}, "Engines"));
  const show = (wanted) => {
    report.engines.forEach((engine) => { engine.shown = wanted(engine); });
    engines.querySelectorAll("input").forEach((box, number) => { box.checked = report.engines[number].shown; });
    drawAll();
  };
  for (const engine of report.engines) {
    engines.append(checkBox(engine.title, true, (on) => { engine.shown = on; drawAll(); }, [keyOf(engine.family, engine.colour)]));
  }
  const all = element("button", { type: "button", onclick: () => show(() => true) }, "All");
  const few = element("button", { type: "button", onclick: () => show((one) => one.student || one.family === "teacher") }, "Student and teacher");
  const texts = choice("Texts", report.inputs.map((one) => [one.name, one.name]), state.input, (value) => { state.input = value; drawAll(); });
  const narrow = matchMedia("(max-width: 60rem)").matches;
  const inside = element("details", { open: !narrow }, element("summary", {}, "What the plots show"), texts, engines, element("div", { className: "controls" }, all, few));
  form.append(inside);
  form.onsubmit = (event) => event.preventDefault();
}

if (report.inputs.length) makeChoices();
