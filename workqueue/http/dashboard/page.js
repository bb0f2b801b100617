// The status page: polls /status and draws tables. Text is set, never parsed, so no name can become markup.
const PERIOD_MS = 1000;
const main = document.getElementById("main");
const head = document.getElementById("head");
const ask = document.getElementById("ask");
let token = sessionStorage.getItem("token") || "";

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

function section(title, columns, rows) {
  const made = element("section");
  made.append(element("h2", title));
  if (!rows.length) { made.append(element("p", "none")); return made; }
  const table = element("table");
  const first = table.createTHead().insertRow();
  for (const column of columns) first.append(element("th", column));
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const cell of row) {
      const place = line.insertCell();
      if (cell instanceof Node) place.append(cell); else place.textContent = cell;
    }
  }
  made.append(table);
  return made;
}

function bar(progress) {
  const made = element("progress");
  const p = progress || {};
  for (const [done, total] of [["done", "total"], ["games", "games_total"], ["step", "steps"], ["games", "of"]]) {
    if (p[total] > 0 && done in p) { made.max = p[total]; made.value = p[done]; return made; }
  }
  return made;
}

function show(status) {
  const { consensus: c, state: s } = status;
  const up = c.voters.filter((voter) => voter.reachable).length;
  head.textContent = `leader ${c.leader || "none"} · term ${c.term} · commit ${c.commit_index} · voters ${up}/${c.voters.length}`;
  head.className = c.ready ? "" : "bad";
  const kinds = [...new Set(Object.values(s.jobs).flatMap(Object.keys))].sort();
  const standing = (w) => (w.quarantined ? "quarantined" : w.drain ? "draining" : w.live ? "live" : "gone");
  main.replaceChildren(
    section("Alerts", ["name", "about", "detail"], s.alerts.map((a) => [a.name, a.key, a.detail])),
    section("Loop", ["config", "games", "trainings", "loss", "champion", "elo", "promotions"], s.configs.map((f) =>
      [f.config, f.games, f.trainings, f.loss_milli / 1000, f.champion.slice(0, 10) || "-", Math.floor(f.elo_milli / 1000), f.promotions])),
    section("Queue", ["state", ...kinds], Object.entries(s.jobs).map(([name, n]) => [name, ...kinds.map((k) => n[k] || 0)])),
    section("Running", ["job", "kind", "worker", "progress"], s.running.map((j) => [j.id, j.kind, j.worker, bar(j.progress)])),
    section("Workers", ["id", "state", "cpus", "running", "completed", "failed"], s.workers.map((w) =>
      [w.id, standing(w), w.capability.cpus, w.running.length, w.completed, w.failed])),
    ...Object.entries(s.elo).map(([name, rows]) => section(`Ratings ${name}`, ["player", "elo", "games"],
      rows.map((r) => [r.player.replace(/^([0-9a-f]{10})[0-9a-f]+/, "$1"), Math.floor(r.elo_milli / 1000), r.games]))),
    section("Voters", ["id", "url", "reachable"], c.voters.map((v) => [v.id, v.url, v.reachable ? "yes" : "no"])),
  );
}

async function poll() {
  let answer;
  try {
    answer = await fetch("/status", { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    if (answer.ok) { ask.hidden = true; show(await answer.json()); }
  } catch { head.textContent = "this voter does not answer"; head.className = "bad"; }
  if (answer && (answer.status === 401 || answer.status === 403)) {
    ask.hidden = false;
    head.textContent = "a token is needed to read (rift token create read)";
    return;
  }
  setTimeout(poll, PERIOD_MS);
}

ask.addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.getElementById("token").value.trim();
  sessionStorage.setItem("token", token);
  poll();
});
poll();
