"""How long a busy worker idles, what a thousand workers cost the leader, and whether killing anything loses a job.

    python -m benchmarks.workers gap   [--voters 3] [--jobs 500] [--job-ms 200]
    python -m benchmarks.workers fleet [--voters 5] [--workers 1000] [--seconds 60] [--job-s 60]
    python -m benchmarks.workers chaos [--seconds 600] [--seed 1]

All start voters on loopback with disk, TLS and fsync as in service. `gap` runs one real worker with one slot; a gap
is the time from the end of a job to the begin of the next inside the warm runner. `fleet` runs the worker's own
decisions with timers in place of runners, each with a connection of its own: a parked claim, renewals with progress
at the lease's pace, a sign of life a second. `chaos` kills -9 agents, runners and voters at random and then counts
every job's effect. Results go to benchmarks/results/workers-*.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from benchmarks.facts import facts
from config.cluster import RaftSettings
from tests.cluster.service.cluster import Cluster, cluster
from tests.cluster.workers import chaos
from tests.cluster.workers.harness import Worker, workers_ended
from workers import events as ev
from workers.attempts import Options, SlotSpec
from workers.decisions import Decisions
from workqueue.client import Client
from workqueue.errors import ClientError
from workqueue.machine.commands import Capability, Enqueue, JobSpec, RegisterKind, RegisterWorker, Renew
from workqueue.machine.outcomes import Empty, Granted, Refused, Registered, Renewed

if TYPE_CHECKING:
    from collections.abc import Iterable

DONE = msgspec.Raw(msgspec.msgpack.encode({"steps": 1}))


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def write(name: str, document: dict[str, object]) -> None:
    path = Path("benchmarks/results") / f"workers-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts() | document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


async def enqueue(client: Client, names: Iterable[str], payload: dict[str, Any], **fields: Any) -> None:
    raw = msgspec.Raw(msgspec.msgpack.encode(payload))
    jobs = [JobSpec(name, "fake", raw, **fields) for name in names]
    for start in range(0, len(jobs), 500):
        [outcome] = await client.submit(Enqueue(tuple(jobs[start : start + 500])))
        assert not isinstance(outcome, Refused), outcome


# ---- gap


async def gap(voters: int, jobs: int, job_ms: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="rift-gap-"))
    trace = folder / "trace"
    async with cluster(folder / "voters", voters) as made, made.client() as client:
        await client.submit(RegisterKind("fake"))
        urls = [voter.http for voter in made.voters]
        worker = Worker(folder, "w", urls, made.created.worker_token, made.created.ca, ("--slots", "1"))
        async with workers_ended(worker):
            await worker.start()
            await asyncio.sleep(3)
            payload = {"steps": 4, "step_ms": job_ms // 4, "trace": str(trace)}
            await enqueue(client, (f"job-{index}" for index in range(jobs)), payload)
            while not trace.exists() or trace.read_text().count(" end ") < jobs:
                await asyncio.sleep(0.5)
        lines = [line.split() for line in trace.read_text().splitlines()]
    gaps = [
        1000 * (float(begin[0]) - float(end[0]))
        for end, begin in zip(lines[1:-1:2], lines[2::2], strict=True)
        if end[1] == begin[1]
    ]
    result = {
        "command": f"python -m benchmarks.workers gap --voters {voters} --jobs {jobs} --job-ms {job_ms}",
        "voters": voters,
        "jobs": jobs,
        "gap_ms": {
            "p50": round(statistics.median(gaps), 2),
            "p90": round(percentile(gaps, 0.9), 2),
            "p99": round(percentile(gaps, 0.99), 2),
            "max": round(max(gaps), 2),
        },
    }
    write("gap", result)


# ---- fleet


class Simulated:
    """A worker's decisions with a timer for a runner."""

    def __init__(self, name: str, client: Client, job_s: float, seed: int) -> None:
        capability = Capability(cpus=2, ram_mb=4000, disk_mb=1000, kinds=("fake",))
        self.options = Options(name, f"boot-{name}", capability, (SlotSpec(),), seed=seed)
        self.decisions = Decisions(self.options)
        self.client = client
        self.job_s = job_s
        self.chance = random.Random(seed)
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.done = self.unreached = 0
        self.latencies: dict[str, list[float]] = {"claim": [], "renew": [], "complete": []}
        self.tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def now(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    async def run(self) -> None:
        await asyncio.sleep(self.chance.uniform(0, 5))
        self.spawn(self.ticks())
        self.spawn(self.beats())
        while True:
            for each in self.decisions.handle(await self.events.get()):
                self.carry_out(each)

    def carry_out(self, each: Any) -> None:
        match each:
            case ev.Join():
                self.spawn(self.guard("join", self.join()))
            case ev.SendClaim():
                self.spawn(self.guard("claim", self.claim(each)))
            case ev.SendRenew(leases=leases):
                self.spawn(self.guard("renew", self.renew(leases)))
            case ev.StartRunner(slot=slot):
                self.events.put_nowait(ev.RunnerReady(self.now(), slot))
            case ev.StartJob(slot=slot):
                self.spawn(self.work(slot))
            case ev.Settle():
                self.spawn(self.settle(each))
            case _:
                pass  # nothing is carried out for the others here

    async def guard(self, what: str, work: Any) -> None:
        try:
            await work
        except ClientError as error:
            self.unreached += 1
            if what == "join":
                self.events.put_nowait(ev.JoinRefused(self.now(), "", str(error)))
            else:
                self.events.put_nowait(ev.Unreached(self.now(), what, str(error)))

    async def join(self) -> None:
        [outcome] = await self.client.submit(
            RegisterWorker(self.options.worker, self.options.boot, self.options.capability, beats=True)
        )
        assert isinstance(outcome, Registered), outcome
        self.events.put_nowait(ev.Joined(self.now()))

    async def claim(self, each: ev.SendClaim) -> None:
        answer = await self.client.claim(each.command, each.wait_ms)
        match answer:
            case Granted(leases=leases):
                self.events.put_nowait(ev.Granted(self.now(), leases))
            case Empty():
                self.events.put_nowait(ev.ClaimEmpty(self.now()))
            case Refused(code=code, message=message):
                self.events.put_nowait(ev.ClaimRefused(self.now(), code.value, message, answer.retry_ms))

    async def renew(self, leases: Any) -> None:
        sent, start = self.now(), time.perf_counter()
        [outcome] = await self.client.submit(Renew(self.options.worker, self.options.boot, leases))
        self.latencies["renew"].append(time.perf_counter() - start)
        assert isinstance(outcome, Renewed), outcome
        self.events.put_nowait(ev.RenewAnswered(self.now(), sent, outcome))

    async def settle(self, each: ev.Settle) -> None:
        start = time.perf_counter()
        while True:
            with contextlib.suppress(ClientError):
                await self.client.submit(each.command)
                break
        self.latencies["complete"].append(time.perf_counter() - start)
        self.done += 1
        self.events.put_nowait(ev.Reported(self.now(), each.job, each.attempt))

    async def work(self, slot: int) -> None:
        end = time.monotonic() + self.job_s * self.chance.uniform(0.5, 1.5)
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 2))
            progress = msgspec.Raw(msgspec.msgpack.encode({"games": self.done, "left_s": int(left)}))
            self.events.put_nowait(ev.Progressed(self.now(), slot, progress))
        self.events.put_nowait(ev.JobDone(self.now(), slot, DONE))

    async def ticks(self) -> None:
        while True:
            self.events.put_nowait(ev.Tick(self.now()))
            await asyncio.sleep(1)

    async def beats(self) -> None:
        seq = 0
        while True:
            seq += 1
            with contextlib.suppress(ClientError):
                await self.client.beat(self.options.worker, self.options.boot, seq, {"running": []})
            await asyncio.sleep(1)


