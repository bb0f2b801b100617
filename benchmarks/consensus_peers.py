"""The same requests to our log and to the peers that are installed, in turn at every point."""

import asyncio
from pathlib import Path
from typing import Any

from benchmarks import peers, peers_load
from benchmarks.consensus_cluster import Voters, load1, voters
from benchmarks.consensus_requests import Options, client_load, idle_load, measured
from benchmarks.facts import milliseconds
from benchmarks.peers_servers import Servers

COMPARED = ((1, 1), (1, 64), (1, 256), (10, 16), (100, 8), (100, 16), (1000, 4))  # from client processes, with peers
SETTLE_S = 3.0  # what a load leaves to do, such as compaction, is nobody else's
IDLE_ROUNDS = 3


async def compared(options: Options, folder: Path) -> dict[str, Any]:
    """The same requests from client processes to us and to each peer that is installed, one after another."""
    rows: dict[str, Any] = {}
    async with peers.running(folder) as others, voters(folder, options.voters, **options.raft) as cluster:
        for batch, outstanding in COMPARED:
            point = f"{batch}x{outstanding}"
            await asyncio.sleep(SETTLE_S)
            work = client_load(cluster, outstanding, options.seconds, batch)
            ours = rows[f"rift {point}"] = await measured(cluster, work)
            for name, servers in others.items():
                await asyncio.sleep(SETTLE_S)
                row = rows[f"{name} {point}"] = await _peer(servers, batch, outstanding, options.seconds)
                row["rift_times_as_many"] = round(ours["ops_s"] / row["ops_s"], 2)
        rows |= await _idle_in_turn(options, cluster, others)
    return rows


async def _idle_in_turn(options: Options, cluster: Voters, others: dict[str, Servers]) -> dict[str, Any]:
    """Everybody's commit latency without load, several times in turn: what a load leaves to do is over by then."""
    await asyncio.sleep(SETTLE_S)
    latencies: dict[str, list[float]] = {name: [] for name in ("rift", *others)}
    for _ in range(IDLE_ROUNDS):
        latencies["rift"] += await idle_load(cluster, options.seconds)
        for name, servers in others.items():
            task = {"sorts": {"idle_commit": 1}, "seconds": options.seconds}
            results, _cpu_s = await peers_load.run(servers, 1, task)
            latencies[name] += results[0]["latencies"]["commit"]
    return {f"{name} idle": {**milliseconds(found), "load1": load1()} for name, found in latencies.items()}


async def _peer(servers: Servers, batch: int, outstanding: int, seconds: float) -> dict[str, Any]:
    processes = 2 if outstanding >= 8 else 1
    task = {"sorts": {"commit": outstanding // processes}, "batch": batch, "seconds": seconds}
    results, cpu_s = await peers_load.run(servers, processes, task)
    operations = sum(result["counts"]["committed"] for result in results)
    latencies = [value for result in results for value in result["latencies"]["commit"]]
    return {
        "ops_s": round(operations / max(result["seconds"] for result in results)),
        **milliseconds(latencies),
        "cpu_us_op_all": round(cpu_s / operations * 1e6, 2),
        "durable": servers.durable,
        "load1": load1(),
    }
