"""The queue's speed: five voters, durable, through real sockets with TLS.

    python -m benchmarks.queue                      # everything, about five minutes
    python -m benchmarks.queue --only closed,idle   # some of it
    python -m benchmarks.queue --only failover --trials 50   # the leader killed under load; five minutes
    python -m benchmarks.queue --only claims        # 1,000 workers claim while 100,000 jobs of 12 configs wait
    python -m benchmarks.queue --only memory --voters 1 --jobs 1000000   # what a million jobs cost; some minutes
    python -m benchmarks.queue --peers --only closed,pipeline,enqueue,idle   # each point also on etcd, RabbitMQ, NATS

Writes benchmarks/results/queue.json; `claims`, `failover` or `memory` alone a file of its own, as queue-claims.json.
Clients are processes of their own and talk to the leader, except in `failover`.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # else this file would be taken for the standard library's `queue`

import argparse  # noqa: E402
import asyncio  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import psutil  # noqa: E402

from benchmarks import clients, peers, peers_load, queue_memory  # noqa: E402
from benchmarks.facts import facts  # noqa: E402
from config.cluster import RaftSettings  # noqa: E402
from tests.cluster.service.cluster import Cluster, cluster  # noqa: E402
from workqueue.errors import ClientError  # noqa: E402
from workqueue.machine.commands import Capability, Enqueue, JobSpec, RegisterKind, RegisterWorker  # noqa: E402
from workqueue.machine.jobs import QUEUE_MAX  # noqa: E402
from workqueue.machine.outcomes import Enqueued, Registered  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.peers_servers import Servers

KIND = "bench"
BIG = Capability(1_000_000, 1_000_000, 1_000_000, kinds=(KIND,))
CONFIGS = [f"{board}_{players}p" for board in ("square8", "square19", "hexagonal", "hex8") for players in (2, 3, 4)]
PEERS: dict[str, Servers] = {}  # those that run beside our voters, by name
ALONE = {"claims", "failover", "memory"}  # whose figures have a file of their own
PEER_SORTS = {"closed", "produce", "consume", "fill", "idle"}
_runs = iter(range(1, 1 << 30))


def percentiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    return {f"p{p}_ms": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)] * 1000, 2) for p in (50, 99)} | {
        "max_ms": round(ordered[-1] * 1000, 2),
        "n": len(ordered),
    }


async def register(voters: Cluster, *workers: str) -> None:
    async with voters.client() as client:
        await client.submit(RegisterKind(KIND))
        for start in range(0, len(workers), 200):
            some = workers[start : start + 200]
            outcomes = await client.submit(*(RegisterWorker(name, f"boot-{name}", BIG) for name in some))
            assert all(isinstance(outcome, Registered) for outcome in outcomes), outcomes[:3]


async def run_load(voters: Cluster, processes: int, task: dict[str, Any]) -> dict[str, Any]:
    """Run client processes side by side; returns sums and percentiles."""
    run = next(_runs)
    leader = await voters.wait_ready()
    urls = [voter.http for voter in voters.voters if voter.id == leader or task.get("any_voter")]
    tasks = []
    for number in range(processes):
        worker = f"w{run}-{number}"
        if "paced_claims" in task["sorts"]:
            await register(voters, *(f"{worker}-{each}" for each in range(task["sorts"]["paced_claims"])))
        else:
            await register(voters, worker)
        own = {"run": f"r{run}", "process": number, "worker": worker, "kind": KIND, "servers": urls}
        tasks.append(own | {"token": voters.token(), "ca": str(voters.created.ca), **task})
    started = await clients.start("benchmarks.queue_load", tasks)
    before = cpu_seconds(voters)
    results = await clients.results(started)
    found = summary(results, cpu_seconds(voters) - before)
    if PEERS and set(task["sorts"]) <= PEER_SORTS:
        found["peers"] = {name: await run_peer(peer, processes, task) for name, peer in PEERS.items()}
    return found


async def run_peer(peer: Servers, processes: int, task: dict[str, Any]) -> dict[str, Any]:
    """Run the same load on a peer, right after ours."""
    results, cpu_s = await peers_load.run(peer, processes, task)
    return {**summary(results, cpu_s), "durable": peer.durable}


def cpu_seconds(voters: Cluster) -> float:
    total = 0.0
    for voter in voters.running():
        for process in voters.processes(voter):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:2])
    return total


def summary(results: list[dict[str, Any]], servers_cpu_s: float) -> dict[str, Any]:
    seconds = max(result["seconds"] for result in results)
    counts = {name: sum(result["counts"][name] for result in results) for name in results[0]["counts"]}
    names = {name for result in results for name in result["latencies"]}
    latencies = {name: [v for result in results for v in result["latencies"].get(name, [])] for name in sorted(names)}
    return {
        "seconds": round(seconds, 2),
        "enqueued_s": round(counts["enqueued"] / seconds),
        "completed_s": round(counts["completed"] / seconds),
        "counts": counts,
        "latency": {name: percentiles(values) for name, values in latencies.items() if values},
        "cores_servers": round(servers_cpu_s / seconds, 2),
        "cores_clients": round(sum(result["cpu_s"] for result in results) / seconds, 2),
        "load1": round(os.getloadavg()[0], 1),
    }


async def closed(voters: Cluster, seconds: float) -> dict[str, Any]:
    """W workers, each enqueues, claims and completes one job after the other."""
    found = {}
    for workers in (1, 16, 64):
        processes = 1 if workers == 1 else 2
        task = {"sorts": {"closed": workers // processes}, "connections": 1, "seconds": seconds}
        found[f"W={workers}"] = await run_load(voters, processes, task)
    return found


async def pipeline(voters: Cluster, seconds: float) -> dict[str, Any]:
    """16 producers and 16 consumers in batches of 100."""
    task = {"sorts": {"produce": 8, "consume": 8}, "connections": 2, "seconds": seconds, "batch": 100, "backlog": 5_000}
    return {"16+16, batch 100": await run_load(voters, 2, task)}


async def enqueue(voters: Cluster, seconds: float) -> dict[str, Any]:
    """Callers that only enqueue."""
    found = {}
    for callers, batch in ((1, 1), (64, 1), (1, 100), (16, 100)):
        processes = 1 if callers == 1 else 2
        task = {"sorts": {"fill": callers // processes}, "connections": 1, "seconds": seconds, "batch": batch}
        found[f"{callers} callers, batch {batch}"] = await run_load(voters, processes, task)
    return found


async def idle(voters: Cluster, seconds: float) -> dict[str, Any]:
    """A worker that waits on an empty queue gets a job."""
    return {"1 waiting": await run_load(voters, 1, {"sorts": {"idle": 1}, "connections": 1, "seconds": seconds})}


async def fill(voters: Cluster, jobs: int) -> dict[str, Any]:
    """Enqueue jobs of 12 configs."""
    return await run_load(
        voters,
        1,
        {"sorts": {"fill": 4}, "connections": 1, "seconds": 1800, "batch": 500, "jobs": jobs, "configs": CONFIGS},
    )


async def claims(voters: Cluster, seconds: float) -> dict[str, Any]:
    """Claims of 1,000 workers with 100,000 jobs of 12 configs pending."""
    filled = await fill(voters, 100_000)
    paced = {"sorts": {"paced_claims": 500}, "connections": 4, "seconds": max(seconds, 10), "hold_s": 5.0}
    claimed = await run_load(voters, 2, {**paced, "any_voter": True})
    rss = [round(sum(p.memory_info().rss for p in voters.processes(v)) / 1e6) for v in voters.running()]
    return {"fill": filled, "claims": claimed, "rss_mb_a_voter": rss}


async def memory(voters: Cluster, jobs: int) -> dict[str, Any]:
    """What pending jobs cost: state machines alone, then a leader with all its processes."""
    alone = await queue_memory.machines(jobs)
    most = min(jobs, QUEUE_MAX - 1_000)  # the loop adds jobs of its own
    whole = await queue_memory.whole_voters(voters, most, lambda count: fill(voters, count))
    return {"machines": alone, "voter": whole}


async def failover(folder: Path, trials: int) -> dict[str, Any]:
    """kill -9 of the leader under load of 500 enqueues/s: gap until the next acknowledgement; jobs lost and doubled."""
    gaps, lost, doubled, acked = [], 0, 0, 0
    async with cluster(folder / "failover", 5) as voters:
        for trial in range(trials):
            leader = await voters.wait_ready()
            await register(voters, *(f"t{trial}-f{n}" for n in range(4)))  # those of the last trial beat no more
            result = await _trial(voters, leader, trial)
            gaps.append(result["gap_s"])
            acked += result["acked"]
            lost += result["lost"]
            doubled += result["doubled"]
            await voters.start(leader)
            print(f"  trial {trial}: gap {result['gap_s'] * 1000:.0f} ms, acked {result['acked']}", flush=True)
    found = {"trials": trials, "gap": percentiles(gaps), "median_ms": round(statistics.median(gaps) * 1000)}
    return found | {"acknowledged": acked, "lost": lost, "doubled": doubled, "load1": round(os.getloadavg()[0], 1)}


async def _trial(voters: Cluster, leader: str, trial: int) -> dict[str, Any]:
    acks: dict[str, float] = {}
    completed: list[str] = []
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(voters.client(only="")) for _ in range(5)]
        producers = [
            asyncio.create_task(_produce(client, f"t{trial}-{n}", acks, stop)) for n, client in enumerate(clients)
        ]
        workers = [asyncio.create_task(_work(clients[n], f"t{trial}-f{n}", completed, acks, stop)) for n in range(4)]
        await asyncio.sleep(1.5)
        killed = time.perf_counter()
        await voters.kill(leader)
        await asyncio.sleep(2.5)
        stop.set()
        await asyncio.gather(*producers)
        async with asyncio.timeout(60):
            await asyncio.gather(*workers)
    after = [at for at in acks.values() if at > killed + 0.02]
    lost = len(set(acks) - set(completed))
    return {
        "gap_s": min(after) - killed,
        "acked": len(acks),
        "lost": lost,
        "doubled": len(completed) - len(set(completed)),
    }


async def _produce(client: Any, prefix: str, acks: dict[str, float], stop: asyncio.Event) -> None:
    pending_tasks = set()

    async def one(name: str) -> None:
        with contextlib.suppress(ClientError):
            [outcome] = await client.submit(Enqueue((JobSpec(name, KIND),)))
            assert isinstance(outcome, Enqueued), outcome
            acks[name] = time.perf_counter()

    number = 0
    while not stop.is_set():
        number += 1
        task = asyncio.create_task(one(f"{prefix}-{number}"))
        pending_tasks.add(task)
        task.add_done_callback(pending_tasks.discard)
        await asyncio.sleep(0.01)
    await asyncio.gather(*pending_tasks)


async def _work(client: Any, worker: str, completed: list[str], acks: dict[str, float], stop: asyncio.Event) -> None:
    from tests.cluster.service.test_voters import beat, complete_one

    beats = asyncio.create_task(beat(client, worker))
    while not stop.is_set() or not acks.keys() <= set(completed):
        with contextlib.suppress(ClientError):
            completed.extend(await complete_one(client, worker, 300, limit=50))
    beats.cancel()


SCENARIOS: dict[str, Callable[[Cluster, float], Awaitable[dict[str, Any]]]] = {
    "closed": closed,
    "pipeline": pipeline,
    "enqueue": enqueue,
    "idle": idle,
    "claims": claims,
}


async def with_peers(work: Awaitable[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Run the benchmark beside the peers that are installed."""
    async with peers.running(folder / "peers") as running:
        PEERS.update(running)
        found = await work
        for name in PEERS:
            print(f"\n{'rift against ' + name:<38}{'ours':>12}{name:>12}{'ratio':>8}")
            for line in comparison(found["results"], name):
                print(line)
        return found


