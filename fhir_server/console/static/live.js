// Follows the server's log and shows what arrives, lane by lane; each card opens its resource.
import { Refused, act, element, notice, say, speak } from "./common.js";

const LANES = [
  ["messages", []], ["Observation", ["Observation"]], ["Flag", ["Flag"]], ["Task", ["Task"]],
  ["CarePlan", ["CarePlan"]], ["notifications", ["CommunicationRequest", "Communication"]],
];
const KEEP = 60;
const PAUSE = 1000;
const cards = new Map(LANES.map(([lane]) => [lane, new Map()]));
let position = { after: null, messages: null };

function drawLanes() {
  const main = document.getElementById("lanes");
  main.replaceChildren(...LANES.map(([lane]) => {
    const held = [...cards.get(lane).values()].reverse();
    const list = element("div", { className: "cards" }, ...held.map(drawCard));
    if (!held.length) list.append(element("p", { className: "empty", textContent: say("empty") }));
    return element("section", { className: "lane", id: `lane-${lane}` },
      element("h2", {}, say(lane), element("span", { textContent: String(held.length) })), list);
  }));
}

function drawCard(item) {
  const card = element("button", { className: `card ${item.level}${item.fresh ? " fresh" : ""}`, type: "button" },
    element("strong", { textContent: item.deleted ? say("deleted") : item.title || item.url }), element("small", { textContent: item.detail }),
    element("small", { textContent: item.time }));
  card.dataset.url = item.url;
  card.addEventListener("click", () => open(item.url));
  item.fresh = false;
  return card;
}

function keep(lane, key, item) {
  const held = cards.get(lane);
  held.delete(key);
  held.set(key, item);
  if (held.size > KEEP) held.delete(held.keys().next().value);
}

function take(answer, first) {
  for (const change of answer.changes) {
    const lane = LANES.find(([, types]) => types.includes(change.type));
    if (!lane) continue;
    keep(lane[0], `${change.type}/${change.id}`, { ...change, fresh: !first, url: `/fhir/${change.type}/${change.id}` });
  }
  for (const message of answer.messages) {
    const detail = `${message.source} · ${say(message.status)} · ${say("ack")} ${message.ack || "–"}`;
    keep("messages", message.id, { title: `${message.type} ${message.control_id}`, detail, time: message.time, fresh: !first,
      level: ["dead", "error"].includes(message.status) ? "critical" : "routine", url: `/console/messages/${message.id}` });
  }
  position = { after: answer.after, messages: answer.messages_after };
  document.getElementById("totals").textContent = say("totals", answer.after);
  if (first || answer.changes.length || answer.messages.length) drawLanes();
}

async function follow() {
  let first = true, silent = false;
  for (;;) {
    try {
      const asked = new URLSearchParams(position.after === null ? {} : { after: position.after, messages: position.messages });
      const answer = await fetch(`/console/changes?${asked}`);
      if (!answer.ok) throw new Error(String(answer.status));
      take(await answer.json(), first);
      if (silent) notice("");
      first = silent = false;
    } catch (fault) {
      silent = true;
      notice(say("lost"), true);
    }
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}

// References inside the shown JSON are buttons that open what they point to.
function linked(text) {
  const parts = [];
  let end = 0;
  for (const hit of text.matchAll(/"reference": "([A-Z][A-Za-z]+\/[A-Za-z0-9.-]{1,64})/g)) {
    const from = hit.index + hit[0].length - hit[1].length;
    parts.push(text.slice(end, from), element("button", { type: "button", textContent: hit[1], onclick: () => open(`/fhir/${hit[1]}`) }));
    end = from + hit[1].length;
  }
  return [...parts, text.slice(end)];
}

async function open(url) {
  const dialog = document.getElementById("detail");
  // The server's own text, so that decimals keep their digits.
  const answer = await fetch(`${url}?_pretty=true`, { headers: { Accept: "application/json" } });
  const text = await answer.text();
  document.getElementById("detail-title").textContent = url.replace(/^\/(fhir|console)\//, "");
  const links = url.startsWith("/fhir/") ? [
    element("a", { href: `${url}?_format=json&_pretty=true`, textContent: say("raw"), target: "_blank" }), " · ",
    element("a", { href: `${url}/_history?_format=json&_pretty=true`, textContent: say("history"), target: "_blank" })] : [];
  document.getElementById("detail-links").replaceChildren(...links);
  document.getElementById("detail-body").replaceChildren(...linked(text));
  if (!dialog.open) dialog.showModal();
}

async function feed(event) {
  event.target.disabled = true;
  notice(say("sending"));
  try {
    const body = await act("/console/demo/feed");
    notice(say("sent", body.sent, body.refused));
  } catch (fault) {
    notice(say("failed") + (fault instanceof Refused ? fault.text : fault.message), true);
  }
  event.target.disabled = false;
}

document.getElementById("feed").addEventListener("click", feed);
speak(drawLanes);
drawLanes();
follow();
