// Bars of what was taken and what failed, minute by minute over an hour, as SVG.
import { clockTime, number, say } from "./common.js";

const SPACE = "http://www.w3.org/2000/svg";
const MINUTES = 60, HEIGHT = 168, LEFT = 44, RIGHT = 8, TOP = 10, BOTTOM = 24;

function shape(tag, attributes, text) {
  const made = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The next number of the form 1, 2, 4 or 5 times a power of ten, 4 at least: its half is a whole number or ends in .5 only above.
function round(most) {
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
  return Math.max(4, [1, 2, 4, 5, 10].map((step) => step * power).find((step) => step >= most));
}

// `minutes`: {start, taken, failed} for those in which something was sent; `now`: milliseconds since 1970.
export function chart(host, minutes, now) {
  const last = Math.floor(now / 60000) * 60000, width = Math.max(280, host.clientWidth);
  const known = new Map(minutes.map((one) => [Math.floor(one.start / 60000) * 60000, one]));
  const slots = Array.from({ length: MINUTES }, (_, at) => {
    const start = last - (MINUTES - 1 - at) * 60000;
    return { taken: 0, failed: 0, ...known.get(start), start };
  });
  const sum = (name) => slots.reduce((total, one) => total + one[name], 0);
  const words = say("chart", number(sum("taken")), number(sum("failed")));
  const state = JSON.stringify([slots, width, words]);
  if (host.drawn === state) return;
  host.drawn = state;
  const most = round(Math.max(...slots.map((one) => one.taken + one.failed)));
  const step = (width - LEFT - RIGHT) / MINUTES, floor = HEIGHT - BOTTOM;
  const high = (value) => (value / most) * (floor - TOP);
  const drawing = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": words });
  for (const value of [0, most / 2, most]) {
    const y = floor - high(value);
    drawing.append(shape("line", { x1: LEFT, x2: width - RIGHT, y1: y, y2: y, class: "grid" }));
    drawing.append(shape("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, number(value)));
  }
  const labels = width < 520 ? [0, 30, 59] : [0, 15, 30, 45, 59];
  slots.forEach((one, at) => {
    const x = LEFT + at * step, failed = high(one.failed), taken = high(one.taken);
    const group = shape("g", {});
    group.append(shape("title", {}, `${clockTime(one.start, "minute")} · ${say("taken")} ${number(one.taken)} · ${say("failed-deliveries")} ${number(one.failed)}`));
    group.append(shape("rect", { x, y: TOP, width: step, height: floor - TOP, class: "slot" }));
    if (one.failed) group.append(shape("rect", { x: x + 1, y: floor - failed, width: Math.max(1, step - 2), height: failed, class: "failed" }));
    if (one.taken) group.append(shape("rect", { x: x + 1, y: floor - failed - taken, width: Math.max(1, step - 2), height: taken, class: "taken" }));
    drawing.append(group);
    if (labels.includes(at)) {
      const anchor = at === 0 ? "start" : at === MINUTES - 1 ? "end" : "middle";
      const place = at === 0 ? LEFT : at === MINUTES - 1 ? width - RIGHT : x + step / 2;
      drawing.append(shape("text", { x: place, y: HEIGHT - 6, "text-anchor": anchor }, clockTime(one.start, "minute")));
    }
  });
  host.replaceChildren(drawing);
}
