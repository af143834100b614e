// Where the texts of the second tab come from: pasted lines, or a table of a file.

import { count, find, make, say } from "./dom.js";
import { decode, looksLikeHeader, parse, textColumn } from "./csv.js";

const LARGEST = 50; // MB
const CHOICES = ["column", "column-b", "column-known"];
const NONE = "none";
let served, table = null; // table: { name, text, records, delimiter }

/** Get the choice ready. `changed()` is called whenever other texts are chosen. */
export function start(info, changed) {
  served = info;
  if (served.pair) {
    find("lines-name").textContent = "One pair a line, a tab between its two texts";
    find("lines").placeholder = "Paste two columns of a table, or drop a CSV file anywhere on this page";
  }
  find("lines").addEventListener("input", () => changed());
  find("has-header").addEventListener("change", () => { nameColumns(); changed(); });
  for (const choice of CHOICES) find(choice).addEventListener("change", () => changed());
  find("clear").addEventListener("click", () => { use(null); changed(); find("lines").focus(); });
  find("file").addEventListener("change", async () => {
    const [file] = find("file").files;
    find("file").value = ""; // so that the same file can be chosen again
    if (file) await open(file, changed);
  });
}

/** Read a dropped or chosen file. */
export async function open(file, changed) {
  try {
    if (file.size > LARGEST * 1e6) throw new Error(`${file.name} has more than ${LARGEST} MB. Split it, or use pocketbert predict.`);
    const { text, encoding } = decode(await file.arrayBuffer());
    // A line of a .txt is a text, commas and all, unless there are tabs.
    const parsed = parse(text.replace(/^\ufeff/, ""), file.name.endsWith(".txt") ? ["\t"] : undefined);
    if (!parsed.rows.length) throw new Error(`${file.name} is empty.`);
    use({ name: file.name, encoding, records: parsed.rows, delimiter: parsed.delimiter });
    changed();
    find("run").focus();
  } catch (error) {
    changed(error.message);
  }
}

function use(chosen) {
  table = chosen;
  find("paste").hidden = Boolean(table);
  find("table-choice").hidden = find("clear").hidden = !table;
  if (!table) return;
  find("has-header").checked = looksLikeHeader(table.records[0]);
  nameColumns();
}

const records = () => (find("has-header").checked ? table.records.slice(1) : table.records);

/** Names of the table's columns; made up if the first row has none. */
function header() {
  const width = table.records.reduce((most, row) => Math.max(most, row.length), 0);
  const named = find("has-header").checked ? table.records[0] : [];
  return Array.from({ length: width }, (_, column) => named[column]?.trim() || `column ${column + 1}`);
}

function nameColumns() {
  const names = header(), rows = records();
  const remarks = [table.name, count(rows.length, "row"), table.encoding && `read as ${table.encoding}`];
  find("file-name").textContent = remarks.filter(Boolean).join(" · ");
  say(find("file-name").textContent);
  const text = textColumn(names, rows);
  const known = names.findIndex((_, column) => rows.length && rows.slice(0, 200).every((row) => served.labels.includes(row[column])));
  fill("column", names, text);
  fill("column-b", names, Math.min(text + 1, names.length - 1));
  fill("column-known", [...names, NONE], known < 0 ? names.length : known);
}

function fill(id, names, chosen) {
  find(id).replaceChildren(...names.map((name, value) => make("option", { value, selected: value === chosen }, name)));
}

/** The rows to classify, and the table that they come from: its header and its delimiter. */
export function collect() {
  if (!table) return { header: served.pair ? ["text", "text_b"] : ["text"], delimiter: ",", rows: pasted() };
  const names = header();
  const [text, textB, known] = CHOICES.map((choice) => Number(find(choice).value));
  const rows = records().map((record) => ({
    cells: names.map((_, column) => record[column] ?? ""),
    text: record[text] ?? "",
    textB: served.pair ? (record[textB] ?? "") : null,
    known: known < names.length ? (record[known] ?? "") : null,
  }));
  return { header: names, delimiter: table.delimiter, rows };
}

function pasted() {
  const lines = find("lines").value.split("\n").filter((line) => line.trim());
  return lines.map((line) => {
    const [text, ...rest] = served.pair ? line.split("\t") : [line];
    const textB = served.pair ? rest.join("\t") : null;
    return { cells: served.pair ? [text, textB] : [text], text, textB, known: null };
  });
}