def processes(made: Cluster) -> dict[str, dict[str, psutil.Process]]:
    """The processes of each voter by their module."""
    found: dict[str, dict[str, psutil.Process]] = {}
    for voter, process in made._processes.items():
        own = found.setdefault(voter, {})
        for child in psutil.Process(process.pid).children(recursive=True):
            line = " ".join(child.cmdline())
            for name in ("core", "front", "gossip"):
                if f"workqueue.{name}" in line:
                    own[name] = child
    return found


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def fleet(voters: int, workers: int, seconds: float, job_s: float) -> None:
    folder = Path(tempfile.mkdtemp(prefix="rift-fleet-"))
    raft = RaftSettings(election_ms_min=2000)
    async with contextlib.AsyncExitStack() as stack:
        made = await stack.enter_async_context(cluster(folder / "voters", voters, raft))
        admin = await stack.enter_async_context(made.client())
        await admin.submit(RegisterKind("fake"))
        count = int(workers * (3 + seconds / job_s * 2))
        await enqueue(admin, (f"job-{index}" for index in range(count)), {})
        token, ca = made.token("worker"), made.created.ca
        urls = [voter.http for voter in made.voters]
        sims = []
        for index in range(workers):
            client = await stack.enter_async_context(Client(urls, token=token, ca=ca, deadline_s=30))
            sims.append(Simulated(f"w{index}", client, job_s, index))
        tasks = [asyncio.create_task(sim.run()) for sim in sims]
        stack.callback(lambda: [task.cancel() for task in tasks])
        await settle_in(sims)
        result = await observe(made, sims, seconds)
        for sim in sims:
            for task in sim.tasks:
                task.cancel()
    result |= {
        "command": f"python -m benchmarks.workers fleet --voters {voters} --workers {workers} --seconds {seconds:g}",
        "voters": voters,
        "workers": workers,
        "job_s": job_s,
    }
    write("fleet", result)


