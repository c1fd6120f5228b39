// The monitor of Subscriptions: follows their state, and does what an operator asks for.
import { Refused, act, aged, ask, badge, button, cell, clockTime, drawReaders, element, every, notice, number, pager, say, span, speak, spoken, sync, tick } from "./common.js";
import { chart } from "./chart.js";
import { jobActions } from "./job_actions.js";

const STATES = ["requested", "active", "error", "off"];
const PAUSE = 3000;
const place = (id) => document.getElementById(id);
const dialog = place("detail");
const asked = new URLSearchParams(location.search).get("status");
let status = STATES.includes(asked) ? asked : "";
let overview = null, page = null, shown = null, opened = "";

// --- the top

function drawStates() {
  const tiles = [["", overview.total], ...STATES.map((state) => [state, overview.states[state]])].map(([state, sum]) => ({ state, sum, on: state === status }));
  sync(place("states"), tiles, (one) => one.state || "all", (one) => {
    const made = button(one.state || "all", "", () => choose(one.state), `tile ${one.state}`);
    made.append(element("strong", { textContent: number(one.sum) }), element("span", { textContent: say(one.state ? `state-${one.state}` : "all") }));
    made.setAttribute("aria-pressed", String(one.on));
    return made;
  });
}

function drawOverview() {
  if (!overview) return;
  drawStates();
  chart(place("chart"), overview.minutes, overview.now);
  drawReaders(overview.readers);
  const triggers = overview.readers.flatMap((reader) => reader.triggers.map((one) => ({ ...one, reader: reader.name, state: reader.state, lag: reader.lag })));
  sync(place("system"), triggers, (one) => `${one.reader}/${one.name}`, (one) => element("tr", {},
    cell("trigger", element("strong", { textContent: one.name }), element("small", { textContent: one.reader })),
    cell("watches-types", one.types.length ? one.types.join(", ") : say("any-type")), cell("does", one[spoken()]),
    cell("state", badge(one.state)), cell("lag", element("span", { className: one.lag ? "behind" : "", textContent: number(one.lag) })),
    cell("open-jobs", number(one.open)), cell("dead-letters", element("span", { className: one.dead ? "bad" : "", textContent: number(one.dead) }))));
}

// --- the table

const pages = pager(() => refresh());

function choose(state) {
  status = state;
  pages.first();
  if (overview) drawStates();
  refresh();
}

// No more than 1,000 are counted.
const counted = (waiting) => (waiting < 1000 ? number(waiting) : `≥ ${number(waiting)}`);

function stateOf(one) {
  const parts = [badge(one.status)];
  if (one.held) parts.push(" ", badge("held"));
  return parts;
}

function attempt(last) {
  if (!last) return ["–"];
  return [element("span", {}, element("span", { className: last.taken ? "good" : "bad", textContent: last.taken ? "✓ " : "✗ " }), aged(last.time)),
    element("small", { textContent: `${say(`kind-${last.kind}`)} · ${span(last.took)}` })];
}

function drawRow(one) {
  const name = button("open", one.reason || one.id, () => open(one.id), "link");
  return element("tr", {},
    cell("subscription", name, element("small", { textContent: one.id })),
    cell("watches", one.topic ? element("span", { textContent: one.topic }) : element("code", { textContent: one.criteria }),
      one.topic ? element("small", {}, element("code", { textContent: one.criteria })) : ""),
    cell("channel", one.channel, element("small", { textContent: one.host })), cell("status", ...stateOf(one)), cell("events", number(one.events)),
    cell("waiting", element("span", { className: one.waiting ? "behind" : "", textContent: counted(one.waiting) }), one.oldest ? element("small", {}, aged(one.oldest)) : ""),
    cell("last-delivery", ...attempt(one.last)), cell("last-error", element("span", { className: "bad", textContent: one.error || "" })));
}

function drawRows() {
  if (!page) return;
  sync(place("rows"), page.rows, (one) => one.id, drawRow);
  place("none").hidden = page.rows.length > 0;
  const found = say("found", number(page.found));
  if (place("found").textContent !== found) place("found").textContent = found;
}

// --- one of them

const address = (id) => `/console/monitor/subscriptions/${encodeURIComponent(id)}`;

function fact(label, ...values) {
  const made = element("div", {}, element("dt", { textContent: say(label) }), element("dd", {}, ...values));
  return made;
}

