"""Requests of operations to the replicated log, from inside its leader and from client processes, and their cost."""

import argparse
import asyncio
import itertools
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import clients
from benchmarks.consensus_cluster import Voters, load1
from benchmarks.facts import milliseconds
from consensus.ledger import Command

SIZE = 200  # bytes of an operation's value
runs = itertools.count(1)  # so that no two loads use the same keys


class Options(argparse.Namespace):
    """What was asked for on the command line."""

    quick: bool
    seconds: float
    trials: int
    entries: int
    jobs: int
    minutes: float
    voters: int
    election: str
    only: str
    out: Path | None

    @property
    def raft(self) -> dict[str, Any]:
        """Settings of the voters that differ from the defaults."""
        if not self.election:
            return {}
        low, high = map(int, self.election.split("-"))
        return {"election_ms": (low, high), "heartbeat_ms": max(10, min(50, low // 4))}


async def measured(cluster: Voters, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """Run a load; returns operations/s, latencies and CPU an operation of the leader and of all voters."""
    leader = await cluster.leader()
    before = await cluster.cpu_s()
    found = await work
    after = await cluster.cpu_s()
    used = {node_id: after[node_id] - before[node_id] for node_id in before}
    operations = found["operations"]
    return {
        "ops_s": round(operations / found["seconds"]),
        **milliseconds(found["latencies"]),
        "failed": found["failed"],
        "cpu_us_op_leader": round(used[leader] / operations * 1e6, 2),
        "cpu_us_op_all": round(sum(used.values()) / operations * 1e6, 2),
        "load1": load1(),
    }


async def batch_load(cluster: Voters, batch: int, outstanding: int, seconds: float) -> dict[str, Any]:
    """Make load inside the leader: requests of `batch` operations, so many outstanding."""
    task = {"batch": batch, "outstanding": outstanding, "seconds": seconds, "size": SIZE, "run": f"b{next(runs)}"}
    async with cluster.asker(await cluster.leader()) as asker:
        found: dict[str, Any] = await asker.ask("bench", task)
    return {**found, "operations": len(found["latencies"]) * batch}


async def client_load(cluster: Voters, outstanding: int, seconds: float, batch: int = 1) -> dict[str, Any]:
    """Make load from client processes over TCP: requests of `batch` operations, so many outstanding in all."""
    processes = 2 if outstanding >= 8 else 1
    connections = min(4, outstanding // processes)
    leader = await cluster.leader()
    tasks = [
        {
            "port": cluster.ports[leader],
            "connections": connections,
            "outstanding": outstanding // processes // connections,
            "seconds": seconds,
            "size": SIZE,
            "batch": batch,
            "run": f"c{next(runs)}-{number}",
        }
        for number in range(processes)
    ]
    results = await clients.results(await clients.start("benchmarks.consensus_load", tasks))
    latencies = [value for result in results for value in result["latencies"]]
    seconds = max(result["seconds"] for result in results)
    failed = sum(result["failed"] for result in results)
    return {"seconds": seconds, "latencies": latencies, "failed": failed, "operations": len(latencies) * batch}


async def idle_load(cluster: Voters, seconds: float) -> list[float]:
    """Commit one operation now and then from a client; returns the seconds that each took."""
    latencies: list[float] = []
    end = time.monotonic() + seconds
    async with cluster.asker(await cluster.leader()) as asker:
        for number in itertools.count(1):
            if time.monotonic() > end:
                break
            command = Command("idle", number, "put", "idle", bytes(SIZE))
            data = msgspec.msgpack.encode(command)
            started = time.perf_counter()
            await asker.ask("op", [data])
            latencies.append(time.perf_counter() - started)
            await asyncio.sleep(0.02)
    return latencies