def comparison(results: dict[str, Any], name: str) -> list[str]:
    """Return a line a figure that both were measured for: jobs/s (more is better) or ms (less is better)."""
    lines = []
    for scenario, points in results.items():
        for point, ours in points.items():
            theirs = ours.get("peers", {}).get(name) if isinstance(ours, dict) else None
            if theirs is None:
                continue
            figures = [("completed_s", ours["completed_s"], theirs["completed_s"])]
            if not ours["completed_s"]:
                figures = [("enqueued_s", ours["enqueued_s"], theirs["enqueued_s"])]
            if "idle" in ours["latency"]:
                figures = [("p50_ms", ours["latency"]["idle"]["p50_ms"], theirs["latency"]["idle"]["p50_ms"])]
            for what, mine, other in figures:
                ratio = mine / other if other else float("inf")
                lines.append(f"{scenario + ' ' + point + ' ' + what:<38}{mine:>12,}{other:>12,}{ratio:>8.2f}")
    return lines


async def main(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = {"machine": facts(), "voters": options.voters, "results": {}}
    for name in options.only.split(","):
        print(name, flush=True)
        if name == "failover":
            report["results"][name] = await failover(folder, options.trials)
            continue
        async with cluster(folder / name, options.voters, RaftSettings()) as voters:
            if name == "memory":
                report["results"][name] = await memory(voters, options.jobs)
            else:
                report["results"][name] = await SCENARIOS[name](voters, options.seconds)
        print(json.dumps(report["results"][name], indent=1), flush=True)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join([*SCENARIOS, "failover"]))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--voters", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="how many wait in `memory`")
    parser.add_argument("--peers", action="store_true", help="also run each point on the peers that are installed")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    alone = f"-{options.only}" if options.only in ALONE else ""
    out = options.out or ROOT / f"benchmarks/results/queue{alone}.json"
    with tempfile.TemporaryDirectory(prefix="riftq-bench-", dir=os.environ.get("RIFT_BENCH_DIR")) as scratch:
        work = main(options, Path(scratch))
        found = asyncio.run(with_peers(work, Path(scratch)) if options.peers else work)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
