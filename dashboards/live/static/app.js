// The page: what is looked at, what the server says, and what an operator asks for.

import { ago, fill, h, morph } from "./dom.js";
import { Link } from "./link.js";
import { alarmList, fleetHead, fleetSites, healthPage, lettersPage, machinePage, patientPage, tile } from "./pages.js";

const $ = (id) => document.getElementById(id);
const main = $("main");
const SAID = 50; // of what was said to those who hear the page the last stays
const DENSE = 120; // tiles get smaller from so many machines on

const state = {
  tiles: new Map(), alarms: [], alarmCount: 0, figures: null, limits: null, detail: null,
  skewMs: 0, link: "connecting", heardMs: Date.now(), me: { signed_in: true, asks: false },
  route: { look: "fleet", key: "" }, filter: "all", find: "", allAlarms: false, told: new Set(), first: true,
};

const now = () => Date.now() + state.skewMs;

// --- What is looked at

/** The page's own part of the address; one that nobody can read leads to the fleet. */
function place() {
  try {
    return decodeURIComponent(location.hash.replace(/^#\/?/, ""));
  } catch {
    return "";
  }
}

function readRoute() {
  const [look = "", ...rest] = place().split("/");
  const known = ["machine", "patient", "letters", "health"].includes(look);
  state.route = { look: known ? look : "fleet", key: rest.join("/") }; // `detail` stays: the server tells it again only if it changes
  for (const link of document.querySelectorAll("nav a")) {
    const page = ["machine", "patient"].includes(state.route.look) ? "fleet" : state.route.look;
    if (link.dataset.page === page) link.setAttribute("aria-current", link.dataset.page === state.route.look ? "page" : "true");
    else link.removeAttribute("aria-current");
  }
  link.lookAt(state.route);
  draw();
}

addEventListener("hashchange", () => {
  readRoute();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});

// --- What the server says

function hear(message) {
  state.skewMs = message.now - Date.now();
  if (message.all) {
    state.tiles.clear();
    state.detail = null;
    state.limits = message.limits;
  }
  const changed = message.tiles ?? [];
  const known = state.tiles.size;
  for (const key of message.gone ?? []) state.tiles.delete(key);
  for (const one of changed) state.tiles.set(one.key, one);
  if (message.alarms) {
    state.alarms = message.alarms;
    state.alarmCount = message.alarm_count;
    sayAlarms();
  }
  if (message.figures) {
    state.figures = message.figures;
    drawLink(state.link, state.heardMs); // whether the page still reads, and whether its log refuses
  }
  if (message.detail !== undefined) state.detail = message.detail;
  const plain = state.filter === "all" && !state.find;
  if (state.route.look === "fleet" && !message.all && !message.gone && plain && state.tiles.size === known && !message.alarms && main.querySelector(".grid")) {
    for (const one of changed) {
      const old = main.querySelector(`li[data-key="${CSS.escape(one.key)}"]`);
      if (old) morph(old, tile(one));
    }
    if (changed.length) drawHead();
  } else {
    draw();
  }
  drawAround();
}

/** Say a new alarm to those who hear the page; what was there at the start is not news. */
function sayAlarms() {
  const fresh = state.alarms.filter((one) => !state.told.has(one.id));
  for (const one of fresh) state.told.add(one.id);
  if (!state.first) for (const one of fresh.reverse()) say(`Alarm. ${one.machine.split("/").at(-1)}: ${one.text}`);
  state.first = false;
}

/** Say something to those who hear the page; each is added, because a text that is replaced is never said. */
function say(text) {
  $("say").append(h("span", {}, `${text} `));
  while ($("say").childElementCount > SAID) $("say").firstChild.remove();
}

// --- Drawing

function draw() {
  const { look, key } = state.route;
  const isTold = state.detail?.look === look && (state.detail.key ?? "") === key && (state.detail.known !== false || state.figures?.caught_up);
  const reading = !state.limits || (look !== "fleet" && look !== "health" && !isTold);
  if (!state.me.signed_in) return fill(main, signIn());
  if (reading) {
    if (!main.querySelector(".empty") || state.limits) fill(main, [h("p", { class: "empty" }, "Reading the log.")]);
    return;
  }
  document.body.classList.toggle("dense", look === "fleet" && state.tiles.size >= DENSE);
  const at = now(), does = { onStop: askStop, onSeen: askSeen };
  if (look === "fleet") {
    const tiles = [...state.tiles.values()];
    fill(main, [h("div", { class: "head", "data-key": "head" }, head(tiles)), ...fleetSites(tiles, state.filter, state.find)]);
  } else if (look === "machine") fill(main, machinePage(state.detail, state.limits, at, does));
  else if (look === "patient") fill(main, patientPage(state.detail, state.limits, at));
  else if (look === "letters") fill(main, lettersPage(state.detail, at));
  else if (state.figures) fill(main, healthPage(state.figures, at));
}

function head(tiles) {
  return fleetHead(tiles, state.filter, state.find, {
    onFilter: (name) => { state.filter = name; draw(); },
    onFind: (text) => { state.find = text; draw(); },
  });
}

function drawHead() {
  const old = main.querySelector(".head");
  if (old) fill(old, head([...state.tiles.values()]));
}

function drawAround() {
  const alarms = $("alarms");
  alarms.hidden = !state.alarms.length;
  fill(alarms, alarmList(state.alarms, state.alarmCount, now(), state.allAlarms, {
    onAll: () => { state.allAlarms = !state.allAlarms; drawAround(); }, onSeen: askSeen,
  }));
  const letters = state.figures?.letters ?? 0;
  $("letters-count").textContent = letters ? String(letters) : "";
  const page = { fleet: "Fleet", letters: "Dead letters", health: "Health" }[state.route.look] ?? state.route.key.split("/").at(-1);
  document.title = `${state.alarmCount ? `(${state.alarmCount}) ` : ""}${page}, spineloop`;
}

function since(heardMs) {
  const told = ago(heardMs, Date.now());
  return told === "now" ? "a moment ago" : told;
}

function drawLink(linkState, heardMs) {
  state.link = linkState;
  state.heardMs = heardMs;
  const pill = $("link"), banner = $("banner"), refused = state.figures?.refused;
  pill.className = `link ${linkState}`;
  const text = { live: state.figures?.caught_up ? "Live" : "Reading the log", connecting: "Connecting", lost: "Connection lost" }[linkState];
  if (pill.textContent !== text) pill.textContent = text;
  document.body.classList.toggle("is-old", linkState === "lost");
  banner.hidden = linkState !== "lost" && !refused;
  const told = linkState === "lost" ? "Connection lost. Trying again." : refused ? `The log can't be read at the moment: ${refused}. What you see may be old.` : "";
  if ($("banner-told").textContent !== told) $("banner-told").textContent = told;
  $("banner-since").textContent = linkState === "lost" ? `What you see is from ${since(heardMs)}.` : ""; // outside of the alert, or it is said each second
}

// --- What an operator asks for

const dialog = $("ask");
const outcomes = [];
let asking = null;

function ask(wish, { title, text, go, danger, reasons }) {
  asking = { ...wish, id: newId() };
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-go").textContent = go;
  $("ask-go").className = danger ? "danger" : "";
  $("ask-go").disabled = false;
  $("ask-error").hidden = true;
  $("ask-by").value = localStorage.getItem("operator") ?? "";
  $("ask-reason").value = "";
  fill($("ask-choices"), reasons.map((reason) => h("button", { type: "button", class: "plain small", onclick: () => { $("ask-reason").value = reason; $("ask-go").focus(); } }, reason)));
  dialog.showModal();
  ($("ask-by").value ? $("ask-choices").querySelector("button") : $("ask-by")).focus();
}

function askStop(one) {
  ask({ machine: one.key, action: "stop" }, {
    title: `STOP ${one.key.split("/").at(-1)}`,
    text: "The load goes to its minimum and the machine stays locked until a clinician releases it there. In danger the button on the machine is faster.",
    go: "STOP now", danger: true, reasons: ["Patient feels unwell", "Wrong settings", "Wrong patient", "Technical fault"],
  });
}

function askSeen(alarm) {
  ask({ machine: alarm.machine, action: "acknowledge", alarm: alarm.id }, {
    title: "Acknowledge the alarm", text: `${alarm.machine.split("/").at(-1)}: ${alarm.text}`,
    go: "Acknowledge", danger: false, reasons: ["Seen, I am on it", "Looked after the patient", "False alarm"],
  });
}

function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

$("ask-cancel").onclick = () => dialog.close();
$("ask-form").onsubmit = async (event) => {
  event.preventDefault();
  const wish = asking, by = $("ask-by").value.trim(), reason = $("ask-reason").value.trim();
  $("ask-go").disabled = true;
  const why = await post("api/asked", { ...wish, by, reason });
  const name = wish.machine.split("/").at(-1);
  const told = wish.action === "stop" ? `STOP of ${name}` : `Acknowledgement of an alarm of ${name}`;
  if (why === null) {
    localStorage.setItem("operator", by);
    say(`${told} is recorded.`);
  }
  if (asking !== wish || !dialog.open) { // somebody cancelled meanwhile: an answer may only touch the dialog of its own wish
    outcomes.push(why === null ? `${told} is recorded: it had been sent when you cancelled.` : `${told}: ${why}`);
    tellOutcomes();
    return;
  }
  $("ask-go").disabled = false;
  $("ask-error").hidden = why === null;
  $("ask-error").textContent = why ?? "";
  if (why === null) dialog.close();
};

/** Tell how wishes ended whose dialog was gone, until somebody closes it; behind an open dialog nobody would read it. */
function tellOutcomes() {
  const close = () => { outcomes.length = 0; tellOutcomes(); };
  for (const place of document.querySelectorAll(".outcomes")) {
    place.hidden = !outcomes.length;
    fill(place, outcomes.length ? [...outcomes.map((text) => h("p", {}, text)), h("button", { type: "button", class: "plain small", onclick: close }, "Close")] : []);
  }
}

/** Send something; return null, or why it was not taken. The same id makes a second try harmless. */
async function post(path, body) {
  try {
    const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(10_000) });
    if (answer.ok) return null;
    const told = await answer.json().catch(() => ({}));
    return told.error ?? `It was refused (${answer.status}).`;
  } catch {
    return "The page can't reach its server, so perhaps nothing was recorded. Try again, or use the button on the machine.";
  }
}

