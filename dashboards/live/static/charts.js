// Charts: plain SVG, each with a sentence for those who do not see it. Shape tells what colour tells.

import { h, num, pct } from "./dom.js";

const H = 230, LEFT = 56, RIGHT = 12, TOP = 16, BOTTOM = 26;

/** Width of the chart that is being drawn, in px of the screen, so that its text is as large as all other text. */
let W = 560;

/** Draw over all of the main column, or over half of it. */
function sized(share, draw) {
  return (...told) => {
    const page = Math.min(innerWidth, 1560) - (innerWidth > 620 ? 44 : 28);
    const column = innerWidth > 980 ? (page - 14) * 0.667 : page;
    const half = column > 640 ? (column - 14) / 2 : column;
    W = Math.max(260, Math.round((share === "all" ? column : half) - 34));
    return draw(...told);
  };
}

function frame(label, ...children) {
  return h("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label }, children);
}

function scale(from, to, low, high) {
  return (value) => low + ((value - from) / (to - from || 1)) * (high - low);
}

/** Round steps for an axis, at most `most` of them. They are counted: steps of nothing would never end. */
function ticks(to, most = 4) {
  const rough = to / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let n = 0; n <= most && n * step <= to + 1e-9; n++) found.push(Number((n * step).toFixed(6)));
  return found;
}

function axes(y, to, unit, x0 = LEFT) {
  return ticks(to).map((value, n, all) => [
    h("line", { class: "rule", x1: x0, x2: W - RIGHT, y1: y(value), y2: y(value) }),
    h("text", { class: "tick end", x: x0 - 6, y: y(value) + 4 }, n === all.length - 1 ? `${num(value)} ${unit}` : num(value)),
  ]);
}

function repAxis(x, last, y) {
  const step = last > 24 ? 5 : last > 12 ? 2 : 1;
  const found = [];
  for (let n = 1; n <= last; n += step) found.push(h("text", { class: "tick mid", x: x(n), y }, String(n)));
  return found;
}

/** A line with its name at the left, or at the right where the left is taken. */
function limitLine(y, value, text, kind, right = false) {
  return [
    h("line", { class: `limit ${kind}`, x1: LEFT, x2: W - RIGHT, y1: y(value), y2: y(value) }),
    h("text", { class: `limit-text ${kind}${right ? " end" : ""}`, x: right ? W - RIGHT - 5 : LEFT + 5, y: y(value) - 5 }, text),
  ];
}

function points(xs, ys) {
  return xs.map((x, n) => `${x.toFixed(1)},${ys[n].toFixed(1)}`).join(" ");
}

/** Velocity loss of each rep of the set against the limit that ends it. */
export const lossChart = sized("all", (reps, limits, target) => {
  const known = reps.filter((rep) => rep.loss !== null);
  const last = Math.max(target ?? 0, reps.at(-1)?.n ?? 0, 8);
  const top = Math.max(limits.loss_stop * 1.5, ...known.map((rep) => rep.loss * 1.1));
  const x = scale(1, last, LEFT + 16, W - RIGHT - 16), y = scale(0, top, H - BOTTOM, TOP);
  const end = known.at(-1);
  const label = end ? `Velocity loss by repetition. Last, ${pct(Math.max(0, end.loss))}; the limit is ${pct(limits.loss_stop)}.`
    : `Velocity loss by repetition, none yet; the limit is ${pct(limits.loss_stop)}.`;
  return frame(label,
    h("rect", { class: "beyond", x: LEFT, width: W - RIGHT - LEFT, y: TOP, height: y(limits.loss_stop) - TOP }),
    axes(y, top, "%"),
    limitLine(y, limits.loss_amber, `caution ${num(limits.loss_amber)} %`, "caution"),
    limitLine(y, limits.loss_stop, `limit ${num(limits.loss_stop)} %`, "stop"),
    h("polyline", { class: "line", points: points(known.map((rep) => x(rep.n)), known.map((rep) => y(Math.max(rep.loss, 0)))) }),
    known.map((rep) => dot(x(rep.n), y(Math.max(rep.loss, 0)), rep.loss >= limits.loss_stop, rep === end)),
    reps.filter((rep) => !rep.valid).map((rep) => cross(x(rep.n), H - BOTTOM - 6)),
    end && h("text", { class: "value mid", x: x(end.n), y: y(Math.max(end.loss, 0)) - 11 }, pct(Math.max(0, end.loss))),
    repAxis(x, last, H - 8));
});

