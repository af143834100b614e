"use strict";

/** An element of a drawing. */
function shape(name, attributes, ...inside) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

/** An element of the page. Strings become text, never markup. */
function element(name, properties, ...inside) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...inside);
  return made;
}

/** Three significant digits, without an exponent; a dash for what was not measured. */
function figure(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(value >= 10 ? 1 : value >= 1 ? 2 : 3);
}

/** A figure on an axis, without digits that say nothing. */
function tick(value) {
  return value >= 1e5 ? `${Number((value / 1e6).toPrecision(3))} M` : Number(value.toPrecision(6)).toLocaleString("en", { maximumFractionDigits: 6 });
}

/**
 * From values to pixels, with the values to write at the axis. `from` and `to` are pixels; `zero`: a linear axis starts at 0;
 * `wide`: a logarithmic axis has room for labels at its ends.
 */
function makeScale(values, { log = false, zero = false, wide = false, from, to, most = 7 }) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  let ticks = [];
  if (log) {
    const margin = wide ? Math.max((high / low) ** 0.14, 1.3) : 1.3;
    [low, high] = [low / margin, high * 1.3];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1)
      for (const step of Math.log10(high / low) > 2.5 ? [1] : [1, 2, 5]) ticks.push(step * 10 ** power);
  } else {
    const margin = (high - low || Math.abs(high) || 1) * 0.08;
    [low, high] = [zero ? 0 : low - margin, high + margin];
    const size = 10 ** Math.floor(Math.log10((high - low) / most));
    const step = [1, 2, 5, 10].map((one) => one * size).find((one) => (high - low) / one <= most);
    for (let at = Math.ceil(low / step); at * step <= high; at += 1) ticks.push(at * step);
  }
  ticks = ticks.filter((one) => one >= low && one <= high);
  const place = (value) => (log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
  return { at: (value) => from + place(value) * (to - from), ticks, text: tick };
}

/** Names in the place of numbers, at equal distances. */
function makeSteps(names, { from, to }) {
  const gap = (to - from) / Math.max(names.length - 1, 1);
  return { at: (name) => from + names.indexOf(name) * gap, ticks: names, text: (name) => name };
}

/** A mark with a form for each family, so that colour is not all that tells them apart. */
function symbol(family, x, y, size, ring = false) {
  const attributes = { class: ring ? "mark ring" : "mark" };
  if (family === "student" || family === "load") return shape("circle", { ...attributes, cx: x, cy: y, r: size });
  if (family === "teacher") return shape("rect", { ...attributes, x: x - size * 0.9, y: y - size * 0.9, width: size * 1.8, height: size * 1.8 });
  const corners = family === "bert" ? [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]] : [[0, -1.15], [1.15, 0.9], [-1.15, 0.9]];
  return shape("polygon", { ...attributes, points: corners.map(([dx, dy]) => `${x + dx * size},${y + dy * size}`).join(" ") });
}

/** The custom property that a series takes its colour from. */
function paint(drawn, colour) {
  drawn.style.setProperty("--series", `var(--${colour})`);
  return drawn;
}

const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

/** The first box in the room that covers nothing of `taken`. If there is none: the first that covers lines at most (`thin`). */
function findFree(boxes, taken, room) {
  const inside = boxes.filter((box) => box.left >= room.left && box.right <= room.right && box.top >= room.top && box.bottom <= room.bottom);
  const free = (others) => inside.find((box) => !others.some((other) => meet(box, other)));
  return free(taken) ?? free(taken.filter((other) => !other.thin));
}

/** Write a label beside its mark where there is room, or leave it out: its mark still says it. */
function placeLabel(drawing, lines, mark, taken, room) {
  const label = shape("text", { class: `label${mark.strong ? " strong" : ""}` }, ...lines.map((line) => shape("tspan", {}, line)));
  drawing.append(label);
  const width = Math.max(...[...label.children].map((line) => line.getComputedTextLength()));
  const height = 14 * lines.length;
  const side = width / 2;
  const places = [[0, -height - 10], [0, 10], [-side - 14, -height / 2], [side + 14, -height / 2], [-side - 12, -height - 6],
    [side + 12, -height - 6], [-side - 12, 6], [side + 12, 6], [0, -height - 30], [0, 30]];
  const boxes = places.map(([dx, dy]) => ({ left: mark.x + dx - side - 4, right: mark.x + dx + side + 4, top: mark.y + dy, bottom: mark.y + dy + height }));
  const box = findFree(boxes, taken, room);
  if (!box) return label.remove();
  [...label.children].forEach((line, number) => {
    line.setAttribute("x", (box.left + box.right - line.getComputedTextLength()) / 2);
    line.setAttribute("y", box.top + 11 + 14 * number);
  });
  taken.push(box);
}

/** Write a name along an upright line, on one of its sides, at the bottom or the top; or leave it out. */
function placeUpright(drawing, name, at, taken, frame) {
  const label = shape("text", { class: "label" }, name);
  drawing.append(label);
  const length = label.getComputedTextLength();
  const boxes = [frame.bottom - 6 - length, frame.top + 6].flatMap((top) =>
    [at - 18, at + 3].map((left) => ({ left, right: left + 15, top, bottom: top + length })));
  const box = findFree(boxes, taken, { ...frame, right: frame.right + 14 });
  if (!box) return label.remove();
  label.setAttribute("transform", `translate(${box.left + 12} ${box.bottom}) rotate(-90)`);
  taken.push(box);
}