function drawDetail() {
  if (!shown) return;
  place("detail-title").textContent = shown.reason || shown.id;
  place("resource").href = `/fhir/Subscription/${encodeURIComponent(shown.id)}?_format=json&_pretty=true`;
  const facts = [
    ["status", () => stateOf(shown)], ["subscription", () => [element("code", { textContent: shown.id })]],
    ["watches", () => [shown.topic ? `${shown.topic} ` : "", element("code", { textContent: shown.criteria })]],
    ["channel", () => [`${shown.channel} ${shown.host}`]], ["events", () => [number(shown.events)]],
    ["waiting", () => [counted(shown.waiting), ...(shown.oldest ? [" · ", say("oldest"), " ", aged(shown.oldest)] : [])]],
    ["circuit", () => [say(`circuit-${shown.circuit}`)]],
    ...(shown.held ? [["held", () => [say("held-by", shown.held.by), " · ", aged(shown.held.since)]]] : []),
    ...(shown.error ? [["last-error", () => [element("span", { className: "bad", textContent: shown.error })]]] : []),
  ];
  sync(place("facts"), facts.map(([label]) => ({ label, ...shown, log: 0, last: 0, dead: 0, stuck: 0 })), (one) => one.label,
    (one) => fact(one.label, ...facts.find(([label]) => label === one.label)[1]()));
  place("pause").hidden = Boolean(shown.held);
  place("resume").hidden = !shown.held;
  for (const [name, jobs] of [["stuck", shown.stuck], ["dead", shown.dead]]) {
    place(`${name}-part`).hidden = jobs.length === 0;
    sync(place(name), jobs, (one) => one.id, (one) => element("tr", {}, cell("job", `${one.id}`, element("small", { textContent: one.kind })),
      cell("attempts", number(one.attempts)), cell("due", one.running ? badge("running") : aged(one.due)), cell("error-text", one.error),
      cell("action", ...jobActions(one, told, renewDetail))));
  }
  sync(place("log"), shown.log.map((one, at) => ({ ...one, at: `${one.time}/${shown.log.length - at}` })), (one) => one.at, (one) => element("tr", { className: one.taken ? "" : "failed" },
    cell("time", clockTime(one.time)), cell("kind", say(`kind-${one.kind}`)),
    cell("numbers", one.first ? (one.last > one.first ? `${one.first}–${one.last}` : String(one.first)) : "–"),
    cell("answer", element("span", { className: one.taken ? "good" : "bad", textContent: `${one.taken ? "✓" : "✗"} ${one.status}` })),
    cell("took", span(one.took)), cell("lag", one.lag ? span(one.lag) : "–")));
  place("no-log").hidden = shown.log.length > 0;
}

const told = (text, bad = false) => notice(text, bad, "detail-notice");
const faultText = (fault) => (fault instanceof Refused ? fault.text : say("lost"));

async function renewDetail() {
  const id = opened;
  const found = await ask(address(id));
  if (id !== opened) return;
  shown = found;
  drawDetail();
}

async function open(id) {
  opened = id;
  shown = null;
  told("");
  place("replay").reset();
  try {
    await renewDetail();
    if (!dialog.open) dialog.showModal();
  } catch (fault) {
    notice(faultText(fault), true);
  }
}

// A button that was pressed is off until its answer is there.
async function press(event, work) {
  const pressed = event.submitter || event.currentTarget, id = opened;
  pressed.disabled = true;
  told(say("working"));
  try {
    const [text, bad] = await work(address(id));
    if (id === opened) told(text, bad);
  } catch (fault) {
    if (id === opened) told(faultText(fault), true);
  }
  pressed.disabled = false;
  await renewDetail().catch(() => {});
  refresh();
}

place("pause").addEventListener("click", (event) => press(event, async (at) => { await act(`${at}/hold`); return [say("paused")]; }));
place("resume").addEventListener("click", (event) => press(event, async (at) => [say("resumed", (await act(`${at}/release`)).sent)]));
place("test").addEventListener("click", (event) => press(event, async (at) => {
  const { attempt } = await act(`${at}/test`);
  return [say(attempt.taken ? "test-taken" : "test-failed", attempt.status, span(attempt.took)), !attempt.taken];
}));
place("replay").addEventListener("submit", (event) => {
  event.preventDefault();
  const body = { first: Number(place("first").value), last: Number(place("last").value) };
  press(event, async (at) => [say("replayed", (await act(`${at}/replay`, body)).events)]);
});
dialog.addEventListener("close", () => { opened = ""; shown = null; });

// --- following

place("filters").addEventListener("submit", (event) => event.preventDefault());
let typing = 0;
place("text").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => { pages.first(); refresh(); }, 250);
});
new ResizeObserver(() => overview && chart(place("chart"), overview.minutes, overview.now)).observe(place("chart"));

speak(() => { drawOverview(); drawRows(); drawDetail(); });
const refresh = every(PAUSE, async () => {
  const query = new URLSearchParams({ status, text: place("text").value, cursor: pages.at() });
  const [above, rows] = await Promise.all([ask("/console/monitor"), ask(`/console/monitor/subscriptions?${query}`).catch((fault) => {
    if (pages.at()) pages.first();  // the place in the list is known no longer
    throw fault;
  })]);
  overview = above;
  page = rows;
  pages.known(rows.next);
  drawOverview();
  drawRows();
  if (opened && dialog.open) await renewDetail();
  tick(rows.now);
});
