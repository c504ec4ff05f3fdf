// The pages: from what the server says to a tree of elements. No state in here.

import { balanceBar, forceChart, lossChart, rangeBars, spark, tempoChart } from "./charts.js";
import { ago, clock, glued, h, icon, num, pct, unseen, words } from "./dom.js";

export const STATES = {
  training: "Training", resting: "Resting", waiting: "Waiting to begin", idle: "Free", silent: "Silent", offline: "Offline", stopped: "Stopped",
};

const short = (key) => key.split("/").at(-1);
const placed = (key) => key.split("/").slice(-2).join("/");
const site = (key) => key.split("/").slice(0, -1).join(" / ");
const machineLink = (key) => `#/machine/${key}`;
const patientLink = (key) => `#/patient/${key}`;

// --- Fleet

/** One machine of the fleet. */
export function tile(one) {
  const busy = ["training", "resting"].includes(one.state);
  const loss = busy && one.loss !== undefined;
  const over = loss && one.loss >= one.limit;
  return h("li", { "data-key": one.key },
    h("a", { class: `tile ${one.state}`, href: machineLink(one.key) },
      icon(one.state),
      h("span", { class: "row" },
        h("span", { class: "name", title: one.key }, short(one.key)),
        one.alarms ? h("span", { class: "bell" }, icon("alarm"), h("span", { class: one.alarms > 1 ? null : "long" }, one.alarms), unseen(one.alarms === 1 ? " alarm" : " alarms")) : null),
      h("span", { class: "row line" },
        h("span", { class: "what" }, unseen(", "), busy && one.set !== undefined ? doing(one) : STATES[one.state]),
        loss ? h("span", { class: `loss${over ? " over" : ""}` }, unseen(", velocity loss "), `${over ? "▲ " : ""}${pct(Math.max(0, one.loss))}`) : null),
      one.patient ? h("span", { class: "who" }, unseen(", "), `${short(one.patient)}, ${words(one.exercise).toLowerCase()}`) : null,
      loss ? meter(one.loss, one.limit, over) : null));
}

/** What goes on: in words, and shorter where tiles are small. */
function doing(one) {
  const set = one.sets ? `${one.set}/${one.sets}` : String(one.set);
  const rep = `${one.rep}${one.target ? `/${one.target}` : ""}`;
  return one.state === "resting"
    ? [h("span", { class: "long" }, `Rest, set ${set}`), h("span", { class: "brief", "aria-hidden": "true" }, `rest ${set}`)]
    : [h("span", { class: "long" }, `Set ${set}, rep ${rep}`), h("span", { class: "brief", "aria-hidden": "true" }, `${set} · ${rep}`)];
}

function meter(loss, limit, over) {
  const at = Math.min(100, Math.max(0, (loss / (limit * 1.5)) * 100));
  return h("svg", { class: "meter", viewBox: "0 0 100 5", preserveAspectRatio: "none", "aria-hidden": "true" },
    h("rect", { class: over ? "full" : null, width: at, height: 5 }),
    h("line", { x1: 66.7, x2: 66.7, y1: 0, y2: 5 }));
}

const FILTERS = {
  all: ["All", () => true],
  session: ["In session", (one) => ["training", "resting", "waiting"].includes(one.state)],
  attention: ["Need attention", (one) => one.alarms > 0 || ["stopped", "silent"].includes(one.state)],
  away: ["Not there", (one) => ["offline", "silent"].includes(one.state)],
};

/** The head of the fleet: counts and filters. */
export function fleetHead(tiles, chosen, find, { onFilter, onFind }) {
  const count = (test) => tiles.filter(test).length;
  const busy = count(FILTERS.session[1]), stopped = count((one) => one.state === "stopped");
  const silent = count((one) => one.state === "silent"), offline = count((one) => one.state === "offline");
  return [
    h("div", { class: "grow" },
      h("h1", {}, "Fleet"),
      h("p", { class: "summary" },
        h("span", {}, h("b", {}, tiles.length), tiles.length === 1 ? " machine" : " machines"),
        h("span", {}, h("b", {}, busy), " in session"),
        stopped ? h("span", {}, h("b", {}, stopped), " stopped") : null,
        silent ? h("span", {}, h("b", {}, silent), " silent") : null,
        offline ? h("span", {}, h("b", {}, offline), " offline") : null)),
    h("div", { class: "filters", role: "group", "aria-label": "Which machines" },
      Object.entries(FILTERS).map(([name, [label, test]]) =>
        h("button", { type: "button", "aria-pressed": String(name === chosen), onclick: () => onFilter(name) }, `${label} ${count(test)}`))),
    h("label", { class: "find" }, unseen("Find a machine or patient"),
      h("input", { type: "search", id: "find", placeholder: "Find machine or patient ( / )", value: find, oninput: (event) => onFind(event.target.value) })),
  ];
}

