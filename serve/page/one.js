// The tab for one text: an answer while you type, and on request what each word does.

import { count, duration, find, make, percent, say, showBars, showFacts, tell } from "./dom.js";
import { ask } from "./service.js";

const PAUSE = 200; // milliseconds without a key until the text is sent
const STRONGEST = 5;
let served, domain, timer, pending, said;

/** Get the tab ready for a bundle. `domainOf()` gives the fields that name the chosen domain. */
export function start(info, domainOf) {
  [served, domain] = [info, domainOf];
  find("one-form").addEventListener("submit", (event) => { event.preventDefault(); classify(true); });
  find("explain").addEventListener("click", () => {
    find("explain").ariaPressed = String(!explaining());
    classify(true);
  });
  for (const field of [find("text"), find("text-b")]) {
    field.addEventListener("input", later);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); classify(true); }
    });
  }
  classify(false); // a browser may have kept the text of an earlier visit
}

const explaining = () => find("explain").ariaPressed === "true";

/** Classify again soon, since something has changed. */
export function later() {
  clearTimeout(timer);
  timer = setTimeout(() => classify(false), PAUSE);
}

async function classify(asked) {
  clearTimeout(timer);
  pending?.abort();
  const own = pending = new AbortController();
  const body = { text: find("text").value, ...(served.pair && { text_b: find("text-b").value }), ...domain() };
  if (!body.text.trim() || (served.pair && !body.text_b.trim())) {
    const missing = body.text.trim() ? "Type the second text too." : "The answer comes while you type.";
    return clear(asked ? "Type a text first." : missing);
  }
  busy(true);
  try {
    const { answer, ...times } = await ask("./classify", { ...body, scores: true }, own.signal);
    showAnswer(answer, times, asked);
    await showWords(body, answer, own.signal);
  } catch (error) {
    if (error.name === "AbortError") return; // a later text is on its way
    clear("");
    tell(find("one-problem"), error.message);
  }
  if (own === pending) busy(false);
}

const busy = (value) => { find("one-label").parentElement.ariaBusy = String(value); };

function clear(hint) {
  busy(false);
  find("one-label").textContent = "No answer yet";
  find("one-label").classList.remove("known");
  tell(find("one-hint"), hint);
  tell(find("one-problem"), null);
  showBars(find("one-bars"), served.labels.map((label) => [label, 0, ""]));
  showFacts(find("one-facts"), []);
  find("reading").hidden = true;
  said = null;
}

function showAnswer(answer, { milliseconds, inService }, asked) {
  find("one-label").textContent = answer.label;
  find("one-label").classList.add("known");
  tell(find("one-hint"), null);
  tell(find("one-problem"), null);
  showBars(find("one-bars"), Object.entries(answer.scores));
  showFacts(find("one-facts"), [
    answer.unsure && { notable: "unsure" },
    answer.truncated && { notable: `cut: only the first ${served.max_length} tokens were read` },
    answer.model && `answered by the ${answer.model}`,
    inService !== null && `${duration(inService)} in the service`,
    `${duration(milliseconds)} until here`,
  ]);
  // Each key brings an answer. It is read out only if it is a new one or was asked for.
  if (asked || answer.label !== said) say(`${answer.label}, ${percent(answer.score)}${answer.truncated ? ", the text was cut" : ""}`);
  said = answer.label;
}

async function showWords(body, answer, signal) {
  const reading = find("reading");
  if (!explaining()) { reading.hidden = true; return; }
  try {
    const { answer: explained } = await ask("./explain", body, signal);
    const words = [...explained.words, ...(explained.words_b ?? [])];
    const scale = Math.max(1, ...words.map((word) => Math.abs(word.weight ?? 0)));
    const texts = [[body.text, explained.words], ...(served.pair ? [[body.text_b, explained.words_b]] : [])];
    find("reading-title").replaceChildren("What each word does to ", make("em", {}, explained.label));
    find("reading-text").replaceChildren(...texts.map(([text, own]) => coloured(text, own, scale)));
    find("reading-strongest").replaceChildren(
      strongest("For it", "for", words.filter((word) => word.weight > 0)),
      strongest("Against it", "against", words.filter((word) => word.weight < 0)),
    );
    const notes = [
      "By how much the log-odds fall when the word is left out.",
      words.some((word) => word.weight === undefined) && "The model does not read the words in grey: the text is cut before them.",
      answer.model === "teacher" && `The teacher answered, but what is explained is the student, which says ${explained.label}.`,
    ];
    find("reading-note").textContent = notes.filter(Boolean).join(" ");
    tell(find("reading-problem"), null);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    for (const part of ["text", "strongest", "note"]) find(`reading-${part}`).replaceChildren();
    tell(find("reading-problem"), error.message);
  }
  reading.hidden = false;
}

/** A text as a paragraph whose words have the colour of their weight. */
function coloured(text, words, scale) {
  const paragraph = make("p", { className: "words" });
  let at = 0;
  for (const { word, weight } of words) {
    const start = text.indexOf(word, at);
    paragraph.append(text.slice(at, start));
    const mark = make("span", { className: weight === undefined ? "unread" : weight < 0 ? "against" : "for" }, word);
    mark.title = weight === undefined ? "not read" : signed(weight);
    mark.style.setProperty("--weight", Math.abs(weight ?? 0) / scale);
    paragraph.append(mark);
    at = start + word.length;
  }
  paragraph.append(text.slice(at));
  return paragraph;
}

function strongest(title, kind, words) {
  const order = words.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  const rows = order.slice(0, STRONGEST).map(({ word, weight }) => make("li", {}, make("span", { className: "name" }, word), " ", make("span", { className: "value" }, signed(weight))));
  const heading = make("h3", { className: kind }, title, make("span", { className: "quiet" }, ` ${count(words.length, "word")}`));
  return make("div", {}, heading, make("ol", {}, ...rows));
}

const signed = (weight) => `${weight < 0 ? "−" : "+"}${Math.abs(weight).toFixed(2)}`;
