"""A client process of the peers' benchmark: the same sorts of load as on our own queue and log.

Reads its task as JSON, says READY, waits for a line, and prints one line of results. `run` starts such processes.
"""

import asyncio
import json
import sys
import time
from typing import Any

from benchmarks import clients, peers
from benchmarks.peers_servers import Servers, Session

SIZE = 200
CLAIMING = {"closed", "consume", "idle"}


class Load:
    """What one process does, and what it counted."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        self.batch = task.get("batch", 1)
        self.counts = {"enqueued": 0, "claimed": 0, "completed": 0, "empty": 0, "committed": 0}
        self.latencies: dict[str, list[float]] = {"enqueue": [], "claim": [], "complete": [], "commit": [], "idle": []}
        self.stop_at = 0.0

    @property
    def running(self) -> bool:
        """Whether there is time left."""
        return time.perf_counter() < self.stop_at

    async def session(self) -> Session:
        """Open one more session."""
        return await peers.connect(self.task["peer"], self.task["port"], self.task)

    async def _timed(self, name: str, work: Any) -> Any:
        started = time.perf_counter()
        found = await work
        if name != "claim" or found:
            self.latencies[name].append(time.perf_counter() - started)
        return found

    async def commit(self, session: Session) -> None:
        """Commit one batch after another."""
        while self.running:
            await self._timed("commit", session.commit(self.batch))
            self.counts["committed"] += self.batch

    async def idle_commit(self, session: Session) -> None:
        """Commit one value now and then."""
        while self.running:
            await self._timed("commit", session.commit(1))
            self.counts["committed"] += 1
            await asyncio.sleep(0.02)

    async def _enqueue(self, session: Session, count: int) -> None:
        await self._timed("enqueue", session.enqueue(count))
        self.counts["enqueued"] += count

    async def _claim(self, session: Session, limit: int) -> Any:
        found = await self._timed("claim", session.claim(limit))
        self.counts["claimed"] += len(found)
        self.counts["empty"] += not found
        return found

    async def _complete(self, session: Session, claimed: Any) -> None:
        await self._timed("complete", session.complete(claimed))
        self.counts["completed"] += len(claimed)

    async def closed(self, session: Session) -> None:
        """Enqueue, claim and complete one job after the other."""
        while self.running:
            await self._enqueue(session, 1)
            if claimed := await self._claim(session, 1):
                await self._complete(session, claimed)

    async def produce(self, session: Session) -> None:
        """Enqueue batches while the backlog is small."""
        while self.running:
            if self.counts["enqueued"] - self.counts["completed"] > self.task["backlog"]:
                await asyncio.sleep(0.001)
            else:
                await self._enqueue(session, self.batch)

    async def consume(self, session: Session) -> None:
        """Claim and complete batches."""
        while self.running:
            if claimed := await self._claim(session, self.batch):
                await self._complete(session, claimed)

    async def fill(self, session: Session) -> None:
        """Enqueue batches."""
        while self.running:
            await self._enqueue(session, self.batch)

    async def idle(self, session: Session) -> None:
        """Time from enqueueing to an idle worker that waits."""
        worker = await self.session()
        while self.running:
            waiting = asyncio.create_task(worker.claim(1))
            await asyncio.sleep(0.015)
            started = time.perf_counter()
            sending = asyncio.create_task(self._enqueue(session, 1))
            claimed = await waiting or await worker.claim(1)
            self.latencies["idle"].append(time.perf_counter() - started)
            await sending
            await self._complete(worker, claimed)
        await worker.close()

    async def run(self) -> dict[str, Any]:
        """Open the sessions, wait for the word, run, and return what was counted."""
        sorts = [sort for sort, count in self.task["sorts"].items() for _ in range(count)]
        sessions = [await self.session() for _ in sorts]
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        started = time.perf_counter()
        self.stop_at = started + self.task["seconds"]
        await asyncio.gather(*(getattr(self, sort)(session) for sort, session in zip(sorts, sessions, strict=True)))
        seconds, cpu_s = time.perf_counter() - started, time.process_time()
        for session in sessions:
            await session.close()
        return {"seconds": seconds, "cpu_s": cpu_s, "counts": self.counts, "latencies": self.latencies}


async def run(servers: Servers, processes: int, task: dict[str, Any]) -> tuple[list[dict[str, Any]], float]:
    """Run client processes side by side at the peer's leader; returns their results and the servers' CPU seconds."""
    await servers.empty()
    port = servers.port(await servers.leader())
    claiming = bool(CLAIMING & set(task["sorts"]))
    tasks = [
        {
            "peer": servers.name, "port": port, "size": SIZE, "run": f"r{time.time_ns():x}", "process": number,
            "consumer": number, "consumers": processes if claiming else 0, **task,
        }
        for number in range(processes)
    ]  # fmt: skip
    started = await clients.start("benchmarks.peers_load", tasks)
    before = servers.cpu_s()
    results = await clients.results(started, task["seconds"] + 120)
    return results, servers.cpu_s() - before


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(Load(json.loads(sys.argv[1])).run())) + "\n")
