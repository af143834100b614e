// The answers to many texts: a summary, a table, a CSV.

import { write } from "./csv.js";
import { count, duration, find, make, percent, showBars, showFacts } from "./dom.js";

const STEP = 100; // rows that are shown, and that "Show more" adds
const ORDERS = {
  "as given": null,
  "least sure first": (a, b) => (a.answer?.score ?? 2) - (b.answer?.score ?? 2),
  "other than known first": (a, b) => differs(b) - differs(a),
};
let served, shown = STEP, current = null, drawn = [];

const differs = (row) => Number(Boolean(row.answer) && row.known !== null && row.known !== row.answer.label);

/** Get the summary and the table ready for a bundle. */
export function start(info) {
  served = info;
  find("order").append(...Object.keys(ORDERS).map((name) => make("option", {}, name)));
  find("order").addEventListener("change", () => { shown = STEP; showTable(); });
  find("more").addEventListener("click", () => { shown += STEP; showTable(); });
}

/** Show nothing. */
export function clear() {
  [current, shown] = [null, STEP];
  find("many-title").textContent = "No answers yet";
  find("many-title").classList.remove("known");
  find("many-hint").hidden = false;
  find("progress").hidden = find("download").hidden = find("results").hidden = true;
  showBars(find("many-bars"), []);
  showFacts(find("many-facts"), []);
}

/** Show how far the work is: { rows, milliseconds }. */
export function show(work) {
  current = work;
  const { rows } = work;
  const answered = rows.filter((row) => row.answer);
  const left = rows.filter((row) => !row.answer && !row.problem).length;
  const some = answered.length > 0;
  find("many-title").textContent = left ? `${answered.length.toLocaleString("en")} of ${count(rows.length, "text")}` : count(answered.length, "text");
  find("many-title").classList.toggle("known", some);
  find("many-hint").hidden = some;
  find("download").hidden = !some;
  Object.assign(find("progress"), { max: rows.length || 1, value: rows.length - left, hidden: !left });
  const counts = tally([...served.labels.map((label) => [label, 0]), ...answered.map((row) => [row.answer.label, 1])]);
  const bars = counts.map(([label, number]) => [label, number / answered.length, `${number.toLocaleString("en")} · ${percent(number / answered.length)}`]);
  showBars(find("many-bars"), some ? bars : []);
  showFacts(find("many-facts"), facts(work, answered));
  showTable();
}

/** The summary in a sentence. */
export const spoken = () => [find("many-title"), ...find("many-facts").children].map((part) => part.textContent).join(", ");

function facts({ rows, milliseconds }, answered) {
  const compared = answered.filter((row) => row.known !== null);
  const right = compared.length - compared.filter(differs).length;
  const number = (test, words) => {
    const found = rows.filter(test).length;
    return found && `${found.toLocaleString("en")} ${words}`;
  };
  const models = tally(answered.filter((row) => row.answer.model).map((row) => [row.answer.model, 1]));
  return [
    compared.length && { notable: `${percent(right / compared.length)} have the known label` },
    answered.length && duration(milliseconds),
    answered.length >= STEP && `${count(Math.round((1000 * answered.length) / milliseconds), "text")} a second`,
    ...models.map(([model, texts]) => `${texts.toLocaleString("en")} by the ${model}`),
    number((row) => row.answer?.unsure, "unsure"),
    number((row) => row.answer?.truncated, `cut at ${served.max_length} tokens`),
    number((row) => row.problem, "not classified"),
  ];
}

/** Sums of [name, number] by name, the largest first. */
function tally(pairs) {
  const sums = new Map();
  for (const [name, number] of pairs) sums.set(name, (sums.get(name) ?? 0) + number);
  return [...sums].sort((a, b) => b[1] - a[1]);
}

function showTable() {
  const done = (current?.rows ?? []).filter((row) => row.answer || row.problem);
  const compared = done.some((row) => row.known !== null);
  const order = ORDERS[find("order").value];
  const rows = order ? [...done].sort(order) : done;
  const visible = rows.slice(0, shown);
  find("results").hidden = !done.length;
  find("order").lastElementChild.hidden = !compared;
  find("more").hidden = rows.length <= shown;
  find("more").textContent = `Show more: ${count(rows.length - shown, "text")} left`;
  if (visible.length === drawn.length && visible.every((row, position) => row === drawn[position])) return;
  drawn = visible;
  const names = ["Label", ...(compared ? ["Known"] : []), "Score", ...(served.pair ? ["First text", "Second text"] : ["Text"])];
  find("results-head").replaceChildren(...names.map((name) => make("th", { scope: "col" }, name)));
  find("results-body").replaceChildren(...visible.map((row) => tableRow(row, compared)));
}

function tableRow({ answer, problem, known, text, textB }, compared) {
  const label = make("td", { className: answer ? "label" : "refused" }, answer?.label ?? problem);
  if (answer?.unsure) label.append(make("span", { className: "quiet" }, " unsure"));
  const cells = [label];
  if (compared) cells.push(make("td", { className: answer && known !== answer.label ? "differs" : "same" }, known ?? ""));
  cells.push(make("td", { className: "score" }, answer ? percent(answer.score) : ""));
  for (const one of served.pair ? [text, textB] : [text]) cells.push(make("td", { className: "text" }, one));
  return make("tr", {}, ...cells);
}

/** Save the table with the columns of the answers behind its own. */
export function download({ header, delimiter, rows }) {
  const optional = ["model", "unsure", "truncated"].filter((field) => rows.some((row) => row.answer?.[field] !== undefined));
  const fields = ["label", "score", ...optional];
  if (rows.some((row) => row.problem)) fields.push("problem");
  const names = fields.map((name) => (header.includes(name) ? `predicted_${name}` : name));
  const lines = rows.map((row) => [...row.cells, ...fields.map((field) => (field === "problem" ? row.problem : row.answer?.[field]))]);
  // With a byte order mark spreadsheets read it as UTF-8.
  const blob = new Blob(["\ufeff", write([[...header, ...names], ...lines], delimiter)], { type: "text/csv" });
  const link = make("a", { href: URL.createObjectURL(blob), download: "classified.csv" });
  link.click();
  URL.revokeObjectURL(link.href);
}