/** The machines that are to be seen, by site. */
export function fleetSites(tiles, chosen, find) {
  const wanted = find.trim().toLowerCase();
  const seen = tiles.filter(FILTERS[chosen][1]).filter((one) => !wanted || `${one.key} ${one.patient ?? ""} ${one.exercise ?? ""}`.toLowerCase().includes(wanted));
  if (!seen.length) {
    return [h("p", { class: "empty" }, h("strong", {}, tiles.length ? "No machine is like that" : "No machine has been heard of yet"),
      tiles.length ? "Another filter or word may find it." : "As soon as one comes online it is shown here.")];
  }
  const sites = Map.groupBy ? Map.groupBy(seen, (one) => site(one.key)) : groupBy(seen, (one) => site(one.key));
  return [...sites].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, ones]) =>
    h("section", { class: "site", "data-key": name, "aria-label": name },
      h("h2", {}, name, h("span", {}, `${ones.length} of ${tiles.filter((one) => site(one.key) === name).length}`)),
      h("ul", { class: "grid" }, ones.sort((a, b) => short(a.key).localeCompare(short(b.key), "en", { numeric: true })).map(tile))));
}

function groupBy(items, of) {
  const groups = new Map();
  for (const item of items) groups.set(of(item), [...(groups.get(of(item)) ?? []), item]);
  return groups;
}

/** Alarms that nobody has acknowledged. */
export function alarmList(alarms, count, now, all, { onAll, onSeen }) {
  const few = innerWidth < 620 ? 1 : 3;
  const shown = all ? alarms : alarms.slice(0, few);
  return [
    h("ul", { class: all ? "all" : null }, shown.map((one) =>
      h("li", { "data-key": one.id }, icon("alarm"),
        h("span", { class: "what" }, h("a", { href: machineLink(one.machine) }, placed(one.machine)), ` ${glued(one.text)} `, h("span", { class: "muted" }, ago(one.at_ms, now))),
        h("button", { class: "plain small", type: "button", onclick: () => onSeen(one) }, "Acknowledge", unseen(` the alarm of ${placed(one.machine)}`))))),
    count > few ? h("p", { class: "more" },
      h("button", { class: "plain small", type: "button", "aria-expanded": String(all), onclick: onAll }, all ? "Show fewer" : `Show all ${count}`),
      all && count > alarms.length ? h("span", { class: "muted" }, `the newest ${alarms.length} are listed`) : null) : null,
  ];
}

// --- One machine

/** One machine: what happens there now, what the loop did about it, and why. */
export function machinePage(one, limits, now, { onStop, onSeen }) {
  if (!one.known) {
    return [h("p", { class: "empty" }, h("strong", {}, "This machine is not known here"),
      `Nothing that the log has kept of late comes from ${one.key}. When it comes online it appears here by itself. `,
      h("a", { href: "#/" }, "Back to the fleet"))];
  }
  const session = one.session;
  const runs = session && session.stage !== "over";
  return [
    h("div", { class: "head" },
      h("div", { class: "grow" },
        h("p", { class: "muted" }, h("a", { href: "#/" }, "Fleet"), ` / ${site(one.key)}`),
        h("h1", {}, short(one.key)),
        h("p", { class: "summary" },
          h("span", { class: `badge ${one.state}` }, icon(one.state), STATES[one.state]),
          one.model ? h("span", {}, one.model) : null,
          h("span", {}, one.heard_ms ? `heard ${ago(one.heard_ms, now)}` : "not heard yet"))),
      h("button", { class: "stop", type: "button", onclick: () => onStop(one) }, "STOP machine")),
    h("div", { class: "cards" },
      h("div", { class: "side two-thirds" }, sessionCards(one, session, runs, limits, now)),
      h("div", { class: "side third" },
        alarmCard(one, now, onSeen), askedCard(one, now), commandCard(one, now), noticeCard(one, now))),
  ];
}

