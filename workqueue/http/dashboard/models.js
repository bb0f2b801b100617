// Models with their lineage and evidence, ratings over generations, and the audit: what is fetched, not pushed.
import { chart } from "/dashboard/charts.js";
import { brief, clock, el, short, size, table, word } from "/dashboard/dom.js";

const TONE = { champion: "good", rejected: "bad", revoked: "bad", retired: "warn" };

export function generations(models) {
  const configs = [...new Set(models.map((model) => model.config))].sort();
  const series = configs.map((config) => {
    const own = models.filter((model) => model.config === config).sort((a, b) => a.created_ms - b.created_ms);
    const points = own.map((model, k) => [k + 1, model.elo_milli / 1000, model]).filter(([, , model]) => model.games);
    return { name: config, points: points.map(([x, y, model]) =>
      [x, y, { text: `${short(model.sha256)}: ${Math.floor(y)} after ${model.games} games, ${model.status}`, strong: model.status === "champion" }]) };
  });
  return chart("Elo by generation", series, { xText: (x) => String(Math.round(x)), yText: (y) => String(Math.round(y)), fromZero: false });
}

// A button whose row of details lies below its own row.
function opener(sha, get, open) {
  const made = el("button", { type: "button", "aria-expanded": "false", "data-sha": sha }, "lineage, evidence");
  const show = async () => {
    const place = el("td", { colspan: "10" }, "loading…");
    made.closest("tr").after(el("tr", { class: "more" }, place));
    made.setAttribute("aria-expanded", "true");
    open.add(sha);
    try { place.replaceChildren(...described(await get(`/v1/models/${sha}`))); } catch (error) { place.textContent = String(error.message); }
  };
  made.addEventListener("click", () => {
    if (made.getAttribute("aria-expanded") === "false") { show(); return; }
    made.closest("tr").nextElementSibling.remove();
    made.setAttribute("aria-expanded", "false");
    open.delete(sha);
  });
  return made;
}

function described({ lineage, evidence, history, manifest }) {
  const steps = Object.entries(history).flatMap(([alias, moves]) => moves.map((move) => [clock(move.at_ms), alias, move.actor || "-", move.evidence.rule, move.reason || "-"]));
  const chain = el("ol", {}, ...lineage.map((sha) => el("li", {}, el("code", {}, sha))));
  return [el("h4", {}, "Descends from"), lineage.length ? chain : el("p", { class: "none" }, "no other model"),
    el("h4", {}, "Evidence"), evidence ? proof(evidence) : el("p", { class: "none" }, "none"),
    el("h4", {}, "Aliases"), table("Moves of aliases", ["at (UTC)", "alias", "by", "rule", "reason"], steps),
    el("details", {}, el("summary", {}, "Manifest"), el("pre", {}, JSON.stringify(manifest, null, 1)))];
}

function proof(evidence) {
  const floors = Object.entries(evidence.floors || {}).map(([name, [points, games, bar]]) => `${name}: ${points} of ${bar} needed in ${games} games`);
  const rows = [
    ["rule", evidence.rule],
    ["against", short(evidence.champion)],
    ["games", `${evidence.games}: ${evidence.wins} won, ${evidence.draws} drawn, ${evidence.losses} lost`],
    ["log-likelihood ratio", `${(evidence.llr_milli / 1000).toFixed(2)}, bound ${(evidence.bound_milli / 1000).toFixed(2)}`],
    ["floors", floors.join("; ") || "-"],
    ["matches", String((evidence.match_ids || []).length)],
    ["note", evidence.note || "-"],
  ];
  return el("dl", {}, ...rows.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
}

// `open` is the set of models whose details are shown; it outlives the table.
export function models(rows, get, open) {
  return [table("Models", ["model", "config", "status", "more", "elo#", "games#", "size#", "made (UTC)", "parent", "reason"], rows.map((m) =>
    [el("code", { title: m.sha256 }, short(m.sha256)), m.config, word(m.status, TONE[m.status] || ""), opener(m.sha256, get, open), Math.floor(m.elo_milli / 1000) || "-", m.games,
      size(m.size_bytes), clock(m.created_ms), m.parents.map(short).join(" ") || "-", m.reason || "-"]), "no model yet", 200)];
}

export function audit(rows) {
  return [table("Audit", ["number#", "at (UTC)", "by", "action", "about", "reason"],
    rows.map((a) => [a.seq, clock(a.at_ms), a.actor || "-", a.action, brief(a.subject), a.reason || "-"]), "nothing yet")];
}
