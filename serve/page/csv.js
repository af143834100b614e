// Tables as text: RFC 4180 with any of four delimiters.

const DELIMITERS = [",", ";", "\t", "|"];
const BYTE_ORDER_MARKS = [["UTF-8", [0xef, 0xbb, 0xbf]], ["UTF-16LE", [0xff, 0xfe]], ["UTF-16BE", [0xfe, 0xff]]];

/** Bytes as text, and the name of the encoding if it is not UTF-8. Throws an error if they are not what their byte-order mark says. */
export function decode(bytes) {
  const start = new Uint8Array(bytes, 0, Math.min(3, bytes.byteLength));
  const [marked] = BYTE_ORDER_MARKS.find(([, mark]) => mark.every((byte, place) => start[place] === byte)) ?? [];
  const encoding = marked ?? "UTF-8";
  try {
    return { text: new TextDecoder(encoding, { fatal: true }).decode(bytes), encoding: encoding === "UTF-8" ? null : encoding };
  } catch {
    if (marked) throw new Error(`The file begins as ${marked} and has bytes that are not. Save it as UTF-8.`);
    return { text: new TextDecoder("windows-1252").decode(bytes), encoding: "Windows-1252" };
  }
}

/** The rows of a table, each a list of cells, and its delimiter. Blank lines are left out. */
export function parse(text, delimiters = DELIMITERS) {
  const delimiter = delimiterOf(text, delimiters);
  const plain = new RegExp(`[^${delimiter ?? ""}\r\n]*`, "y"); // what stands in a cell outside of quotes
  const rows = [];
  let row = [], at = 0;
  while (at < text.length) {
    let cell = "";
    if (text[at] === '"') [cell, at] = quotedCell(text, at + 1);
    plain.lastIndex = at;
    cell += plain.exec(text)[0];
    at = plain.lastIndex;
    row.push(cell);
    if (text[at] === delimiter && at + 1 < text.length) {
      at++;
      continue;
    }
    if (text[at] === delimiter) row.push("");
    at += text.startsWith("\r\n", at) ? 2 : 1;
    if (row.length > 1 || row[0].trim()) rows.push(row);
    row = [];
  }
  return { rows, delimiter: delimiter ?? "," };
}

/** A cell in quotes, from behind the first one, and the place behind the last one. A quote in it is written twice. */
function quotedCell(text, start) {
  let cell = "", at = start;
  for (;;) {
    const end = text.indexOf('"', at);
    if (end < 0) return [cell + text.slice(at), text.length];
    cell += text.slice(at, end);
    if (text[end + 1] !== '"') return [cell, end + 1];
    cell += '"';
    at = end + 2;
  }
}

/** Rows as text. Every line ends, and only cells that need it are quoted. */
export function write(rows, delimiter = ",") {
  const quote = (value) => {
    const cell = String(value ?? "");
    return cell.includes(delimiter) || /["\r\n]/.test(cell) || /^\s|\s$/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
  };
  return rows.map((row) => row.map(quote).join(delimiter) + "\r\n").join("");
}

/** Whether the first row seems to name columns: short words that differ, none of them a number. */
export function looksLikeHeader(row) {
  const names = row.map((cell) => cell.trim());
  return new Set(names).size === names.length && names.every((name) => name && name.length <= 40 && Number.isNaN(Number(name)));
}

/** The column that probably holds texts: the one named so, or the one with the longest cells. */
export function textColumn(header, rows) {
  const named = header.findIndex((name) => /^(text|sentence|review|content|body|message|comment|title|premise)(_?[a1])?$/i.test(name.trim()));
  if (named >= 0) return named;
  const lengths = header.map((_, column) => rows.slice(0, 200).reduce((sum, row) => sum + (row[column] ?? "").length, 0));
  return lengths.indexOf(Math.max(...lengths));
}

/** The delimiter that is most often in the first line, or null: then a line is one cell, with all its commas. */
function delimiterOf(text, delimiters) {
  const counts = new Map(delimiters.map((delimiter) => [delimiter, 0]));
  let quoted = false;
  for (const character of text.slice(0, 20_000)) {
    if (character === '"') quoted = !quoted;
    else if (!quoted && character === "\n") break;
    else if (!quoted && counts.has(character)) counts.set(character, counts.get(character) + 1);
  }
  const most = delimiters.reduce((best, one) => (counts.get(one) > counts.get(best) ? one : best));
  return counts.get(most) ? most : null;
}