function sessionCards(one, session, runs, limits, now) {
  if (!session) {
    return h("section", { class: "card" }, h("h2", {}, "Session"),
      h("p", { class: "empty" }, h("strong", {}, "Nobody is training here"), "The next session appears as soon as it is asked for."));
  }
  const plan = session.plan, last = session.reps.at(-1), paced = session.intent !== "max";
  return [
    h("section", { class: "card" },
      h("h2", {}, runs ? "Session" : "Last session", h("span", { class: "muted" }, ` since ${clock(session.since_ms, now)}`)),
      h("p", { class: "summary" },
        session.patient ? h("span", {}, h("a", { href: patientLink(session.patient) }, short(session.patient))) : h("span", {}, "patient not known yet"),
        session.exercise ? h("span", {}, words(session.exercise)) : null,
        session.side && session.side !== "both" ? h("span", {}, `${session.side} side`) : null,
        session.intent ? h("span", {}, session.intent === "max" ? "as fast as possible" : session.intent === "paced" ? "paced" : "intent unknown") : null,
        plan?.window ? h("span", {}, `range ${plan.window}`) : null,
        runs ? null : h("span", {}, `ended: ${words(session.ended_by ?? "over").toLowerCase()}`)),
      numbers(one, session, limits)),
    h("section", { class: "card" },
      h("h2", {}, paced ? "Tempo" : "Velocity loss", h("span", { class: "muted" }, ` set ${session.set || "–"}`)),
      session.reps.length ? (paced ? tempoChart(session.reps, limits, plan?.out_s ?? null, plan?.reps) : lossChart(session.reps, limits, plan?.reps))
        : h("p", { class: "empty" }, "The first repetition of the set draws this."),
      paced ? h("p", { class: "hint" }, "In a paced set velocity says nothing of fatigue; several signs together end it, a slowing way out is one.") : null),
    h("div", { class: "pair" },
      h("section", { class: "card" },
        h("h2", {}, "Force over the movement"),
        curveOf(one)),
      h("section", { class: "card" },
        h("h2", {}, "Range of each repetition"),
        session.reps.some((rep) => rep.rom !== null) ? rangeBars(session.reps, limits, plan?.reps)
          : h("p", { class: "empty" }, "No range yet."))),
    last ? h("section", { class: "card" }, h("h2", {}, `Last repetition, ${last.n}`, last.valid ? null : h("span", { class: "error" }, " does not count")),
      last.flags.length ? h("p", { class: "hint" }, last.flags.join(", ")) : null,
      h("dl", { class: "pairs" }, session.values.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))))) : null,
    h("section", { class: "card" }, h("details", {}, h("summary", {}, "All repetitions and sets as tables"), repTable(session, one), setTable(session, one))),
  ];
}

function numbers(one, session, limits) {
  const plan = session.plan, last = session.reps.at(-1);
  const loss = (last?.loss ?? null) === null ? null : Math.max(0, last.loss);
  const over = loss !== null && loss >= limits.loss_stop;
  const cells = [
    ["Set", h("span", {}, session.set || "–", plan ? h("small", {}, ` of ${plan.sets}`) : null)],
    ["Repetitions", h("span", {}, session.counted, plan ? h("small", {}, ` of ${plan.reps}`) : null)],
    ["Load", h("span", {}, num(session.load_N), h("small", {}, ` ${one.unit}`))],
  ];
  if (session.intent === "max") {
    cells.push(["Velocity loss", h("span", { class: over ? "over-limit" : null }, over ? "▲ " : "", pct(loss), h("small", {}, ` limit ${num(limits.loss_stop)} %`))]);
  }
  if (session.left && session.runs) {
    const [left, low, high] = session.left;
    cells.push(["Expected to go", h("span", {}, `${Math.max(0, Math.round(left))}`, h("small", {}, ` reps (${Math.max(0, Math.round(low))} to ${Math.round(high)})`))]);
  }
  if (session.pain !== null) cells.push(["Pain", h("span", {}, session.pain, h("small", {}, " of 10"))]);
  return h("dl", { class: "numbers" }, cells.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value))));
}

