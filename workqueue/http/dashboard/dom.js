// Making elements. Text is set, never parsed, so no name can become markup.
const SVG = "http://www.w3.org/2000/svg";

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === undefined) continue;
    made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
export const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

// `columns` are names; a name that ends in "#" holds numbers and is set flush right.
export function table(label, columns, rows, none = "none", most = 100) {
  if (!rows.length) return el("p", { class: "none" }, none);
  const numeric = columns.map((column) => column.endsWith("#"));
  const head = columns.map((column, k) => el("th", { scope: "col", class: numeric[k] && "number" }, column.replace("#", "")));
  const lines = rows.slice(0, most).map((row) => el("tr", {}, ...row.map((cell, k) =>
    el(k ? "td" : "th", k ? { class: numeric[k] && "number" } : { scope: "row" }, cell instanceof Node ? cell : String(cell)))));
  const made = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", {}, el("caption", { class: "unseen" }, label), el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...lines)));
  return rows.length > most ? el("div", {}, made, el("p", { class: "none" }, `and ${rows.length - most} more`)) : made;
}

// Put nodes where they differ from what is there, so that an unchanged table keeps its selection and focus.
export function put(place, ...nodes) {
  const next = el("div", {}, ...nodes);
  if (place.children.length === next.children.length && [...place.children].every((old, k) => old.isEqualNode(next.children[k]))) return;
  const scrolled = [...place.querySelectorAll(".scroll")].map((part) => part.scrollLeft);
  place.replaceChildren(...next.childNodes);
  place.querySelectorAll(".scroll").forEach((part, k) => { part.scrollLeft = scrolled[k] || 0; });
}

export const short = (digest) => (digest ? digest.slice(0, 10) : "-");
export const brief = (text) => text.replace(/\b([0-9a-f]{10})[0-9a-f]{54}\b/g, "$1");
export const clock = (ms) => (ms ? new Date(ms).toISOString().slice(5, 19).replace("T", " ") : "-");
export const number = (value) => (value >= 10000 ? value.toLocaleString("en") : String(value));

export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let k = 0;
  while (bytes >= 1000 && k < units.length - 1) { bytes /= 1000; k += 1; }
  return `${bytes.toFixed(k && bytes < 100 ? 1 : 0)} ${units[k]}`;
}

export function progress(report) {
  const of = report || {};
  for (const [done, total] of [["done", "total"], ["games", "games_total"], ["step", "steps"], ["games", "of"]]) {
    if (of[total] > 0 && done in of) {
      const text = `${of[done]} of ${of[total]}`;
      return el("span", { class: "progress" }, el("progress", { max: of[total], value: of[done], "aria-label": text }, text), ` ${text}`);
    }
  }
  return "-";
}

export function word(text, kind = "") {
  return el("span", { class: `word ${kind}` }, text);
}
