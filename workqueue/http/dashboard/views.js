// What each section shows, from the status document.
import { chart } from "/dashboard/charts.js";
import { brief, clock, el, number, progress, short, size, span, table, word } from "/dashboard/dom.js";

const ENDED = new Set(["completed", "failed", "cancelled"]);
const ORDER = ["available", "running", "scheduled", "retryable", "held", "completed", "failed", "cancelled"];
const by = (key) => (a, b) => (a[key] < b[key] ? -1 : a[key] > b[key] ? 1 : 0);
const time = (ms) => new Date(ms).toISOString().slice(11, 19);
const milliseconds = (seconds) => (seconds === undefined ? "-" : `${(seconds * 1000).toFixed(1)} ms`);

export const standing = (w) => (!w.live ? "gone" : w.quarantined ? "quarantined" : w.drain ? "draining" : "live");
export const games = (running) => running.reduce((sum, job) => sum + ((job.progress || {}).games_s || 0), 0);

// The same fields as a sample of /v1/history.
export function sample({ state, latency }) {
  return {
    at_ms: Date.now(),
    jobs: Object.fromEntries(Object.entries(state.jobs).filter(([name]) => !ENDED.has(name))),
    games: Object.fromEntries(state.configs.map((f) => [f.config, f.games])),
    games_s: games(state.running),
    commit_p99_ms: (latency.commit.quantiles_s["0.99"] || 0) * 1000,
    claim_p99_ms: (latency.claim.quantiles_s["0.99"] || 0) * 1000,
  };
}

export function head({ consensus: c, voter }) {
  const up = c.voters.filter((each) => each.reachable).length;
  return `leader ${c.leader || "none"} · term ${c.term} · commit ${c.commit_index} · voters ${up}/${c.voters.length} · seen from ${voter}`;
}

export function alerts({ state }) {
  const raised = state.alerts.map((a) => [word(a.name, "bad"), a.key, a.detail, clock(a.since_ms)]);
  const halts = state.halts.map((h) => [word(h.scope, "warn"), h.reason, h.actor, clock(h.at_ms)]);
  return [table("Alerts", ["alert", "about", "detail", "since"], raised, "no alert"),
    halts.length ? table("Halts", ["halted", "reason", "by", "since"], halts) : null];
}

export function queue({ state, latency }) {
  const kinds = [...new Set(Object.values(state.jobs).flatMap(Object.keys))].sort();
  const rows = ORDER.filter((name) => state.jobs[name]).map((name) =>
    [name, ...kinds.map((kind) => number(state.jobs[name][kind] || 0)), number(Object.values(state.jobs[name]).reduce((a, b) => a + b, 0))]);
  const oldest = state.oldest_available_ms ? span(state.now_ms - state.oldest_available_ms) : "-";
  return [table("Jobs by state and kind", ["state", ...kinds.map((kind) => `${kind}#`), "all#"], rows, "no jobs"),
    el("p", { class: "facts" }, `oldest available job waits ${oldest}; claim p50 ${milliseconds(latency.claim.quantiles_s["0.5"])}, ` +
      `p99 ${milliseconds(latency.claim.quantiles_s["0.99"])}; commit p99 ${milliseconds(latency.commit.quantiles_s["0.99"])}; ` +
      `${number(state.artifacts)} artifacts, ${size(state.artifact_bytes)}`)];
}

function lines(samples, pick) {
  const found = new Map();
  for (const sample of samples) {
    for (const [name, value] of Object.entries(pick(sample))) {
      if (!found.has(name)) found.set(name, new Map());
      found.get(name).set(sample.at_ms, value);
    }
  }
  return [...found].sort().map(([name, values]) => ({ name, points: samples.map((s) => [s.at_ms, values.get(s.at_ms) || 0]) }));
}

function kinds(jobs) {
  const sums = {};
  for (const counts of Object.values(jobs)) for (const [kind, n] of Object.entries(counts)) sums[kind] = (sums[kind] || 0) + n;
  return sums;
}

const states = (jobs) => Object.fromEntries(Object.entries(jobs).map(([name, n]) => [name, Object.values(n).reduce((a, b) => a + b, 0)]));

const total = (sample) => Object.values(sample.games).reduce((a, b) => a + b, 0);

// Games that arrived as data, a second, over the two minutes before each sample.
function stored(samples) {
  let from = 0;
  return samples.map((sample) => {
    while (sample.at_ms - samples[from].at_ms > 120000) from += 1;
    const ms = sample.at_ms - samples[from].at_ms;
    return [sample.at_ms, ms ? Math.max(0, (total(sample) - total(samples[from])) * 1000 / ms) : 0];
  });
}