function curveOf(one) {
  const curve = one.curve;
  if (!curve) return h("p", { class: "empty" }, "The next repetition draws this.");
  if (!curve.force.length) return h("p", { class: "empty" }, `No curve of repetition ${curve.n}: ${curve.why}.`);
  return [forceChart(curve, one.unit),
    h("p", { class: "key" },
      h("span", {}, h("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" }, h("line", { class: "line strong", x1: 0, x2: 26, y1: 4, y2: 4 })), `repetition ${curve.n}`),
      curve.own.length ? h("span", {}, h("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" }, h("line", { class: "line reference", x1: 0, x2: 26, y1: 4, y2: 4 })), "the patient's own reference")
        : h("span", {}, "no reference of the patient's own yet"))];
}

function repTable(session, one) {
  return wide(`Repetitions of set ${session.set}`,
    h("thead", {}, h("tr", {}, ["Rep", "Loss", "Mean velocity", "Range", "Out", "Hold", "Back", "Peak force", "Remarks"].map((name, n) => h("th", { class: n < 8 ? "n" : null, scope: "col" }, name)))),
    h("tbody", {}, session.reps.map((rep) => h("tr", {},
      [rep.n, pct(rep.loss), num(rep.v, one.angle ? "rad/s" : "m/s"), pct(rep.rom), num(rep.out_s, "s"), num(rep.hold_s, "s"), num(rep.back_s, "s"), num(rep.peak, one.unit)].map((cell) => h("td", { class: "n nowrap" }, cell)),
      h("td", {}, rep.valid ? rep.flags.join(", ") : `does not count: ${rep.flags.join(", ")}`)))));
}

/** A table that may be wider than the screen: whoever has no mouse reaches it too, and moves it with the arrows. */
function wide(caption, head, body) {
  return h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: 0 },
    h("table", {}, h("caption", { class: "unseen" }, caption), head, body));
}

function setTable(session, one) {
  if (!session.done.length) return null;
  return wide("Sets that are over",
    h("thead", {}, h("tr", {}, ["Set", "Reps", "Load", "Loss", "Under load", "Exertion", "Remarks"].map((name, n) => h("th", { class: n < 6 ? "n" : null, scope: "col" }, name)))),
    h("tbody", {}, session.done.map((set) => h("tr", {},
      [set.n, `${set.valid}${set.target ? ` of ${set.target}` : ""}`, num(set.load_N, one.unit), pct(set.loss), num(set.tul_s, "s"), set.rpe === null ? "–" : `${set.rpe} of 10`].map((cell) => h("td", { class: "n nowrap" }, cell)),
      h("td", {}, set.incomplete ? "messages were lost" : "")))));
}

function alarmCard(one, now, onSeen) {
  if (!one.alarms.length) return null;
  return h("section", { class: "card" }, h("h2", {}, "Alarms"),
    h("ul", { class: "told" }, one.alarms.map((alarm) => h("li", { class: alarm.seen_by ? null : "alarm", "data-key": alarm.id },
      h("p", {}, glued(alarm.text)),
      h("p", { class: "meta" }, h("span", {}, clock(alarm.at_ms, now)),
        alarm.seen_by ? h("span", {}, `seen by ${alarm.seen_by}: ${alarm.seen_why}`) : null),
      alarm.seen_by ? null : h("button", { class: "plain small", type: "button", onclick: () => onSeen({ ...alarm, machine: one.key }) }, "Acknowledge")))));
}

const STATUS = {
  recorded: "in the log, no answer of the controller yet", sent: "sent to the machine, not confirmed yet", noted: "noted",
  applied: "the machine has stopped", rejected: "the machine refused", expired: "the machine did not answer",
};

function askedCard(one, now) {
  if (!one.asked.length) return null;
  return h("section", { class: "card" }, h("h2", {}, "Asked by operators"),
    h("ul", { class: "told" }, one.asked.map((asked) => {
      const stuck = asked.action === "stop" && asked.status === "recorded" && now - asked.at_ms > 5_000;
      return h("li", { class: asked.action, "data-key": asked.id },
        h("p", {}, `${asked.action === "stop" ? "STOP" : "Alarm acknowledged"} by ${asked.by}: ${asked.reason}`),
        h("p", { class: "meta" }, h("span", {}, clock(asked.at_ms, now)), h("span", { class: `outcome ${asked.status}` }, STATUS[asked.status])),
        stuck ? h("p", { class: "error" }, "No command followed. Use the button on the machine.") : null);
    })));
}