async def settle_in(sims: list[Simulated]) -> None:
    deadline = time.monotonic() + 120
    while sum(bool(sim.decisions.running) for sim in sims) < len(sims) * 0.98:
        await asyncio.sleep(1)
        if time.monotonic() > deadline:
            print("not all workers got a job within 120 s; measuring as it is")
            break
    await asyncio.sleep(5)


async def observe(made: Cluster, sims: list[Simulated], seconds: float) -> dict[str, object]:
    leader = await made.wait_ready()
    found = processes(made)
    for sim in sims:
        for values in sim.latencies.values():
            values.clear()
    before = {(voter, name): cpu_s(proc) for voter, own in found.items() for name, proc in own.items()}
    done, start = sum(sim.done for sim in sims), time.monotonic()
    own = cpu_s(psutil.Process())
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - start
    after = {(voter, name): cpu_s(proc) for voter, own in found.items() for name, proc in own.items()}
    used = {f"{voter}.{name}": round((after[voter, name] - before[voter, name]) / elapsed, 3) for voter, name in after}
    latencies = {
        name: {"p50": round(1000 * statistics.median(values), 1), "p99": round(1000 * percentile(values, 0.99), 1)}
        for name in ("renew", "complete")
        if (values := [value for sim in sims for value in sim.latencies[name]])
    }
    return {
        "seconds": round(elapsed, 1),
        "leader": leader,
        "leader_same_at_end": await made.wait_ready() == leader,
        "leader_cores": {name: used.get(f"{leader}.{name}") for name in ("core", "front", "gossip")},
        "cores_used": used,
        "simulation_cores": round((cpu_s(psutil.Process()) - own) / elapsed, 2),
        "jobs_s": round((sum(sim.done for sim in sims) - done) / elapsed, 1),
        "renewals_s": round(sum(len(sim.latencies["renew"]) for sim in sims) / elapsed, 1),
        "beats_s": len(sims),
        "latency_ms": latencies,
        "running": sum(bool(sim.decisions.running) for sim in sims),
        "unreached": sum(sim.unreached for sim in sims),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["gap", "fleet", "chaos"])
    parser.add_argument("--voters", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--job-ms", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--job-s", type=float, default=60)
    options = parser.parse_args()
    if options.what == "gap":
        asyncio.run(gap(options.voters or 3, options.jobs, options.job_ms))
    elif options.what == "fleet":
        asyncio.run(fleet(options.voters or 5, options.workers, options.seconds or 60, options.job_s))
    else:
        seconds = options.seconds or 600
        folder = Path(tempfile.mkdtemp(prefix="rift-chaos-"))
        found = asyncio.run(chaos.run(folder, seconds, options.seed))
        write("chaos", {"command": f"python -m benchmarks.workers chaos --seconds {seconds:g}"} | found)


if __name__ == "__main__":
    main()