// --- Signing in

function signIn() {
  return [h("form", { class: "card sign-in", onsubmit: enter },
    h("h1", {}, "Sign in"), h("p", { class: "muted" }, "This page asks for the clinic's token."),
    h("label", { for: "token" }, "Token"), h("input", { id: "token", type: "password", autocomplete: "current-password", required: true }),
    h("p", { class: "error", id: "sign-error", role: "alert" }),
    h("div", { class: "buttons" }, h("button", { type: "submit" }, "Sign in")))];
}

async function enter(event) {
  event.preventDefault();
  const why = await post("api/sign-in", { token: $("token").value });
  if (why) $("sign-error").textContent = `${why[0].toUpperCase()}${why.slice(1)}.`;
  else location.reload();
}

$("sign-out").onclick = async () => {
  await post("api/sign-out", {});
  location.reload();
};

async function mayConnect() {
  try {
    const answer = await fetch("api/me", { signal: AbortSignal.timeout(5_000) });
    if (answer.ok) state.me = await answer.json();
  } catch { /* not there at the moment: the link will say so */ }
  $("sign-out").hidden = !(state.me.asks && state.me.signed_in);
  if (!state.me.signed_in) draw();
  return state.me.signed_in;
}

// --- Keys: / finds, Escape leads back, arrows walk through the tiles