function commandCard(one, now) {
  return h("section", { class: "card" }, h("h2", {}, "Commands"),
    one.commands.length ? folded(one.commands.map((command) => commandItem(command, now)), 6) : h("p", { class: "muted" }, "None of late."));
}

/** A list of which only the beginning is open. */
function folded(items, open) {
  const rest = items.slice(open);
  return [h("ul", { class: "told" }, items.slice(0, open)),
    rest.length ? h("details", { class: "earlier" }, h("summary", {}, `${rest.length} earlier`), h("ul", { class: "told" }, rest)) : null];
}

function commandItem(command, now) {
  return h("li", { class: command.action, "data-key": command.id },
    h("p", {}, glued(command.text)),
    h("p", { class: "meta" }, h("span", {}, clock(command.at_ms, now)), h("span", { class: `outcome ${command.outcome ?? ""}` }, outcome(command)), h("span", {}, `rule ${words(command.rule).toLowerCase()}`)),
    command.evidence.length ? h("details", {}, h("summary", {}, "Evidence"),
      h("dl", { class: "evidence" }, command.evidence.map(([name, value]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, value)]))) : null);
}

function outcome(command) {
  if (command.outcome === null) return command.asks ? "waits for consent" : "not confirmed yet";
  return command.reason ? `${command.outcome}: ${command.reason}` : command.outcome;
}

function noticeCard(one, now) {
  if (!one.notices.length) return null;
  return h("section", { class: "card" }, h("h2", {}, "Notices"),
    folded(one.notices.map((notice) => h("li", { class: notice.severity, "data-key": notice.id },
      h("p", {}, notice.text), h("p", { class: "meta" }, h("span", {}, clock(notice.at_ms, now)), h("span", {}, notice.severity)))), 3));
}

// --- One patient

/** One patient: strength and balance by exercise, and the sessions. */
export function patientPage(one, limits, now) {
  const head = h("div", { class: "head" }, h("div", { class: "grow" },
    h("p", { class: "muted" }, h("a", { href: "#/" }, "Fleet"), ` / ${site(one.key)}`), h("h1", {}, `Patient ${short(one.key)}`),
    h("p", { class: "summary" }, one.at.length ? one.at.map((key) => h("span", {}, "trains now at ", h("a", { href: machineLink(key) }, placed(key)))) : h("span", {}, "not training now"))));
  if (!one.known) {
    return [head, h("p", { class: "empty" }, h("strong", {}, "Nothing is known of this patient"), "No session of theirs is among those that the page has read. Grafana looks back further.")];
  }
  const oldest = one.sessions.at(-1);
  const exercises = [...new Set([...one.sessions, ...one.assessments].map((row) => `${row.exercise} ${row.side}`))];
  return [head,
    h("div", { class: "cards" },
      exercises.map((name) => exerciseCard(name, one, limits)),
      h("section", { class: "card" }, h("h2", {}, "Sessions"),
        h("p", { class: "hint" }, oldest ? `The last ${one.sessions.length}, back to ${clock(oldest.at_ms, now)}; Grafana looks back further.` : "None yet."),
        sessionTable(one, now)))];
}