function dot(x, y, beyond, isLast) {
  if (beyond) {
    const r = isLast ? 6.5 : 5.5;
    return h("polygon", { class: "dot over", points: `${x},${y - r} ${x + r},${y} ${x},${y + r} ${x - r},${y}` });
  }
  return h("circle", { class: isLast ? "dot last" : "dot", cx: x, cy: y, r: isLast ? 5 : 3.6 });
}

function cross(x, y) {
  return h("path", { class: "cross", d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8` }, h("title", {}, "does not count"));
}

/** How long the way out took in each rep of a paced set, against the prescribed time. */
export const tempoChart = sized("all", (reps, limits, wanted, target) => {
  const known = reps.filter((rep) => rep.valid && rep.out_s !== null);
  const last = Math.max(target ?? 0, reps.at(-1)?.n ?? 0, 8);
  const limit = wanted ? wanted * limits.tempo_ratio : null;
  const top = Math.max((limit ?? 2) * 1.35, ...known.map((rep) => rep.out_s * 1.15));
  const x = scale(1, last, LEFT + 16, W - RIGHT - 16), y = scale(0, top, H - BOTTOM, TOP);
  const end = known.at(-1);
  const label = `Time of the way out by repetition.${end ? ` Last, ${num(end.out_s)} s.` : ""}${
    wanted ? ` Prescribed, ${num(wanted)} s; a sign of fatigue from ${num(limit)} s on.` : ""}`;
  return frame(label,
    limit && h("rect", { class: "beyond", x: LEFT, width: W - RIGHT - LEFT, y: TOP, height: Math.max(0, y(limit) - TOP) }),
    axes(y, top, "s"),
    wanted && limitLine(y, wanted, `prescribed ${num(wanted)} s`, "own"),
    limit && limitLine(y, limit, `sign of fatigue ${num(limit)} s`, "caution"),
    h("polyline", { class: "line", points: points(known.map((rep) => x(rep.n)), known.map((rep) => y(rep.out_s))) }),
    known.map((rep) => dot(x(rep.n), y(rep.out_s), limit !== null && rep.out_s > limit, rep === end)),
    reps.filter((rep) => !rep.valid).map((rep) => cross(x(rep.n), H - BOTTOM - 6)),
    end && h("text", { class: "value mid", x: x(end.n), y: y(end.out_s) - 11 }, `${num(end.out_s)} s`),
    repAxis(x, last, H - 8));
});

/** Force of the last rep over its concentric, against the patient's own reference. */
export const forceChart = sized("half", (curve, unit) => {
  const { force, own } = curve;
  const peak = Math.max(...force, ...own);
  const low = Math.min(0, ...force, ...own);
  const top = Math.max(peak, 0) * 1.12 || 1; // a load cell may say nothing but 0, or pull the other way
  const x = scale(0, 100, LEFT, W - RIGHT), y = scale(low, top, H - BOTTOM, TOP);
  const line = (values) => points(values.map((_, n) => x((100 * n) / (values.length - 1))), values.map(y));
  const label = `Force over the movement of repetition ${curve.n}: peak ${num(Math.max(...force))} ${unit}${
    own.length ? `, the patient's own reference peaks at ${num(Math.max(...own))} ${unit}` : ""}.`;
  return frame(label,
    axes(y, top, unit),
    h("polygon", { class: "area", points: `${x(0)},${y(Math.max(low, 0))} ${line(force)} ${x(100)},${y(Math.max(low, 0))}` }),
    own.length ? h("polyline", { class: "line reference", points: line(own) }) : null,
    h("polyline", { class: "line strong", points: line(force) }),
    h("text", { class: "tick", x: LEFT, y: H - 8 }, "start"),
    h("text", { class: "tick end", x: W - RIGHT, y: H - 8 }, "end of the way out"));
});

/** How far each rep went, in percent of the prescribed range. */
export const rangeBars = sized("half", (reps, limits, target) => {
  const last = Math.max(target ?? 0, reps.at(-1)?.n ?? 0, 8);
  const top = 120;
  const x = scale(0.5, last + 0.5, LEFT + 4, W - RIGHT), y = scale(0, top, H - BOTTOM, TOP);
  const width = Math.min(26, (x(2) - x(1)) * 0.62);
  const known = reps.filter((rep) => rep.rom !== null);
  const end = known.at(-1);
  const label = `Range by repetition in percent of the prescribed one.${end ? ` Last, ${pct(end.rom)}.` : ""
    } Right is ${num(limits.rom_low)} to ${num(limits.rom_high)} %.`;
  return frame(label,
    h("rect", { class: "band", x: LEFT, width: W - RIGHT - LEFT, y: y(limits.rom_high), height: y(limits.rom_low) - y(limits.rom_high) }),
    axes(y, top, "%"),
    known.map((rep) => {
      const kind = rep.rom < limits.rom_low ? "short" : rep.rom > limits.rom_high ? "far" : "fine";
      const up = y(Math.min(rep.rom, top));
      return [
        h("rect", { class: `bar ${kind}${rep === end ? " last" : ""}`, x: x(rep.n) - width / 2, width, y: up, height: H - BOTTOM - up, rx: 2 },
          h("title", {}, `${rep.n}: ${pct(rep.rom)}`)),
        kind === "short" && h("path", { class: "mark", d: `M${x(rep.n) - 4} ${up + 6}l4 5l4 -5` }),
        kind === "far" && h("path", { class: "mark", d: `M${x(rep.n) - 4} ${up + 11}l4 -5l4 5` }),
      ];
    }),
    limitLine(y, 100, "prescribed", "own", Boolean(end) && x(end.n) < LEFT + 110),
    end && h("text", { class: "value mid", x: x(end.n), y: y(Math.min(end.rom, top)) - 6 }, pct(end.rom)),
    repAxis(x, last, H - 8));
});

/** One number by session, oldest first: a small line. */
export function spark(values, { label, unit = "", low = null, high = null }) {
  const w = 240, hgt = 56, pad = 6;
  const known = values.map((value, n) => [n, value]).filter(([, value]) => value !== null && value !== undefined);
  if (known.length < 2) return null;
  const numbers = known.map(([, value]) => value);
  const from = Math.min(low ?? Infinity, ...numbers), to = Math.max(high ?? -Infinity, ...numbers);
  const spread = to - from || Math.abs(to) * 0.1 || 1;
  const x = scale(0, Math.max(values.length - 1, 1), pad, w - pad);
  const y = scale(from - spread * 0.1, to + spread * 0.1, hgt - pad, pad);
  const [endAt, end] = known.at(-1);
  return h("svg", { class: "spark", viewBox: `0 0 ${w} ${hgt}`, role: "img",
    "aria-label": `${label} over ${known.length} sessions, from ${num(numbers[0], unit)} to ${num(end, unit)}.` },
    h("polyline", { class: "line", points: points(known.map(([n]) => x(n)), numbers.map(y)) }),
    known.map(([n, value]) => h("circle", { class: n === endAt ? "dot last" : "dot", cx: x(n), cy: y(value), r: n === endAt ? 3.6 : 2.2 })));
}

/** Right against left: 0 in the middle, the band that counts as even around it. */
export function balanceBar(si, band) {
  const w = 300, hgt = 46, x = scale(-45, 45, 8, w - 8);
  const at = x(Math.max(-45, Math.min(45, si)));
  const even = Math.abs(si) < band;
  const side = si > 0 ? "left" : "right";
  return h("svg", { class: "balance", viewBox: `0 0 ${w} ${hgt}`, role: "img",
    "aria-label": even ? `Balanced: ${num(si)} %, within ${num(band)} %.` : `The ${side} side is weaker: ${num(Math.abs(si))} %.` },
    h("rect", { class: "band", x: x(-band), width: x(band) - x(-band), y: 10, height: 16, rx: 3 }),
    h("line", { class: "axis", x1: 8, x2: w - 8, y1: 18, y2: 18 }),
    h("line", { class: "axis", x1: x(0), x2: x(0), y1: 8, y2: 28 }),
    even ? h("circle", { class: "dot last", cx: at, cy: 18, r: 6 })
      : h("polygon", { class: "dot over", points: `${at},10 ${at + 8},18 ${at},26 ${at - 8},18` }),
    h("text", { class: "tick", x: 8, y: 42 }, "right weaker"),
    h("text", { class: "tick mid", x: x(0), y: 42 }, "even"),
    h("text", { class: "tick end", x: w - 8, y: 42 }, "left weaker"));
}