addEventListener("keydown", (event) => {
  if (dialog.open || event.altKey || event.ctrlKey || event.metaKey) return;
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === "/" && !typing && $("find")) {
    event.preventDefault();
    $("find").focus();
  } else if (event.key === "Escape" && typing && state.find) {
    state.find = "";
    event.target.value = "";
    draw();
  } else if (event.key === "Escape" && !typing && state.route.look !== "fleet") {
    location.hash = "#/";
  } else if (event.key.startsWith("Arrow") && event.target.classList?.contains("tile")) {
    event.preventDefault();
    step(event.target, event.key);
  }
});

function step(from, key) {
  const tiles = [...main.querySelectorAll(".tile")], at = tiles.indexOf(from);
  if (key === "ArrowLeft" || key === "ArrowRight") return tiles[at + (key === "ArrowRight" ? 1 : -1)]?.focus();
  const box = from.getBoundingClientRect(), down = key === "ArrowDown";
  const beyond = (down ? tiles.slice(at + 1) : tiles.slice(0, at).reverse())
    .map((one) => [one, one.getBoundingClientRect()])
    .filter(([, other]) => (down ? other.top > box.top + 4 : other.top < box.top - 4));
  const row = beyond[0]?.[1].top;
  const inRow = beyond.filter(([, other]) => Math.abs(other.top - row) < 4);
  inRow.sort(([, a], [, b]) => Math.abs(a.left - box.left) - Math.abs(b.left - box.left));
  inRow[0]?.[0].focus();
}

addEventListener("resize", () => {
  clearTimeout(state.resizing);
  state.resizing = setTimeout(() => { draw(); drawAround(); }, 150);
});

const link = new Link(hear, drawLink, mayConnect);
readRoute();
link.connect();
setInterval(() => state.limits && state.route.look !== "fleet" && draw(), 5_000); // times pass although nothing happens