export function trends(samples) {
  const oneDigit = (value) => (value < 10 ? value.toFixed(1) : number(Math.round(value)));
  return [
    chart("Live jobs by state", lines(samples, (s) => states(s.jobs)), { xText: time, step: true }),
    chart("Live jobs by kind", lines(samples, (s) => kinds(s.jobs)), { xText: time, step: true }),
    chart("Games a second", [{ name: "reported by running jobs", points: samples.map((s) => [s.at_ms, s.games_s]) },
      { name: "stored, over two minutes", points: stored(samples) }], { xText: time, yText: (v) => v.toFixed(2) }),
    chart("Latency p99", [["commit", "commit_p99_ms"], ["claim", "claim_p99_ms"]].map(([name, key]) =>
      ({ name, points: samples.map((s) => [s.at_ms, s[key]]) })), { xText: time, yText: oneDigit, unit: "ms" }),
  ];
}

export function loop({ state }) {
  const rows = state.configs.map((f) => [f.config, number(f.games), number(f.games_new), f.trainings, (f.loss_milli / 1000).toFixed(3),
    number(f.matches), short(f.champion), Math.floor(f.elo_milli / 1000) || "-", f.candidates.length, f.promotions, f.halted || "-"]);
  return [table("Improvement loop", ["config", "games#", "new#", "trainings#", "loss#", "rated games#", "champion", "elo#", "candidates#",
    "promotions#", "halted"], rows, "no config yet")];
}

export function workers({ state }) {
  const jobs = new Map(state.running.map((job) => [job.id, job]));
  const rows = state.workers.map((w) => {
    const devices = (w.capability.devices || []).map(([name, mb]) => `${name} ${Math.round(mb / 1024)} GB`).join(", ");
    const running = w.running.map((id) => el("li", {}, id, " ", progress((jobs.get(id) || {}).progress)));
    const kind = { live: "good", quarantined: "bad", draining: "warn", gone: "" }[standing(w)];
    return [w.id, word(standing(w), kind), w.capability.cpus, devices || "-", running.length ? el("ul", {}, ...running) : "idle",
      w.completed, w.failed, w.node_faults, span(state.now_ms - w.seen_ms), w.reason || "-"];
  });
  return [table("Workers", ["worker", "standing", "cpus#", "devices", "runs", "completed#", "failed#", "node faults#", "silent#", "reason"], rows, "no worker has registered")];
}

export function running({ state }) {
  const rows = state.running.map((j) => [j.id, j.kind, j.config || "-", j.worker, j.attempt, span(state.now_ms - j.started_ms), progress(j.progress)]);
  return [table("Running jobs", ["job", "kind", "config", "worker", "attempt#", "for#", "progress"], rows, "no job runs")];
}

export function members({ consensus: c, membership, state }) {
  const voters = c.voters.map((v) => [v.id, v.id === c.leader ? word("leader", "good") : "follower", el("a", { href: `${v.url}/dashboard` }, v.url),
    v.reachable ? word("reachable", "good") : word("unreachable", "bad")]);
  const tone = { alive: "good", suspect: "warn", dead: "bad", left: "" };
  const rows = [...membership].sort(by("id")).map((m) => [m.id, m.role, word(m.state, tone[m.state]), m.via === "lease" ? "heartbeats" : "gossip",
    m.address || "-", m.observers, short(m.boot_id)]);
  const seen = new Set(membership.map((m) => m.id));
  for (const w of state.workers.filter((each) => !seen.has(each.id))) {
    rows.push([w.id, "worker", word(w.live ? "alive" : "gone", w.live ? "good" : ""), `leases, ${span(state.now_ms - w.seen_ms)} ago`, w.address || "-", 0, short(w.boot)]);
  }
  return [table("Voters", ["voter", "role", "address", "from here"], voters),
    table("Members", ["member", "role", "state", "known by", "address", "accusers#", "boot"], rows, "nobody is known")];
}

export function ratings({ state }) {
  return Object.entries(state.elo).flatMap(([name, rows]) => [el("h3", {}, name),
    table(`Ratings ${name}`, ["player", "elo#", "games#", "won#", "drawn#", "lost#"],
      rows.map((r) => [brief(r.player), Math.floor(r.elo_milli / 1000), r.games, r.wins, r.draws, r.losses]))]);
}

export function feed(events) {
  const rows = [...events].reverse().map((e) => [e.seq, clock(e.at_ms), e.name, brief(e.subject), e.actor || "-",
    Object.entries(e.detail).map(([key, value]) => `${key}=${brief(String(value))}`).join(" ")]);
  return [table("Events", ["number#", "at (UTC)", "event", "about", "by", "detail"], rows, "nothing happened since this page was opened", 60)];
}
