// The status page: composes the sections and keeps them current through one stream.
import { el, put } from "/dashboard/dom.js";
import { Live, Refused } from "/dashboard/live.js";
import { audit, generations, models } from "/dashboard/models.js";
import * as views from "/dashboard/views.js";

const STEP_MS = 10000, SAMPLES_MAX = 360, EVENTS_MAX = 200, REFETCH_MS = 2000, DRAW_MS = 200;
const SECTIONS = ["Alerts", "Loop", "Queue", "Trends", "Running", "Workers", "Members", "Models", "Ratings", "Events", "Audit"];
const at = (id) => document.getElementById(id);
const places = {}, open = new Set();
let samples = [], events = [], live = null;

function layOut() {
  for (const name of SECTIONS) {
    const id = name.toLowerCase();
    places[id] = el("div", { class: id === "trends" ? "charts" : false });
    at("main").append(el("section", { id, "aria-labelledby": `${id}-title`, "aria-live": id === "alerts" && "polite" },
      el("h2", { id: `${id}-title` }, name), places[id]));
    at("nav").append(el("a", { href: `#${id}` }, name));
  }
}

function link(state) {
  const badge = at("link");
  badge.textContent = state;
  badge.className = `badge ${{ live: "good", polling: "warn", offline: "bad" }[state]}`;
  if (state === "offline") at("head").textContent = "this voter does not answer; trying again";
}

function show(status) {
  at("head").textContent = views.head(status);
  at("head").className = status.consensus.ready ? "" : "bad";
  for (const name of ["alerts", "loop", "queue", "running", "workers", "members", "ratings"]) put(places[name], ...views[name](status).filter(Boolean));
  const last = samples.at(-1);
  if (!last || Date.now() - last.at_ms >= STEP_MS) {
    samples = [...samples, views.sample(status)].slice(-SAMPLES_MAX);
    put(places.trends, ...views.trends(samples));
  }
}

// Calls a fetching function soon, and not again before it has ended and a pause has passed.
function later(work) {
  let planned = false, busy = false;
  const go = async () => {
    planned = false;
    busy = true;
    try { await work(); } catch (error) { if (error instanceof Refused) throw error; }
    setTimeout(() => { busy = false; if (planned) go(); }, REFETCH_MS);
  };
  return () => {
    if (planned) return;
    planned = true;
    if (!busy) go();
  };
}

const refetchModels = later(async () => {
  const rows = await live.get("/v1/models?limit=1000");
  put(places.models, generations(rows), ...models(rows, (path) => live.get(path), open));
  for (const each of places.models.querySelectorAll("button[aria-expanded=false]")) if (open.has(each.dataset.sha)) each.click();
});

const refetchAudit = later(async () => {
  try {
    put(places.audit, ...audit(await live.get("/v1/audit?limit=100")));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    put(places.audit, el("p", { class: "none" }, "needs a token of the role admin"));
  }
});

// A busy queue has thousands of events a second: what is drawn is the newest, a few times a second.
let drawing = 0;
function drawEvents() {
  drawing ||= setTimeout(() => { drawing = 0; put(places.events, ...views.feed(events)); }, DRAW_MS);
}

function happened(batch) {
  events = [...events, ...batch].slice(-EVENTS_MAX);
  drawEvents();
  if (batch.some((event) => /^(model|matches|audit)\./.test(event.name))) refetchModels();
  if (batch.some((event) => event.name.startsWith("audit."))) refetchAudit();
}

async function start(token) {
  live?.stop();
  live = new Live(token, { status: show, events: happened, link, gap: () => { refetchModels(); refetchAudit(); } });
  const mine = live;
  try {
    samples = (await mine.get("/v1/history")).samples;
    at("ask").hidden = true;
    at("forget").hidden = !token;
    put(places.events, ...views.feed(events));
    put(places.trends, ...views.trends(samples));
    refetchModels();
    refetchAudit();
    await mine.run();
  } catch (error) {
    if (mine !== live) return;
    if (error instanceof Refused) {
      forget();
      at("head").textContent = token ? error.message : "a token is needed to read";
    } else {
      link("offline");
      setTimeout(() => { if (mine === live) start(token); }, 2000);
    }
  }
}

function forget() {
  live?.stop();
  live = null;
  sessionStorage.removeItem("token");
  for (const place of Object.values(places)) place.replaceChildren();
  at("ask").hidden = false;
  at("forget").hidden = true;
  link("offline");
  at("head").textContent = "a token is needed to read";
  at("token").focus();
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = at("token").value.trim();
  at("token").value = "";
  sessionStorage.setItem("token", token);
  start(token);
});
at("forget").addEventListener("click", forget);
layOut();
if (sessionStorage.getItem("token")) start(sessionStorage.getItem("token"));
else forget();
