"""The replicated log's speed: five processes, mutual TLS, fdatasync, operations of 200 bytes.

    python -m benchmarks.consensus                            # everything but `spurious` and `peers`, about six minutes
    python -m benchmarks.consensus --quick                    # the same in about a minute, for a first look
    python -m benchmarks.consensus --only peers               # us and the peers that are installed, in turn
    python -m benchmarks.consensus --only spurious --minutes 10

Prints a table with the goals and writes benchmarks/results/consensus.json; `peers` and `spurious` alone a file of their
own, as consensus-peers.json. In `peers` the same requests go from client processes to us and to those of etcd, RabbitMQ
quorum queues and NATS that are installed, in turn at every point.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.consensus_cluster import Asker, Voters, load1, voters
from benchmarks.consensus_peers import compared
from benchmarks.consensus_requests import SIZE, Options, batch_load, client_load, measured, runs
from benchmarks.facts import ROOT, facts, milliseconds

ALONE = {"spurious", "peers"}  # whose figures have a file of their own
BATCHES = ((1, 1), (10, 16), (100, 1), (100, 8), (1000, 1), (1000, 4))  # operations in a request, outstanding requests
OUTSTANDING = (64, 256, 512)
GOALS: dict[str, tuple[str, float, str]] = {  # row -> (value, goal, whether more or less is better)
    "batches 1x1": ("ops_s", 1_366, ">="),
    "batches 10x16": ("ops_s", 38_000, ">="),
    "batches 100x8": ("ops_s", 87_000, ">="),
    "batches 1000x4": ("ops_s", 132_000, ">="),
    "clients 64": ("ops_s", 15_000, ">="),
    "clients 512": ("ops_s", 50_000, ">="),
    "idle": ("p50_ms", 1.0, "<="),
    "failover": ("p50_ms", 200.0, "<="),
    "failover p99": ("p99_ms", 500.0, "<="),
    "snapshot": ("stall_ms", 200.0, "<="),
    "recovery": ("loaded_s", 30.0, "<="),
    "spurious": ("elections", 0.0, "<="),
}


# ---- scenarios: name -> rows


async def batches(options: Options, folder: Path) -> dict[str, Any]:
    """Requests of 1 to 1,000 operations from inside the leader."""
    rows = {}
    async with voters(folder, options.voters, **options.raft) as cluster:
        await batch_load(cluster, 10, 8, 0.5)  # to be warm
        for batch, outstanding in BATCHES:
            work = batch_load(cluster, batch, outstanding, options.seconds)
            rows[f"batches {batch}x{outstanding}"] = await measured(cluster, work)
    return rows


async def clients(options: Options, folder: Path) -> dict[str, Any]:
    """Single operations from client processes over TCP."""
    rows = {}
    async with voters(folder, options.voters, **options.raft) as cluster:
        for outstanding in OUTSTANDING:
            work = client_load(cluster, outstanding, options.seconds)
            rows[f"clients {outstanding}"] = await measured(cluster, work)
    return rows


async def idle(options: Options, folder: Path) -> dict[str, Any]:
    """One operation now and then."""
    latencies = []
    async with voters(folder, options.voters, **options.raft) as cluster:
        for _ in range(int(options.seconds * 50)):
            found = await batch_load(cluster, 1, 1, 0.0)
            latencies += found["latencies"]
            await asyncio.sleep(0.02)
    return {"idle": {**milliseconds(latencies), "load1": load1()}}


async def failover(options: Options, folder: Path) -> dict[str, Any]:
    """kill -9 of the leader under a light load: until the first write acknowledged after it."""
    gaps: list[float] = []
    async with voters(folder, options.voters, **options.raft) as cluster:
        for trial in range(options.trials):
            gap = await _killed(cluster, trial)
            gaps.append(gap)
            print(f"  trial {trial}: {gap * 1000:.0f} ms", flush=True)
            await asyncio.sleep(0.5)
    found = {**milliseconds(gaps), "load1": load1()}
    return {"failover": found, "failover p99": found}


async def _killed(cluster: Voters, trial: int) -> float:
    """Write at every voter in a closed loop, kill the leader, and return the seconds until the next acknowledgement."""
    acks: list[float] = []
    stop = asyncio.Event()
    leader = await cluster.leader()
    writers = [asyncio.create_task(_write(cluster, n, f"f{trial}", acks, stop)) for n in cluster.ids]
    await asyncio.sleep(0.5 + 0.037 * (trial % 7))
    killed = time.perf_counter()
    await cluster.kill(leader)
    end = time.perf_counter() + 10
    while not (after := [at for at in acks if at > killed + 0.005]) and time.perf_counter() < end:
        await asyncio.sleep(0.005)
    stop.set()
    await asyncio.gather(*writers)
    await cluster.start(leader)
    if not after:
        raise RuntimeError("no write was acknowledged within 10 s of the kill")
    return after[0] - killed


async def _write(cluster: Voters, node_id: str, run: str, acks: list[float], stop: asyncio.Event) -> None:
    """Try a write at one voter every 2 ms; only the leader acknowledges."""
    task = {"batch": 1, "outstanding": 1, "seconds": 0.0, "size": SIZE, "run": f"{run}-{node_id}"}
    number = 0
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        async with cluster.asker(node_id) as asker:
            while not stop.is_set():
                number += 1
                found = await asker.ask("bench", {**task, "run": f"{task['run']}-{number}"})
                if found["latencies"]:
                    acks.append(time.perf_counter())
                await asyncio.sleep(0.002)


async def snapshot(options: Options, folder: Path) -> dict[str, Any]:
    """A snapshot of a queue with very many jobs, on the leader and on every follower, while commits go on."""
    row: dict[str, Any] = {"jobs": options.jobs}
    changes = {**options.raft, "snapshot_entries": 1 << 40, "snapshot_bytes": 1 << 40}
    async with voters(folder, options.voters, "queue", **changes) as cluster:
        leader = await cluster.leader()
        async with cluster.asker(leader) as asker:
            await asker.ask("fill", {"count": options.jobs, "batch": 1000, "size": SIZE})
        row["before"] = await _worst(cluster, leader, None, options.seconds)
        row["rss_mb_voter"] = _rss_mb(cluster.processes[leader].pid)
        row["stall_ms"] = await _worst(cluster, leader, leader, options.seconds)
        followers = [await _worst(cluster, leader, n, options.seconds) for n in cluster.ids if n != leader]
    row |= {"stall_ms_at_a_follower": max(followers, default=0.0), "load1": load1()}
    return {"snapshot": row}


async def _worst(cluster: Voters, leader: str, snapshot_of: str | None, seconds: float) -> float:
    """Commit one small request after another on the leader; return the longest, in ms, while a snapshot is written."""

    async def take() -> None:
        if snapshot_of is not None:
            async with cluster.asker(snapshot_of) as asker:
                await asker.ask("snapshot")

    taking = asyncio.create_task(take())
    longest = 0.0
    end = time.monotonic() + seconds
    async with cluster.asker(leader) as asker:
        while time.monotonic() < end or not taking.done():
            argument = {"batch": 1, "outstanding": 1, "seconds": 0.2, "size": SIZE, "run": f"s{next(runs)}"}
            found = await asker.ask("bench", argument)
            longest = max(longest, *found["latencies"])
    await taking
    return round(longest * 1000, 1)


def _rss_mb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) >> 10
    raise RuntimeError(f"no VmRSS of process {pid}")


async def recovery(options: Options, folder: Path) -> dict[str, Any]:
    """A voter starts again with a log of very many entries and no snapshot."""
    changes = {**options.raft, "snapshot_entries": 1 << 40, "snapshot_bytes": 1 << 40, "max_batch_commands": 1}
    async with voters(folder, options.voters, **{**changes, "inflight": 256}) as cluster:
        leader = await cluster.leader()
        async with cluster.asker(leader) as asker:
            await _fill_entries(asker, options.entries)
        follower = next(n for n in cluster.ids if n != leader)
        await _applied(cluster, follower, options.entries)
        await cluster.kill(follower)
        started = time.perf_counter()
        loaded_s = await cluster.start(follower)
        await _applied(cluster, follower, options.entries)
        ready_s = time.perf_counter() - started
    row = {"entries": options.entries, "loaded_s": round(ready_s, 2), "journal_read_s": round(loaded_s, 2)}
    return {"recovery": {**row, "load1": load1()}}


async def _fill_entries(asker: Asker, count: int) -> None:
    for done in range(0, count, 100_000):
        argument = {"batch": 1, "outstanding": 256, "seconds": 3600.0, "size": SIZE, "run": f"r{next(runs)}"}
        await asker.ask("bench", {**argument, "count": min(100_000, count - done)})


async def _applied(cluster: Voters, node_id: str, index: int) -> None:
    while (await cluster.status(node_id))["applied_index"] < index:
        await asyncio.sleep(0.05)


async def spurious(options: Options, folder: Path) -> dict[str, Any]:
    """Elections while every core is busy with something else and the cluster commits."""
    async with voters(folder, options.voters, **options.raft) as cluster:
        leader = await cluster.leader()
        term = (await cluster.status(leader))["term"]
        burners = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
            for _ in range(2 * (os.cpu_count() or 1))
        ]
        commits, end = 0, time.monotonic() + options.minutes * 60
        try:
            while time.monotonic() < end:
                with contextlib.suppress(RuntimeError, OSError):
                    commits += (await batch_load(cluster, 10, 4, 1.0))["operations"]
        finally:
            for burner in burners:
                burner.kill()
                await burner.wait()
        terms = [(await cluster.status(n))["term"] for n in cluster.ids]
    row = {"minutes": options.minutes, "elections": max(terms) - term, "commits": commits, "load1": load1()}
    return {"spurious": row}


SCENARIOS: dict[str, Callable[[Options, Path], Awaitable[dict[str, Any]]]] = {
    "batches": batches,
    "clients": clients,
    "idle": idle,
    "peers": compared,
    "failover": failover,
    "snapshot": snapshot,
    "recovery": recovery,
    "spurious": spurious,
}


# ---- the record


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the rows and their goals as text."""
    lines = [f"{'what':<22}{'measured':>14}  {'p50 ms':>9}{'p99 ms':>9}{'us/op leader':>14}{'us/op all':>11}  goal"]
    for name, row in rows.items():
        what, goal, relation = GOALS.get(name, ("ops_s" if "ops_s" in row else "p50_ms", 0.0, ""))
        value = row[what]
        met = "" if not relation else ("met" if (value >= goal) == (relation == ">=") or value == goal else "MISSED")
        wanted = f"{relation} {goal:,g}: {met}" if relation else ""
        columns = [f"{row[key]:>{width},g}" if key in row else " " * width for key, width in _COLUMNS]
        lines.append(f"{name:<22}{value:>14,g}  {''.join(columns)}  {wanted}")
    return "\n".join(lines)


