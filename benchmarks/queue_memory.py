"""What waiting jobs cost in memory: of the state machine alone, and of whole voters with their forked snapshots.

Part of `python -m benchmarks.queue --only memory`; by itself it measures a machine in this process and prints JSON:

    python -m benchmarks.queue_memory --kind bench --jobs 1000000
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.apply import Bench

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.cluster.service.cluster import Cluster

ROOT = Path(__file__).resolve().parents[1]
GOAL_MB = 2_000  # of a voter with a million jobs
BATCH = 500


def machine_alone(kind: str, jobs: int) -> dict[str, Any]:
    """Fill a state machine in this process; resident memory before and after."""
    bench = Bench(kind)
    gc.freeze()
    gc.set_threshold(50_000, 1 << 30, 1 << 30)  # as the voter's core does
    process = psutil.Process()
    before = process.memory_info().rss
    begun = time.process_time()
    for first in range(0, jobs, BATCH):
        bench.enqueue(first, min(BATCH, jobs - first))
    took = time.process_time() - begun
    assert len(bench.machine.ledger.jobs) == jobs
    rss = process.memory_info().rss
    return {
        "kind": kind,
        "jobs": jobs,
        "rss_mb": round(rss / 1e6),
        "bytes_a_job": round((rss - before) / jobs),
        "cpu_us_a_job": round(took * 1e6 / jobs, 1),
    }


async def machines(jobs: int) -> list[dict[str, Any]]:
    """Measure an open kind and selfplay, each in a fresh process."""
    rows = []
    for kind in ("bench", "selfplay"):
        command = (sys.executable, "-m", "benchmarks.queue_memory", "--kind", kind, "--jobs", str(jobs))
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        assert process.returncode == 0, f"{' '.join(command)} failed"
        rows.append(json.loads(out))
        print(f"  {rows[-1]}", flush=True)
    return rows


def shares_mb(voters: Cluster, voter: str) -> dict[str, int]:
    """Return the proportional memory (PSS) of each process of a voter: shared pages of a fork count once."""
    found: dict[str, int] = {}
    for process in voters.processes(voter):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            part = next((word.removeprefix("workqueue.") for word in words if word.startswith("workqueue.")), "voter")
            name = part
            while name in found:
                name += "'"  # its fork, which writes a snapshot
            found[name] = round(process.memory_full_info().pss / 1e6)
    return found


async def peak_mb(voters: Cluster, voter: str, work: Awaitable[object]) -> tuple[int, float]:
    """Return the largest sum of a voter's memory while `work` runs, and how long that took."""
    task = asyncio.ensure_future(work)
    begun, peak = time.perf_counter(), 0
    while not task.done():
        peak = max(peak, sum((await asyncio.to_thread(shares_mb, voters, voter)).values()))
        await asyncio.wait([task], timeout=0.2)
    await task
    return peak, round(time.perf_counter() - begun, 1)


async def whole_voters(voters: Cluster, jobs: int, fill: Callable[[int], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """Fill a cluster, have the leader write a snapshot, and start it again; memory of the leader's processes."""
    leader = await voters.wait_ready()
    filling = asyncio.ensure_future(fill(jobs))
    peak_fill, seconds = await peak_mb(voters, leader, filling)
    at_rest = await asyncio.to_thread(shares_mb, voters, leader)
    async with voters.client(only=leader, deadline_s=300) as client:
        peak_snapshot, snapshot_s = await peak_mb(voters, leader, client.cluster("snapshot"))
        known = sum((await client.query("status"))["jobs"]["available"].values())
    assert known >= jobs, f"only {known} of {jobs} jobs wait"
    await voters.kill(leader)
    begun = time.perf_counter()
    await voters.start(leader)
    await voters.wait_ready(600)
    return {
        "jobs": known,
        "fill_s": seconds,
        "enqueued_s": filling.result()["enqueued_s"],
        "mb_of_each_process": at_rest,
        "mb_at_rest": sum(at_rest.values()),
        "mb_peak_filling": peak_fill,
        "mb_peak_snapshot": peak_snapshot,
        "snapshot_s": snapshot_s,
        "restart_s": round(time.perf_counter() - begun, 1),
        "mb_after_restart": sum(shares_mb(voters, leader).values()),
        "goal_mb": GOAL_MB,
        "reached": sum(at_rest.values()) * 1_000_000 <= GOAL_MB * max(known, 1_000_000),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("bench", "selfplay"), default="bench")
    parser.add_argument("--jobs", type=int, default=1_000_000)
    options = parser.parse_args()
    print(json.dumps(machine_alone(options.kind, options.jobs)))
