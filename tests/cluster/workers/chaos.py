"""Kills agents, runners and voters at random while jobs run, then counts every job's effect."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from tests.cluster.service.cluster import Cluster, cluster
from tests.cluster.workers.harness import Worker, workers_ended
from workqueue.errors import ClientError
from workqueue.machine.commands import Enqueue, JobSpec, RegisterKind, RetryPolicy
from workqueue.machine.outcomes import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workqueue.client import Client

VOTERS = 3
WORKERS = 3
STEPS = 8
PUBLISH_EVERY = 4
WAITING_MAX = 60  # so that little is left to end in peace


class Chaos:
    """A cluster, some workers, and a seeded hand that kills."""

    def __init__(self, made: Cluster, workers: Sequence[Worker], seed: int) -> None:
        self.made = made
        self.workers = workers
        self.chance = random.Random(seed)
        self.kills: Counter[str] = Counter()

    async def kill_for(self, seconds: float) -> None:
        """Kill something every other second; at most one voter is down at a time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(self.chance.uniform(0.5, 2.5))
            what = self.chance.choice(["agent", "runner", "runner", "voter"])
            done = await getattr(self, f"kill_{what}")()
            self.kills[what] += done

    async def kill_agent(self) -> bool:
        """kill -9 of an agent; it starts again a moment later."""
        worker = self.chance.choice(list(self.workers))
        await worker.kill()
        await asyncio.sleep(self.chance.uniform(0, 1))
        await worker.start()
        return True

    async def kill_runner(self) -> bool:
        """kill -9 of one runner."""
        runners = [runner for worker in self.workers for runner in worker.runners()]
        if not runners:
            return False
        with contextlib.suppress(psutil.Error):
            self.chance.choice(runners).kill()
        return True

    async def kill_voter(self) -> bool:
        """kill -9 of all of a voter's processes; it starts again a moment later."""
        voter = self.chance.choice(self.made.running())
        await self.made.kill(voter)
        await asyncio.sleep(self.chance.uniform(0.5, 3))
        await self.made.start(voter)
        return True


async def produce(client: Client, stop: asyncio.Event) -> int:
    """Keep jobs waiting until told to stop; returns how many were enqueued."""
    raw = msgspec.Raw(msgspec.msgpack.encode({"steps": STEPS, "step_ms": 40, "publish_every": PUBLISH_EVERY}))
    count = 0
    while not stop.is_set():
        jobs = [
            JobSpec(f"job-{count + index}", "fake", raw, lease_ms=6_000, retry=RetryPolicy(100, 100, 100))
            for index in range(10)
        ]
        with contextlib.suppress(ClientError):
            waiting = (await client.query("status"))["jobs"].get("available", {}).get("fake", 0)
            if waiting > WAITING_MAX:
                await asyncio.sleep(0.3)
                continue
            [outcome] = await client.submit(Enqueue(tuple(jobs)))
            assert not isinstance(outcome, Refused), outcome
            count += len(jobs)  # enqueueing an id again is a no-op, so a lost answer does no harm
        await asyncio.sleep(0.8)
    return count


async def wait_completed(client: Client, count: int, seconds: float) -> dict[str, int]:
    """Wait until every job has ended; returns how many ended how."""
    states: dict[str, int] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(ClientError):
            jobs = (await client.query("status"))["jobs"]
            states = {state: kinds.get("fake", 0) for state, kinds in jobs.items() if kinds.get("fake")}
            if states.get("completed", 0) + states.get("failed", 0) >= count:
                break
        await asyncio.sleep(0.5)
    return states


async def follow(client: Client, completed: Counter[str]) -> None:
    """Count completions by job, from the log's own events."""
    seen: set[int] = set()
    async for event in client.events(since=0):
        if event.name == "job.completed" and event.seq not in seen:
            seen.add(event.seq)
            completed[event.subject] += 1


async def check_effects(client: Client, count: int) -> tuple[int, int]:
    """(jobs whose result is whole, artifacts that results name and no voter holds)."""
    whole = missing = 0
    for index in range(count):
        job = await client.query("job", job=f"job-{index}")
        result: Any = job["result"]
        files = result["files"] if isinstance(result, dict) else msgspec.msgpack.decode(result)["files"]
        whole += len(files) == STEPS // PUBLISH_EVERY
        for name in files:
            artifact = await client.query("artifact", sha256=name)
            missing += len(artifact["holders"]) < 2
    return whole, missing


async def run(folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Kill for `seconds`, let the rest end in peace, and return what was counted."""
    async with cluster(folder / "voters", VOTERS) as made, made.client() as client:
        await client.submit(RegisterKind("fake"))
        urls = [voter.http for voter in made.voters]
        workers = [
            Worker(folder, f"w{index}", urls, made.created.worker_token, made.created.ca, ("--slots", "1"))
            for index in range(WORKERS)
        ]
        completed: Counter[str] = Counter()
        async with workers_ended(*workers), made.client() as watching:
            following = asyncio.create_task(follow(watching, completed))
            for worker in workers:
                await worker.start()
            chaos, stop = Chaos(made, workers, seed), asyncio.Event()
            producing = asyncio.create_task(produce(client, stop))
            await chaos.kill_for(seconds)
            stop.set()
            count = await producing
            states = await wait_completed(client, count, 60 + seconds)
            await asyncio.sleep(1)
            following.cancel()
            whole, missing = await check_effects(client, count)
    return {
        "seconds": seconds,
        "seed": seed,
        "kills": dict(chaos.kills),
        "jobs": count,
        "states": states,
        "whole_results": whole,
        "artifacts_missing": missing,
        "completed_events": len(completed),
        "completed_twice": sum(times > 1 for times in completed.values()),
    }
