// Building the page: elements from values, and one tree made to look like another without losing focus or scroll.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "use", "polyline", "polygon", "title"]);

/** Make an element; `props` are attributes, functions are listeners, children are elements or text. */
export function h(tag, props, ...children) {
  const made = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made[name] = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(9)) {
    if (child !== null && child !== undefined && child !== false) made.append(child);
  }
  return made;
}

const LISTENERS = ["onclick", "onsubmit", "oninput", "onchange"];
/** What a person has done to an element stays as it is. */
const KEPT = { DETAILS: ["open"], INPUT: ["value"] };

/** Make `old` look like `fresh`, changing as little as possible; children with a `data-key` keep their element. */
export function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  const kept = KEPT[old.nodeName] ?? [];
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !kept.includes(name)) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !kept.includes(name)) old.removeAttribute(name);
  }
  for (const name of LISTENERS) {
    if (old[name] !== fresh[name]) old[name] = fresh[name];
  }
  fill(old, [...fresh.childNodes]);
}

/** Make the children of an element look like these. */
export function fill(parent, children) {
  const byKey = new Map();
  for (const child of parent.children) {
    if (child.dataset?.key) byKey.set(child.dataset.key, child);
  }
  let place = parent.firstChild;
  for (const each of children.flat(9)) {
    if (each === null || each === undefined || each === false) continue;
    const child = each instanceof Node ? each : document.createTextNode(String(each));
    const same = child.dataset?.key ? byKey.get(child.dataset.key) : undefined;
    if (same) {
      byKey.delete(child.dataset.key);
      if (same === place) place = place.nextSibling;
      else parent.insertBefore(same, place);
      morph(same, child);
    } else if (place && !child.dataset?.key && !place.dataset?.key) {
      const next = place.nextSibling;
      morph(place, child);
      place = next;
    } else {
      parent.insertBefore(child, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

/** An icon of the sprite. */
export function icon(name) {
  return h("svg", { class: `icon i-${name}`, "aria-hidden": "true" }, h("use", { href: `#s-${name}` }));
}

/** Text for those who hear the page. */
export function unseen(text) {
  return h("span", { class: "unseen" }, text);
}

/** A number with three digits that count. */
export function num(value, unit = "") {
  if (value === null || value === undefined) return "–";
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  const text = Number(value.toFixed(Math.min(digits, 6))).toLocaleString("en", { useGrouping: false, maximumFractionDigits: 6 });
  return unit ? `${text} ${unit}` : text;
}

/** A whole percentage. */
export function pct(value) {
  return value === null || value === undefined ? "–" : `${Math.round(value)} %`;
}

/** How long ago, in words. */
export function ago(ms, now) {
  const s = Math.max(0, Math.round((now - ms) / 1000));
  if (s < 2) return "now";
  if (s < 90) return `${s} s ago`;
  if (s < 5400) return `${Math.round(s / 60)} min ago`;
  if (s < 129600) return `${Math.round(s / 3600)} h ago`;
  return `${Math.round(s / 86400)} days ago`;
}

/** A sentence in which no unit stands alone at the beginning of a line. */
export function glued(text) {
  return text.replace(/(\d) (%|N m|N|s|cm)(?![a-z])/g, (_, digit, unit) => `${digit}\u00a0${unit.replace(" ", "\u00a0")}`);
}

/** The time of day, or the date if it was another day. */
export function clock(ms, now) {
  const at = new Date(ms);
  const today = new Date(now).toDateString() === at.toDateString();
  return today ? at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" })
    : at.toLocaleString([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

/** A name without underscores, first letter large. */
export function words(name) {
  if (!name) return "";
  const text = name.replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}
