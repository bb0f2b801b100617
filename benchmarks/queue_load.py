"""One client process of the queue's benchmark: reads its task as JSON, waits for a line, prints one line of results."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from workqueue.client import Client
from workqueue.machine.commands import Claim, Complete, Completion, Enqueue, Free, JobSpec, Requirements
from workqueue.machine.outcomes import Completed, Enqueued, Granted, Settled

FREE = Free(1_000_000, 1_000_000, 1_000_000)
PAYLOAD = msgspec.Raw(msgspec.msgpack.encode({"id": 1, "t": 2, "d": os.urandom(180)}))
NOTHING = Requirements()


class Load:
    """What one process does, and what it counted."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        self.prefix = f"{task['run']}-{task['process']}"
        self.numbers = itertools.count()
        self.counts = {"enqueued": 0, "claimed": 0, "completed": 0, "empty": 0}
        self.latencies: dict[str, list[float]] = {"enqueue": [], "claim": [], "complete": []}
        self.stop_at = 0.0
        self.wanted = int(task.get("jobs", 1 << 60))  # by `fill`

    def client(self) -> Client:
        return Client(self.task["servers"], token=self.task["token"], ca=Path(self.task["ca"]))

    def jobs(self, count: int) -> Enqueue:
        kind, configs = self.task["kind"], self.task.get("configs", [""])
        return Enqueue(
            tuple(
                JobSpec(f"{self.prefix}-{number}", kind, PAYLOAD, configs[number % len(configs)], requires=NOTHING)
                for number in itertools.islice(self.numbers, count)
            )
        )

    async def enqueue(self, client: Client, count: int) -> None:
        started = time.perf_counter()
        [outcome] = await client.submit(self.jobs(count))
        assert isinstance(outcome, Enqueued), outcome
        self.latencies["enqueue"].append(time.perf_counter() - started)
        self.counts["enqueued"] += count

    async def claim(self, client: Client, limit: int, wait_ms: int, worker: str = "") -> Granted | None:
        worker = worker or self.task["worker"]
        started = time.perf_counter()
        outcome = await client.claim(Claim(worker, f"boot-{worker}", FREE, limit), wait_ms)
        if not isinstance(outcome, Granted):
            self.counts["empty"] += 1
            return None
        self.latencies["claim"].append(time.perf_counter() - started)
        self.counts["claimed"] += len(outcome.leases)
        return outcome

    async def complete(self, client: Client, granted: Granted, worker: str = "") -> None:
        done = tuple(Completion(lease.job, lease.attempt) for lease in granted.leases)
        started = time.perf_counter()
        [outcome] = await client.submit(Complete(worker or self.task["worker"], done))
        assert isinstance(outcome, Completed), outcome
        assert all(isinstance(each, Settled) for each in outcome.settled), outcome
        self.latencies["complete"].append(time.perf_counter() - started)
        self.counts["completed"] += len(done)

    @property
    def running(self) -> bool:
        return time.perf_counter() < self.stop_at

    # ---- what a coroutine of each sort does

    async def closed(self, client: Client) -> None:
        while self.running:
            await self.enqueue(client, 1)
            if granted := await self.claim(client, 1, 5_000):
                await self.complete(client, granted)

    async def produce(self, client: Client) -> None:
        while self.running:
            if self.counts["enqueued"] - self.counts["completed"] > self.task["backlog"]:
                await asyncio.sleep(0.001)
            else:
                await self.enqueue(client, self.task["batch"])

    async def consume(self, client: Client) -> None:
        while self.running:
            if granted := await self.claim(client, self.task["batch"], 500):
                await self.complete(client, granted)

    async def fill(self, client: Client) -> None:
        while self.running and self.wanted:
            count = min(self.task["batch"], self.wanted)
            self.wanted -= count
            await self.enqueue(client, count)

    async def paced_claims(self, client: Client, number: int) -> None:
        """A worker that claims, holds its job for a while, and completes it: as many a second as workers / hold."""
        hold_s, worker = self.task["hold_s"], f"{self.task['worker']}-{number}"
        await asyncio.sleep(hold_s * (number % 997) / 997)
        while self.running:
            if granted := await self.claim(client, 1, 5_000, worker):
                await asyncio.sleep(hold_s)
                await self.complete(client, granted, worker)

    async def idle(self, client: Client) -> None:
        async with self.client() as worker:
            latencies = []
            while self.running:
                waiting = asyncio.create_task(self.claim(worker, 1, 10_000))
                await asyncio.sleep(0.015)
                started = time.perf_counter()
                sending = asyncio.create_task(self.enqueue(client, 1))
                granted = await waiting
                latencies.append(time.perf_counter() - started)
                await sending
                assert granted
                await self.complete(worker, granted)
            self.latencies["idle"] = latencies

    async def run(self) -> dict[str, Any]:
        task = self.task
        connections = [self.client() for _ in range(task["connections"])]
        for client in connections:
            await client.__aenter__()
            await client.query("settings")
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        started = time.perf_counter()
        self.stop_at = started + task["seconds"]
        work, number = [], itertools.count()
        for sort, count in task["sorts"].items():
            for _ in range(count):
                at = next(number)
                client = connections[at % len(connections)]
                work.append(self.paced_claims(client, at) if sort == "paced_claims" else getattr(self, sort)(client))
        await asyncio.gather(*work)
        seconds, cpu_s = time.perf_counter() - started, time.process_time()
        for client in connections:
            await client.__aexit__()
        return {"seconds": seconds, "cpu_s": cpu_s, "counts": self.counts, "latencies": self.latencies}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(Load(json.loads(sys.argv[1])).run())) + "\n")
