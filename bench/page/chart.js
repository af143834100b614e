/** The axes: grid lines with their values, and what they are of. */
function drawAxes(drawing, x, y, frame, titles) {
  const axes = shape("g", {});
  let last = -Infinity;
  for (const value of x.ticks) {
    const at = x.at(value);
    axes.append(shape("line", { class: "grid", x1: at, x2: at, y1: frame.top, y2: frame.bottom }));
    const text = x.text(value);
    if (at - last < 7 * text.length + 6) continue;
    last = at;
    axes.append(shape("text", { x: at, y: frame.bottom + 17, "text-anchor": "middle" }, text));
  }
  for (const value of y.ticks) {
    const at = y.at(value);
    axes.append(shape("line", { class: "grid", x1: frame.left, x2: frame.right, y1: at, y2: at }));
    axes.append(shape("text", { x: frame.left - 6, y: at + 4, "text-anchor": "end" }, y.text(value)));
  }
  axes.append(shape("text", { class: "title", x: frame.right, y: frame.bottom + 36, "text-anchor": "end" }, titles.x));
  axes.append(shape("text", { class: "title", x: 0, y: 12 }, titles.y));
  drawing.append(axes);
}

/** An empty drawing of the width of its place, which stays legible on a phone. */
function startDrawing(place, height) {
  const width = Math.max(place.clientWidth, 280);
  const drawing = shape("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  place.replaceChildren(drawing);
  return { drawing, frame: { left: 52, right: width - 14, top: 26, bottom: height - 44 } };
}

/**
 * Points and lines. `series`: [{family, colour, strong, name, joined, dashed, points: [{x, y, said, ring}]}]; `uprights`: engines
 * with a time only, [{x, name, colour, said}]; `front`: whether to draw the line of the best; `labels`: whether to name the points.
 */
function drawPoints(place, { x, y, series, uprights = [], front = false, labels = false }) {
  const { drawing, frame } = startDrawing(place, 400);
  const points = series.flatMap((one) => one.points);
  if (!points.length && !uprights.length) {
    drawing.append(shape("text", { x: frame.left, y: frame.top + 20 }, "Nothing to show: no engine is chosen, or none was measured here."));
    return [];
  }
  const xs = [...points, ...uprights].map((one) => one.x);
  const horizontal = { from: frame.left, to: frame.right, most: frame.right / 70 };
  const xScale = x.names ? makeSteps(x.names, horizontal) : makeScale(xs, { ...horizontal, log: x.log, zero: x.zero, wide: labels });
  const yScale = points.length
    ? makeScale(points.map((one) => one.y), { from: frame.bottom, to: frame.top, log: y.log, zero: y.zero })
    : { at: () => frame.bottom, ticks: [], text: String };
  drawAxes(drawing, xScale, yScale, frame, { x: x.title, y: y.title });
  const lines = uprights.map((one) => drawUpright(drawing, one, xScale.at(one.x), frame));
  if (front) lines.push(...drawFront(drawing, points, xScale, yScale, frame));
  const marks = uprights.map((one) => ({ x: xScale.at(one.x), y: frame.top, said: one.said, group: "time only" }));
  for (const one of series) {
    const placed = one.points.map((point) => ({ ...point, x: xScale.at(point.x), y: yScale.at(point.y) }));
    const group = paint(shape("g", {}), one.colour);
    if (one.joined) {
      const path = placed.filter((point) => !point.ring).map((point) => `${point.x},${point.y}`).join(" ");
      group.append(shape("polyline", { class: `path${one.strong ? " strong" : ""}${one.dashed ? " dashed" : ""}`, points: path }));
    }
    for (const point of placed) {
      group.append(symbol(one.family, point.x, point.y, one.strong ? 6.5 : 5, point.ring));
      marks.push({ x: point.x, y: point.y, said: point.said, group: front ? "engines" : one.name, ...one });
    }
    drawing.append(group);
  }
  if (labels) nameMarks(drawing, marks, uprights.map((one) => ({ ...one, at: xScale.at(one.x) })), lines, frame);
  return listen(place, drawing, marks);
}

/** Names at the marks and along the uprights. The student's comes first, so that it has its place on a phone too. */
function nameMarks(drawing, marks, uprights, lines, frame) {
  const taken = [...lines, ...marks.filter((one) => one.colour).map(({ x, y }) => ({ left: x - 7, right: x + 7, top: y - 7, bottom: y + 7 }))];
  for (const mark of marks.filter((one) => one.colour).sort((a, b) => Number(b.strong) - Number(a.strong))) {
    const group = paint(shape("g", {}), mark.colour);
    drawing.append(group);
    placeLabel(group, mark.name.split(" · "), mark, taken, frame);
  }
  for (const one of uprights) {
    const group = paint(shape("g", {}), one.colour);
    drawing.append(group);
    placeUpright(group, one.name, one.at, taken, frame);
  }
}

const THIN = 2; // half of the width that a line keeps free of labels

/** A dashed line at a time; returns its box. */
function drawUpright(drawing, one, at, frame) {
  drawing.append(paint(shape("line", { class: "path dashed", x1: at, x2: at, y1: frame.top, y2: frame.bottom }), one.colour));
  return { left: at - THIN, right: at + THIN, top: frame.top, bottom: frame.bottom, thin: true };
}

/** The line of the points that none other beats in both: no faster one is as accurate. Returns the boxes of its parts. */
function drawFront(drawing, points, x, y, frame) {
  let best = -Infinity;
  const on = [...points].sort((a, b) => a.x - b.x || b.y - a.y).filter((one) => one.y > best && ((best = one.y), true));
  const corners = on.flatMap((one, number) => [[x.at(one.x), number ? y.at(on[number - 1].y) : frame.bottom], [x.at(one.x), y.at(one.y)]]);
  if (!corners.length) return [];
  corners.push([frame.right, corners.at(-1)[1]]);
  drawing.append(shape("polyline", { class: "front", points: corners.join(" ") }));
  return corners.slice(1).map(([toX, toY], number) => {
    const [fromX, fromY] = corners[number];
    return { left: Math.min(fromX, toX) - THIN, right: Math.max(fromX, toX) + THIN, top: Math.min(fromY, toY) - THIN, bottom: Math.max(fromY, toY) + THIN, thin: true };
  });
}

/** Horizontal bars, one for each engine: [{name, colour, strong, value, said}]. */
function drawBars(place, { title, log, bars }) {
  const known = bars.filter((one) => one.value !== null);
  const { drawing, frame } = startDrawing(place, 50 + 40 * Math.max(known.length, 1));
  if (!known.length) {
    drawing.append(shape("text", { x: 0, y: 20 }, "Nothing to show: no engine is chosen, or none was measured here."));
    return [];
  }
  const values = known.map((one) => one.value);
  const scale = makeScale(values, { log, zero: true, from: 0, to: frame.right - 60, most: frame.right / 90 });
  drawing.append(shape("text", { class: "title", x: 0, y: 12 }, title));
  const marks = known.map((one, number) => {
    const top = 26 + 40 * number;
    const width = Math.max(scale.at(one.value), 2);
    const group = paint(shape("g", {}), one.colour);
    group.append(
      shape("text", { class: `label${one.strong ? " strong" : ""}`, x: 0, y: top + 10 }, one.name),
      shape("rect", { class: "mark", x: 0, y: top + 15, width, height: 14, rx: 2 }),
      shape("text", { class: "value", x: width + 6, y: top + 26 }, figure(one.value)),
    );
    drawing.append(group);
    return { x: width, y: top + 22, said: one.said, group: "bars" };
  });
  return listen(place, drawing, marks);
}

/** Say what the mouse, a finger or the arrow keys point at. Left and right stay in a series, up and down change it. */
function listen(place, drawing, marks) {
  const pointer = shape("circle", { class: "pointer", r: 10, visibility: "hidden" });
  drawing.append(pointer);
  let current = null;
  const point = (mark) => {
    current = mark;
    pointer.setAttribute("visibility", mark ? "visible" : "hidden");
    if (!mark) return;
    pointer.setAttribute("cx", mark.x);
    pointer.setAttribute("cy", mark.y);
    place.readout.textContent = mark.said;
  };
  const nearest = (of, x, y = null) => of.reduce((a, b) => (Math.hypot(b.x - x, y === null ? 0 : b.y - y) < Math.hypot(a.x - x, y === null ? 0 : a.y - y) ? b : a));
  drawing.onpointermove = drawing.onpointerdown = (event) => {
    if (!marks.length) return;
    const box = drawing.getBoundingClientRect();
    const zoom = box.width / drawing.viewBox.baseVal.width;
    const [x, y] = [(event.clientX - box.left) / zoom, (event.clientY - box.top) / zoom];
    const found = nearest(marks, x, y);
    if (Math.hypot(found.x - x, found.y - y) < 60) point(found);
  };
  place.onkeydown = (event) => {
    const groups = [...new Set(marks.map((one) => one.group))].map((name) => marks.filter((one) => one.group === name).sort((a, b) => a.x - b.x || a.y - b.y));
    const turned = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!turned || !groups.length) return;
    event.preventDefault();
    const [own, bars] = [groups.find((one) => one.includes(current)), groups.length === 1];
    if (!own) return point(groups[0][0]);
    if (!bars && turned[0]) return point(nearest(groups[(groups.indexOf(own) + turned[0] + groups.length) % groups.length], current.x));
    const order = bars && marks[0].group === "bars" ? marks : own;
    point(order[(order.indexOf(current) + turned[0] + turned[1] + order.length) % order.length]);
  };
  return marks;
}
