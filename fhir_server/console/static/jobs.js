// The jobs: how many of each kind there are, which were given up, and who works at them.
import { Refused, act, aged, ask, badge, button, cell, drawReaders, element, every, notice, number, pager, say, speak, sync, tick } from "./common.js";
import { TEXTS } from "./texts.js";
import { jobActions } from "./job_actions.js";

const PAUSE = 3000;
const place = (id) => document.getElementById(id);
let overview = null, page = null, actions = null;

const named = (kind) => (`job-${kind}` in TEXTS.en ? say(`job-${kind}`) : "");
const choice = () => document.querySelector('input[name="state"]:checked').value;
const faultText = (fault) => (fault instanceof Refused ? fault.text : say("lost"));
const pages = pager(() => refresh());

function drawOverview() {
  if (!overview) return;
  const sum = (name) => overview.kinds.reduce((total, one) => total + one[name], 0);
  const tiles = [["open", "requested"], ["running", "active"], ["retrying", "held"], ["dead-letters", "error"]];
  const values = { open: sum("open"), running: sum("running"), retrying: sum("waiting"), "dead-letters": sum("dead") };
  sync(place("sums"), tiles.map(([name, look]) => ({ name, look, value: values[name] })), (one) => one.name,
    (one) => element("div", { className: `tile ${one.look}` }, element("strong", { textContent: number(one.value) }), element("span", { textContent: say(one.name) })));
  const busy = overview.kinds.filter((one) => one.open + one.dead), idle = overview.kinds.filter((one) => !(one.open + one.dead));
  sync(place("kinds"), busy, (one) => one.kind, drawKind);
  place("idle").hidden = idle.length === 0;
  place("idle").textContent = say("idle", idle.map((one) => named(one.kind) || one.kind).join(say("comma")));
  drawReaders(overview.readers);
  const { holder } = overview.leader;
  sync(place("leader"), [{ holder }], () => "leader", () => element("span", {},
    badge(holder ? "works" : "waits", say(holder ? "leads" : "nobody")), " ", element("code", { textContent: holder || "" })));
  drawKinds();
  drawRetryAll();
}

function drawKind(one) {
  const dead = element("span", { className: one.dead ? "bad" : "", textContent: number(one.dead) });
  const actions = one.dead ? [button("retry-all", say("retry-dead", number(one.dead)), (event) => retryAll(event, one.kind))] : [];
  return element("tr", {},
    cell("kind", element("strong", { textContent: named(one.kind) || one.kind }), element("small", {}, element("code", { textContent: one.kind }), one.known ? "" : ` · ${say("unknown-kind")}`)),
    cell("open", number(one.open)), cell("running", number(one.running)), cell("retrying", element("span", { className: one.waiting ? "behind" : "", textContent: number(one.waiting) })),
    cell("dead-letters", dead), cell("oldest-due", one.due === null ? "–" : aged(one.due)), cell("action", ...actions));
}

// The kinds to choose from; what is chosen stays.
function drawKinds() {
  const select = place("kind"), chosen = select.value;
  for (const one of overview.kinds) {
    const known = [...select.options].find((option) => option.value === one.kind);
    const text = named(one.kind) ? `${named(one.kind)} (${one.kind})` : one.kind;
    if (known) known.textContent = text;
    else select.append(element("option", { value: one.kind, textContent: text }));
  }
  select.value = chosen;
}

function drawRetryAll() {
  const kind = place("kind").value, dead = overview?.kinds.find((one) => one.kind === kind)?.dead ?? 0;
  const pressed = place("retry-all");
  pressed.hidden = choice() !== "dead" || dead === 0;
  pressed.textContent = say("retry-dead", number(dead));
}

function drawRows() {
  if (!page) return;
  sync(place("rows"), page.rows, (one) => one.id, (one) => element("tr", {},
    cell("job", String(one.id)), cell("kind", named(one.kind), element("small", {}, element("code", { textContent: one.kind }))),
    cell("key", element("code", { textContent: one.key })), cell("attempts", number(one.attempts)), cell("due", one.running ? badge("running") : aged(one.due)),
    cell("error-text", element("span", { className: "bad", textContent: one.error })), cell("action", ...jobActions(one, notice, refresh, show))));
  place("none").hidden = page.rows.length > 0;
}

function drawActions() {
  if (!actions) return;
  const looks = { done: "works", nothing: "off", begun: "running", refused: "error", failed: "error" };
  sync(place("actions"), actions.rows, (one) => `${one.time} ${one.what} ${one.action}`,
    (one) => element("tr", {},
      cell("time", aged(one.time)), cell("who", one.who), cell("what-done", say(`action-${one.action}`)), cell("what", element("code", { textContent: one.what })),
      cell("outcome", badge(looks[one.outcome], say(`outcome-${one.outcome}`)), " ", element("small", { textContent: one.detail }))));
  place("no-actions").hidden = actions.rows.length > 0;
}

async function show(job) {
  try {
    const payload = await ask(`/console/jobs/${job.id}/payload`);
    place("detail-title").textContent = `${job.kind} ${job.id}`;
    place("detail-body").textContent = JSON.stringify(payload, null, 2);
    if (!place("detail").open) place("detail").showModal();
  } catch (fault) {
    notice(faultText(fault), true);
  }
}
// What may be about a person does not stay in the page.
place("detail").addEventListener("close", () => place("detail-body").replaceChildren());

async function retryAll(event, kind) {
  const pressed = event.currentTarget;
  pressed.disabled = true;
  notice(say("working"));
  try {
    const answer = await act("/console/jobs/retry", { kind });
    notice(say("retried-all", number(answer.retried)) + (answer.more ? ` ${say("more-left")}` : ""));
  } catch (fault) {
    notice(faultText(fault), true);
  }
  pressed.disabled = false;
  await refresh();
}

place("filters").addEventListener("submit", (event) => event.preventDefault());
place("filters").addEventListener("change", () => { pages.first(); drawRetryAll(); refresh(); });
place("retry-all").addEventListener("click", (event) => retryAll(event, place("kind").value));

speak(() => { drawOverview(); drawRows(); drawActions(); });
const refresh = every(PAUSE, async () => {
  const query = new URLSearchParams({ state: choice(), kind: place("kind").value, after: pages.at() || "0" });
  [overview, page, actions] = await Promise.all([ask("/console/jobs/overview"), ask(`/console/jobs/list?${query}`), ask("/console/jobs/actions")]);
  pages.known(page.next);
  drawOverview();
  drawRows();
  drawActions();
  tick(page.now);
});