function exerciseCard(name, one, limits) {
  const of = (rows) => rows.filter((row) => `${row.exercise} ${row.side}` === name).reverse();
  const sessions = of(one.sessions), assessed = of(one.assessments), now = assessed.at(-1);
  const [exercise, side] = name.split(" ");
  const unit = one.units[sessions.at(-1)?.machine];
  const si = now?.symmetry_pct ?? sessions.at(-1)?.symmetry_pct ?? null;
  return h("section", { class: "card half", "data-key": name },
    h("h2", {}, words(exercise), side === "both" ? null : h("span", { class: "muted" }, ` ${side} side`)),
    h("dl", { class: "numbers wide" },
      h("div", {}, h("dt", {}, "Load"), h("dd", {}, num(now?.load_N ?? sessions.at(-1)?.load_N, unit), h("span", { class: "note" }, proposal(now, unit))),
        spark(sessions.map((row) => row.load_N), { label: "Load", unit })),
      h("div", {}, h("dt", {}, "Strength, against the own baseline"), h("dd", {}, strength(now), h("span", { class: "note" }, change(now))),
        spark(assessed.map((row) => row.strength_pct), { label: "Strength", unit: "%" })),
      h("div", {}, h("dt", {}, "Largest pain in a session"), h("dd", {}, sessions.at(-1)?.pain_max ?? "–", h("small", {}, " of 10")),
        spark(sessions.map((row) => row.pain_max), { label: "Pain", low: 0, high: 10 })),
      h("div", {}, h("dt", {}, "Right against left"), si === null ? h("dd", {}, "–", h("span", { class: "note" }, "not measured on this machine")) : [
        h("dd", {}, num(Math.abs(si), "%"), h("span", { class: "note" }, Math.abs(si) < limits.si_pct ? `balanced, within ${num(limits.si_pct)} %` : `${si > 0 ? "left" : "right"} side weaker`)),
        balanceBar(si, limits.si_pct)]),
      now?.extension_flexion ? h("div", {}, h("dt", {}, "Back against front"), h("dd", {}, num(now.extension_flexion), h("span", { class: "note" }, "extension over flexion torque"))) : null));
}

function proposal(now, unit) {
  return now?.proposed_N ? `model proposes ${num(now.proposed_N[0], unit)} (${num(now.proposed_N[1])} to ${num(now.proposed_N[2])})` : "no proposal of the model";
}

function strength(now) {
  return now?.strength_pct === null || now?.strength_pct === undefined ? "–" : num(now.strength_pct, "%");
}

function change(now) {
  if (now?.strength_pct === null || now?.strength_pct === undefined) return "learning, after three sessions";
  const band = now.detectable_pct === null ? "" : ` (±${num(now.detectable_pct)} % is chance)`;
  return now.change_pct ? `changed by ${num(now.change_pct, "%")}${band}` : `no detectable change${band}`;
}

function sessionTable(one, now) {
  return wide("Sessions",
    h("thead", {}, h("tr", {}, [["When"], ["Machine"], ["Exercise"], ["Load", 1], ["Sets", 1], ["Reps", 1], ["Loss", 1], ["Peak force", 1], ["Pain", 1], ["Exertion", 1], ["Rules and remarks"]].map(([name, n]) => h("th", { class: n ? "n" : null, scope: "col" }, name)))),
    h("tbody", {}, one.sessions.map((row) => h("tr", { "data-key": row.id },
      h("td", { class: "nowrap" }, clock(row.at_ms, now)),
      h("td", {}, h("a", { href: machineLink(row.machine) }, short(row.machine))),
      h("td", {}, `${words(row.exercise)}${row.side === "both" ? "" : `, ${row.side}`}`),
      h("td", { class: "n nowrap" }, num(row.load_N, one.units[row.machine])), h("td", { class: "n" }, row.sets), h("td", { class: "n nowrap" }, `${row.valid_reps}${row.target ? ` of ${row.target}` : ""}`),
      h("td", { class: "n nowrap" }, pct(row.loss_pct)), h("td", { class: "n nowrap" }, num(row.peak_force, one.units[row.machine])), h("td", { class: "n nowrap" }, pain(row)), h("td", { class: "n" }, row.rpe_max ?? "–"),
      h("td", {}, [row.rules.replaceAll("_", " "), row.incomplete ? "messages were lost" : "", row.ended_by === "done" ? "" : `ended: ${words(row.ended_by).toLowerCase()}`].filter(Boolean).join("; "))))));
}

function pain(row) {
  if (row.pain_max === null) return "–";
  return row.pain_start === null || row.pain_start === row.pain_max ? String(row.pain_max) : `${row.pain_start} → ${row.pain_max}`;
}

// --- Dead letters and health

