// The tab for many texts: they go to the service in parts, and the answers to results.js.

import { find, say, tell } from "./dom.js";
import * as results from "./results.js";
import { ask } from "./service.js";
import * as table from "./table.js";

const PART = 64; // texts in a request; the service may allow fewer
const MOST_WAITS = 60;
const REDRAW = 150; // milliseconds between two looks at the answers, or more: they may take a tenth of the time
const encoder = new TextEncoder();
let served, domain, work = null, stopping = null;

/** Get the tab ready for a bundle. `domainOf()` gives the fields that name the domain, `show()` makes this the visible tab. */
export function start(info, domainOf, show) {
  [served, domain] = [info, domainOf];
  table.start(info, reset);
  results.start(info);
  find("many-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (stopping) stopping.abort();
    else run();
  });
  find("domain").addEventListener("change", () => reset());
  find("download").addEventListener("click", () => results.download(work));
  acceptDrops(show);
}

function acceptDrops(show) {
  const hasFile = (event) => event.dataTransfer?.types.includes("Files");
  const shade = (visible) => { find("drop").hidden = !visible; };
  addEventListener("dragover", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    shade(true);
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) shade(false); });
  addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    shade(false);
    show();
    table.open(event.dataTransfer.files[0], reset);
  });
}

/** Forget the answers, since other texts were chosen, or could not be read. */
function reset(problem = null) {
  stopping?.abort();
  stopping = work = null;
  find("run").textContent = "Classify all";
  tell(find("many-problem"), problem);
  results.clear();
}

const unanswered = (rows) => rows.filter((row) => !row.answer && !row.problem);

async function run() {
  if (!work || !unanswered(work.rows).length) work = { ...table.collect(), milliseconds: 0 };
  const own = work, signal = (stopping = new AbortController()).signal;
  for (const row of own.rows) if (!row.text.trim() || row.textB?.trim() === "") row.problem = "blank";
  let problem = own.rows.length ? null : "There is no text to classify yet.";
  tell(find("many-problem"), null);
  find("run").textContent = "Stop";
  try {
    await classify(own, signal);
  } catch (error) {
    if (error.name !== "AbortError") problem = error.message;
  }
  if (own !== work) return; // other texts were chosen meanwhile
  stopping = null;
  results.show(own);
  tell(find("many-problem"), problem);
  find("run").textContent = unanswered(own.rows).length ? "Go on" : "Classify all";
  say(problem ?? results.spoken());
}

async function classify(own, signal) {
  let next = 0;
  for (const part of parts(unanswered(own.rows))) {
    const start = performance.now();
    if (start >= next) {
      results.show(own);
      const end = performance.now();
      next = end + Math.max(REDRAW, 10 * (end - start));
    }
    await send(part, own, signal);
  }
}

/** Rows in parts that one request may hold. */
function* parts(rows) {
  const most = Math.min(PART, served.max_texts);
  let part = [], bytes = 0;
  for (const row of rows) {
    const own = encoder.encode(JSON.stringify([row.text, row.textB])).length;
    if (part.length && (part.length === most || bytes + own > 0.9 * served.max_bytes)) {
      yield part;
      [part, bytes] = [[], 0];
    }
    part.push(row);
    bytes += own;
  }
  if (part.length) yield part;
}

/** Classify a part. A text that is refused gets the reason, and the others are sent again without it. */
async function send(part, own, signal) {
  let waits = 0;
  while (part.length) {
    const body = { text: part.map((row) => row.text), ...(served.pair && { text_b: part.map((row) => row.textB) }), ...domain() };
    try {
      const { answer, milliseconds } = await ask("./classify", body, signal);
      part.forEach((row, position) => { row.answer = answer.results[position]; });
      own.milliseconds += milliseconds;
      if (waits) tell(find("many-problem"), null);
      return;
    } catch (error) {
      if (error.busy && waits++ < MOST_WAITS) {
        tell(find("many-problem"), `The service is busy; the next try is in ${error.wait} s.`);
        await pause(1000 * error.wait, signal);
      } else if (error.status === 413 || error.status === 422) {
        part = await blame(part, error.message, own, signal);
      } else throw error;
    }
  }
}

/** Find the text that a refusal is about. The rows that are still to be sent. */
async function blame(part, message, own, signal) {
  const [start, position] = /^text(?:_b)?\[(\d+)\]: /.exec(message) ?? [];
  if (start && position < part.length) part[position].problem = message.slice(start.length);
  else if (part.length === 1) part[0].problem = message;
  else {
    const half = Math.ceil(part.length / 2);
    await send(part.slice(0, half), own, signal);
    return part.slice(half);
  }
  return part.filter((row) => !row.problem);
}

const pause = (milliseconds, signal) => new Promise((resolve, reject) => {
  setTimeout(resolve, milliseconds);
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
});
