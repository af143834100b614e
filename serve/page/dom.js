// Small helpers to build the page. Texts and labels become text nodes, never markup.

export const find = (id) => document.getElementById(id);

/** An element with properties and children. A string among the children becomes a text node. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Show an element with a message, or hide it if there is none. */
export function tell(element, message) {
  element.textContent = message ?? "";
  element.hidden = !message;
}

let saying;

/** Let a screen reader say something, once the user pauses. */
export function say(message) {
  clearTimeout(saying);
  saying = setTimeout(() => { find("say").textContent = message; }, 400);
}

export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share < 1 && share > 0.999) return "> 99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}

export const duration = (milliseconds) =>
  milliseconds < 1000 ? `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;

/** A list of bars, one for each [name, share, words in place of the share]. The first is emphasised. */
export function showBars(list, rows, most = 6) {
  list.replaceChildren(...rows.slice(0, most).map(([name, share, words]) => {
    const fill = make("span", { className: "fill" });
    fill.style.setProperty("--share", share);
    const track = make("span", { className: "track", ariaHidden: "true" }, fill);
    return make("li", {}, make("span", { className: "name" }, name), make("span", { className: "value" }, words ?? percent(share)), track);
  }));
  if (rows.length > most) list.append(make("li", { className: "quiet" }, `and ${count(rows.length - most, "more label")}`));
}

/** The facts of an answer as a row of short remarks, a { notable } one in bold; those that are empty are left out. */
export function showFacts(paragraph, facts) {
  const spans = facts.filter(Boolean).map((fact) => make("span", { className: fact.notable ? "notable" : "" }, fact.notable ?? fact));
  paragraph.replaceChildren(...spans);
}
