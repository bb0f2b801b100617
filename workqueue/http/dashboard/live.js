// One stream for all: events by number, and the status document whenever it changed. When the stream breaks it is
// opened again after the last number seen, and until it is open the status is asked for now and then.
const POLL_MS = 2500, RETRY_MS = [500, 1000, 2000, 5000], SILENCE_MS = 30000;

export class Refused extends Error {}

export class Live {
  constructor(token, { status, events, gap, link }) {
    this.headers = { Authorization: `Bearer ${token}` };
    this.on = { status, events, gap, link };
    this.last = -1;
    this.tries = 0;
    this.stopped = new AbortController();
  }

  stop() { this.stopped.abort(); }

  async get(path) {
    const answer = await fetch(path, { headers: this.headers, signal: this.stopped.signal });
    if (answer.status === 401 || answer.status === 403) throw new Refused((await answer.json()).detail);
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
    return answer.json();
  }

  async run() {
    while (!this.stopped.signal.aborted) {
      try {
        await this.listen();
      } catch (error) {
        if (error instanceof Refused || this.stopped.signal.aborted) throw error;
      }
      await this.fallBack(RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)]);
    }
  }

  async fallBack(ms) {
    this.on.link("polling");
    const until = Date.now() + ms;
    if (!this.polled || Date.now() - this.polled > POLL_MS) {
      this.polled = Date.now();
      try { this.on.status(await this.get("/status")); } catch (error) {
        if (error instanceof Refused) throw error;
        this.on.link("offline");
      }
    }
    await new Promise((resolve) => { setTimeout(resolve, Math.max(0, until - Date.now())); });
  }

  async listen() {
    const headers = this.last >= 0 ? { ...this.headers, "Last-Event-ID": String(this.last) } : this.headers;
    const silence = new AbortController();
    const stop = () => silence.abort();
    this.stopped.signal.addEventListener("abort", stop);
    let timer = setTimeout(stop, SILENCE_MS);
    try {
      const answer = await fetch("/v1/events?status=1", { headers, signal: silence.signal });
      if (answer.status === 401 || answer.status === 403) throw new Refused((await answer.json()).detail);
      if (!answer.ok) throw new Error(`events answered ${answer.status}`);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let left = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(stop, SILENCE_MS);
        this.tries = 0;
        this.on.link("live");
        const blocks = (left + value).split("\n\n");
        left = blocks.pop();
        this.take(blocks);
      }
    } finally {
      clearTimeout(timer);
      this.stopped.signal.removeEventListener("abort", stop);
    }
  }

  take(blocks) {
    const events = [];
    for (const block of blocks) {
      const field = {};
      for (const line of block.split("\n")) {
        const at = line.indexOf(": ");
        if (at > 0) field[line.slice(0, at)] = line.slice(at + 2);
      }
      if (!field.data) continue;
      const data = JSON.parse(field.data);
      if (field.event === "status") {
        if (this.last < 0) this.last = data.state.last_seq; // where a first stream began
        this.on.status(data);
      } else if (field.event === "gap") {
        this.last = data.next - 1;
        this.on.gap(data);
      } else {
        this.last = Number(field.id);
        events.push(data);
      }
    }
    if (events.length) this.on.events(events);
  }
}