_COLUMNS = (("p50_ms", 9), ("p99_ms", 9), ("cpu_us_op_leader", 14), ("cpu_us_op_all", 11))


async def run(options: Options, scratch: Path) -> dict[str, Any]:
    """Run the scenarios that were asked for."""
    asked = {name: str(value) for name, value in vars(options).items() if name != "out"}
    report: dict[str, Any] = {"machine": facts(), "options": asked, "rows": {}}
    for name in options.only.split(","):
        print(f"{name} ...", flush=True)
        report["rows"] |= await SCENARIOS[name](options, scratch / name)
    return report


def parse() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(name for name in SCENARIOS if name not in ALONE))
    parser.add_argument("--quick", action="store_true", help="small sizes and short times")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each point")
    parser.add_argument("--trials", type=int, default=50, help="kills of the leader")
    parser.add_argument("--entries", type=int, default=1_000_000, help="in the log that is recovered")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="in the state that is snapshotted")
    parser.add_argument("--minutes", type=float, default=10.0, help="of full load, for `spurious`")
    parser.add_argument("--voters", type=int, default=5)
    parser.add_argument("--election", default="", help="timeouts in ms, as 150-300")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(namespace=Options())
    unknown = set(options.only.split(",")) - set(SCENARIOS)
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))}: choose from {', '.join(SCENARIOS)}")
    if options.quick:
        options.seconds, options.trials, options.minutes = 1.0, 5, 0.5
        options.entries, options.jobs = 20_000, 20_000
    return options


if __name__ == "__main__":
    chosen = parse()
    with tempfile.TemporaryDirectory(prefix="riftq-bench-", dir=os.environ.get("RIFT_BENCH_DIR")) as folder:
        found = asyncio.run(run(chosen, Path(folder)))
    print(table(found["rows"]))
    alone = f"-{chosen.only}" if chosen.only in ALONE else ""
    out = chosen.out or ROOT / f"benchmarks/results/consensus{alone}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