/** What could not be understood, and why. */
export function lettersPage(one, now) {
  return [
    h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, "Dead letters"),
      h("p", { class: "muted" }, "What could not be understood is kept in the log as it came. It was acknowledged, and nothing waits for it."))),
    one.letters.length ? h("div", { class: "cards" },
      h("section", { class: "card" }, h("h2", {}, "Why"), h("dl", { class: "pairs" }, one.reasons.map(([reason, count]) => h("div", {}, h("dt", {}, words(reason)), h("dd", {}, count))))),
      h("section", { class: "card" }, h("h2", {}, one.letters.length > 1 ? `The last ${one.letters.length}` : "The last"),
        wide("Dead letters",
          h("thead", {}, h("tr", {}, ["When", "From", "Stage", "Reason", "Place", "Source", "Bytes"].map((name, n) => h("th", { class: n === 6 ? "n" : null, scope: "col" }, name)))),
          h("tbody", {}, one.letters.map((letter) => h("tr", { "data-key": letter.place },
            h("td", { class: "nowrap" }, clock(letter.at_ms, now)), h("td", {}, letter.key), h("td", {}, letter.stage),
            h("td", {}, h("b", {}, words(letter.reason)), letter.is_defect ? h("span", { class: "error" }, " a defect of ours") : null, h("br"), letter.detail),
            h("td", { class: "nowrap" }, letter.place), h("td", {}, letter.source || "–"), h("td", { class: "n" }, letter.size)))))))
      : h("p", { class: "empty" }, h("strong", {}, "No dead letters"), "Everything that the page has read was understood."),
  ];
}

/** How the loop is. */
export function healthPage(figures, now) {
  const { states, commands } = figures;
  const closed = ["applied", "rejected", "expired"].map((name) => [words(name), commands[name] ?? 0]);
  const behind = figures.behind_ms;
  return [
    h("div", { class: "head" }, h("div", { class: "grow" }, h("h1", {}, "Health"),
      h("p", { class: "muted" }, "As far as this page can tell from the log. Prometheus and Grafana have the meters of every role."))),
    h("div", { class: "cards" },
      h("section", { class: "card third" }, h("h2", {}, "Log"),
        figures.refused ? h("p", { class: "error" }, `Can't be read: ${figures.refused}`) : h("p", {}, figures.caught_up ? "Read to its end, live." : "Being read, not at its end yet."),
        h("p", { class: "hint" }, figures.unread ? `${figures.unread} records could not be understood here.` : "Every record was understood.")),
      h("section", { class: "card third" }, h("h2", {}, "Controller"),
        h("p", { class: behind > 5_000 ? "error" : null }, behind > 1_000 ? `${num(behind / 1000, "s")} behind the machines` : "Keeps up with the machines."),
        h("p", { class: "hint" }, "Newest repetition against the newest that was measured.")),
      h("section", { class: "card third" }, h("h2", {}, "Roles in this process"),
        Object.keys(figures.roles).length ? h("dl", { class: "pairs" }, Object.entries(figures.roles).map(([name, ready]) => h("div", {}, h("dt", {}, name), h("dd", { class: ready ? null : "error" }, ready ? "ready" : "not ready"))))
          : h("p", { class: "muted" }, "Only this page; each other role answers /readyz in its own.")),
      h("section", { class: "card half" }, h("h2", {}, "Machines"), h("dl", { class: "pairs" }, Object.entries(STATES).map(([name, label]) => h("div", {}, h("dt", {}, label), h("dd", {}, states[name] ?? 0))))),
      h("section", { class: "card half" }, h("h2", {}, "Commands since the page looks"),
        h("dl", { class: "pairs" }, [["Issued", commands.issued ?? 0], ["Sent again", commands.repeated ?? 0], ...closed].map(([label, count]) => h("div", {}, h("dt", {}, label), h("dd", {}, count))))),
      h("section", { class: "card" }, h("h2", {}, "Topics"),
        wide("Topics of the log",
          h("thead", {}, h("tr", {}, [["Topic"], ["Read", 1], ["A second", 1], ["Last record"], ["State"]].map(([name, n]) => h("th", { class: n ? "n" : null, scope: "col" }, name)))),
          h("tbody", {}, figures.topics.map((topic) => h("tr", {}, h("td", {}, topic.topic), h("td", { class: "n" }, topic.records), h("td", { class: "n" }, num(topic.per_s)),
            h("td", {}, topic.last_ms ? ago(topic.last_ms, now) : "–"), h("td", {}, topic.caught_up ? "at its end" : "catching up"))))))),
  ];
}
