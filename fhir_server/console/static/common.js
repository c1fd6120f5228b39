// What the pages share: language, drawing, asking the server, rows that stay in place while they are renewed.
import { TEXTS } from "./texts.js";

const asked = new URLSearchParams(location.search).get("lang");
let language = asked || localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh" : "en");
if (!(language in TEXTS)) language = "en";
if (asked === language) localStorage.setItem("language", language);  // the other pages follow
const redraws = [];

export const spoken = () => language;
export const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
export const say = (key, ...values) => {
  const text = TEXTS[language][key] ?? key;
  return typeof text === "function" ? text(...values) : text;
};
export const notice = (text, bad = false, id = "notice") => {
  const place = document.getElementById(id);
  place.textContent = text;
  place.className = bad ? "bad" : "";
};

function drawTexts() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const place of document.querySelectorAll("[data-text]")) place.textContent = say(place.dataset.text);
  for (const place of document.querySelectorAll("[data-hint]")) place.placeholder = say(place.dataset.hint);
  for (const place of document.querySelectorAll("[data-label]:not(td)")) place.ariaLabel = say(place.dataset.label);
  document.title = say(`title-${document.body.dataset.page}`);
  const button = document.getElementById("language");
  button.textContent = say("other");
  button.lang = language === "zh" ? "en" : "zh";
}

// Draws the page's words, and all of it again when another language is chosen.
export function speak(redraw) {
  redraws.push(redraw);
  drawTexts();
  document.getElementById("language").addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    localStorage.setItem("language", language);
    drawTexts();
    for (const one of redraws) one();
  });
}

// --- asking

export class Refused extends Error {
  constructor(status, body) {
    super(body.detail || String(status));
    this.chinese = body.zh || this.message;
  }
  get text() { return language === "zh" ? this.chinese : this.message; }
}

async function answered(answer) {
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}
export const ask = async (url) => answered(await fetch(url));
export const act = async (url, body) => answered(await fetch(url, {
  method: "POST", headers: { "X-Requested-With": "console", "Content-Type": "application/json" }, body: body && JSON.stringify(body) }));

// Runs `work` now and then every `pause` milliseconds while somebody may be looking. `work.soon()` runs it at once.
export function every(pause, work) {
  let silent = false, timer = 0, running = null;
  async function turn() {
    clearTimeout(timer);
    if (!document.hidden) {
      try {
        await work();
        if (silent) notice("");
        silent = false;
      } catch (fault) {
        silent = true;
        notice(fault instanceof Refused ? fault.text : say("lost"), true);
      }
    }
    clearTimeout(timer);
    timer = setTimeout(soon, pause);
  }
  // One after the other: an answer that was asked for earlier never overwrites a later one.
  const soon = () => (running = (running || Promise.resolve()).then(turn));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(); });
  soon();
  return soon;
}

// --- times, in milliseconds since 1970

const formats = new Map();
function format(style) {
  const key = language + style;
  if (!formats.has(key)) {
    const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: document.body.dataset.zone };
    if (style !== "minute") Object.assign(time, { second: "2-digit", month: "2-digit", day: "2-digit" });
    if (style === "whole") time.year = "numeric";
    formats.set(key, new Intl.DateTimeFormat(language === "zh" ? "zh-CN" : "en-GB", time));
  }
  return formats.get(key);
}
export const clockTime = (time, style = "day") => (time ? format(style).format(time) : "–");
export function span(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 1) return say("span", Math.round(milliseconds), "ms");
  const [unit, size] = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]].find(([, size]) => seconds >= size);
  return say("span", seconds < 10 ? Math.round(seconds * 10) / 10 : Math.floor(seconds / size), unit);
}
let now = Date.now();
const age = (time) => (Math.abs(now - time) < 1000 ? say("just-now") : time <= now ? say("ago", span(now - time)) : say("in", span(time - now)));
// How long ago, or how soon; goes on while its row stays the same.
export function aged(time) {
  const made = element("time", { title: clockTime(time, "whole"), textContent: age(time) });
  made.dataset.since = time;
  return made;
}
export function tick(serverNow) {
  now = serverNow;
  for (const place of document.querySelectorAll("time[data-since]")) {
    const text = age(Number(place.dataset.since));
    if (place.textContent !== text) place.textContent = text;
  }
}

// --- rows

// Makes the children of `parent` show `items`. What did not change stays as it is, with its focus; what is selected is left alone.
export function sync(parent, items, keyOf, draw) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const selection = getSelection();
  const selected = (row) => !selection.isCollapsed && selection.rangeCount > 0 && selection.getRangeAt(0).intersectsNode(row);
  let previous = null;
  for (const item of items) {
    const key = String(keyOf(item)), seen = language + JSON.stringify(item);
    let row = old.get(key);
    old.delete(key);
    const focused = row?.contains(document.activeElement) ? document.activeElement.dataset.act : undefined;
    if (!row || (row.seen !== seen && !selected(row))) {
      const made = draw(item);
      made.dataset.key = key;
      made.seen = seen;
      if (made.tagName === "TR") made.role = "row";
      row?.replaceWith(made);
      row = made;
    }
    const place = previous ? previous.nextSibling : parent.firstChild;
    if (row !== place) parent.insertBefore(row, place);
    if (focused !== undefined && !row.contains(document.activeElement)) row.querySelector(`[data-act="${focused}"]`)?.focus();
    previous = row;
  }
  for (const row of old.values()) if (!selected(row)) row.remove();
}
export const cell = (label, ...children) => {
  const made = element("td", {}, ...children.map((child) => child ?? ""));
  made.dataset.label = say(label);
  made.className = made.textContent ? label : "none";
  made.role = "cell";  // also on narrow screens, where a table is not drawn as one
  return made;
};
export const badge = (state, text = say(`state-${state}`)) => element("span", { className: `badge ${state}`, textContent: text });
export const number = (value) => value.toLocaleString(language === "zh" ? "zh-CN" : "en-GB");
export function button(act, text, work, style = "") {
  const made = element("button", { type: "button", className: style, textContent: text });
  made.dataset.act = act;
  made.addEventListener("click", work);
  return made;
}

export function drawReaders(readers) {
  sync(document.getElementById("readers"), readers, (one) => one.name, (one) => element("div", { className: "reader" },
    element("strong", { textContent: one.name }), badge(one.state),
    element("span", { className: one.lag ? "lag behind" : "lag", textContent: say("behind", number(one.lag)) }),
    element("small", { textContent: say("position", number(one.position)) + (one.stumbled ? ` · ${say("stumbled", number(one.stumbled))}` : "") })));
}

// Pages of a list whose next page is known by a token: `at()` the present one, `first()`, `next(token)`, `previous()`.
export function pager(changed) {
  let passed = [""], following = null;
  const [before, after] = ["previous", "next"].map((id) => document.getElementById(id));
  const show = () => { before.disabled = passed.length < 2; after.disabled = !following; };
  before.addEventListener("click", () => { passed.pop(); show(); changed(); });
  after.addEventListener("click", () => { passed.push(following); following = null; show(); changed(); });
  return {
    at: () => passed[passed.length - 1],
    first: () => { passed = [""]; following = null; show(); },
    known: (token) => { following = token ? String(token) : null; show(); },
  };
}
