"""Measure membership among real processes, one namespace each, with serf beside it in the same run.

    python -m benchmarks.membership kill --nodes 32 --trials 15
    python -m benchmarks.membership loss --nodes 32 --share 0.1 --seconds 600 --systems riftq
    python -m benchmarks.membership all                      # the whole table; half an hour a system
    python -m benchmarks.membership simulate                 # 1,000 and 10,000 members on a virtual clock

Each run adds its figures to `benchmarks/results/membership.json`. Needs root, iproute2, nftables; serf if installed.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.membership_lab import Cluster, Network, available

RESULTS = Path(__file__).parent / "results" / "membership.json"
SETTLE_S = 2.0
Figures = dict[str, Any]


def _told(cluster: Cluster, kind: str, subject: int, since: float, others: Sequence[int]) -> Callable[[], bool]:
    """Return whether all the others have been told of a member since then."""
    return lambda: set(cluster.told(kind, subject, since)) >= set(others)


def spread(values: list[float]) -> Figures:
    """Return the median, the 99th percentile (the largest, of fewer than 100) and the extremes."""
    ordered = sorted(values)
    if not ordered:
        return {"n": 0}
    high = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    figures = {"p50": statistics.median(ordered), "p99": high, "min": ordered[0], "max": ordered[-1]}
    return {"n": len(ordered), **{name: round(value, 2) for name, value in figures.items()}}


async def kill(cluster: Cluster, trials: int) -> Figures:
    """Kill one after the other, each replaced by a new boot before the next."""
    first, everyone, rejoin = [], [], []
    live_deaths = unknown = 0
    chance = random.Random(7)
    for _ in range(trials):
        victim = chance.choice([i for i in cluster.running if i > 3])
        others = [i for i in cluster.running if i != victim]
        await asyncio.sleep(chance.random())
        at = await cluster.kill(victim)
        await cluster.until(_told(cluster, "dead", victim, at, others), 60)
        told = [when - at for by, when in cluster.told("dead", victim, at).items() if by in others]
        first += [min(told)] if told else []
        everyone += [max(told)] if len(told) == len(others) else []
        unknown += len(others) - len(told)
        live_deaths += len(cluster.false_deaths(at, victim))
        await cluster.start(victim)
        took = await cluster.converge(60)
        rejoin += [took] if took is not None else []
        await asyncio.sleep(SETTLE_S)
    return {
        "trials": trials,
        "first_s": spread(first),
        "all_know_s": spread(everyone),
        "observers_that_never_knew": unknown,
        "deaths_of_live_members": live_deaths,
        "replacement_seen_by_all_s": spread(rejoin),
    }


async def loss(cluster: Cluster, share: float, seconds: float) -> Figures:
    """Drop packets at every receiver for a while."""
    since = time.monotonic()
    cluster.network.lose(share)
    await asyncio.sleep(seconds)
    deaths = cluster.false_deaths(since)
    cluster.network.heal()
    recovered = await cluster.converge(60)
    back = [_back_after(cluster, death.by, death.subject, death.at) for death in deaths]
    node_hours = len(cluster.running) * seconds / 3600
    return {
        "share": share,
        "seconds": seconds,
        "deaths_of_live_members": len(deaths),
        "distinct_members": len({death.subject for death in deaths}),
        "deaths_a_node_hour": round(len(deaths) / node_hours, 2),
        "suspicions": sum(h.kind == "suspect" and h.at >= since for h in cluster.heard),
        "longest_until_healed_s": round(max((b for b in back if b is not None), default=0.0), 2),
        "never_healed": sum(b is None for b in back),
        "recovered_s": recovered,
    }


def _back_after(cluster: Cluster, by: int, subject: int, since: float) -> float | None:
    heard = (h for h in cluster.heard if h.by == by and h.subject == subject and h.at > since)
    return next((h.at - since for h in heard if h.kind in ("alive", "joined")), None)


async def part(cluster: Cluster, seconds: float) -> Figures:
    """Cut the group in two halves and join them again."""
    ids = cluster.running
    half = len(ids) // 2
    since = time.monotonic()
    cluster.network.part(ids[:half], ids[half:])
    await asyncio.sleep(seconds)
    sides = [set(ids[:half]), set(ids[half:])]
    dead = sum(cluster.views[i].get(j) == "dead" for a, b in (sides, sides[::-1]) for i in a for j in b)
    inside = sum(bool({h.by, h.subject} <= side) for h in cluster.false_deaths(since) for side in sides)
    cluster.network.heal()
    merged = await cluster.converge(120)
    return {
        "seconds": seconds,
        "pairs_dead": dead,
        "pairs": 2 * half * (len(ids) - half),
        "deaths_within_a_half": inside,
        "merged_after_heal_s": merged,
    }


async def pause(cluster: Cluster, seconds: float, trials: int) -> Figures:
    """Stop a member's process and continue it."""
    held, back = [], []
    others = 0
    for trial in range(trials):
        victim = cluster.running[5 + trial] if len(cluster.running) > 8 else cluster.running[-1]
        since = cluster.signal(victim, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        cluster.signal(victim, signal.SIGCONT)
        took = await cluster.converge(60)
        back += [took] if took is not None else []
        await asyncio.sleep(SETTLE_S + 3)
        held.append(len(cluster.told("dead", victim, since)))
        others += len(cluster.false_deaths(since, victim))
    return {
        "seconds": seconds,
        "trials": trials,
        "observers_that_held_it_dead": held,
        "back_after_continue_s": spread(back),
        "deaths_of_others": others,
    }


async def restart(cluster: Cluster, gap_s: float, trials: int) -> Figures:
    """Kill, wait, start again on the same address; the time includes the start of the process."""
    seen = []
    for trial in range(trials):
        victim = cluster.running[-1 - trial % 3]
        await cluster.kill(victim)
        others = cluster.running
        await asyncio.sleep(gap_s)
        since = time.monotonic()
        await cluster.start(victim)

        def known(v: int = victim, o: list[int] = others, s: float = since) -> bool:
            if cluster.kind == "serf":
                return cluster.converged()
            return set(cluster.told("joined", v, s, f"boot-{cluster.boots[v]}")) >= set(o)

        took = await cluster.until(known, 75)
        seen += [took] if took is not None else []
        await cluster.converge(60)
        await asyncio.sleep(SETTLE_S)
    return {"gap_s": gap_s, "trials": trials, "seen_by_all_s": spread(seen)}


async def leave(cluster: Cluster, trials: int) -> Figures:
    """Ask members to leave."""
    known = []
    deaths = 0
    for _ in range(trials):
        victim = cluster.running[-1]
        others = [i for i in cluster.running if i != victim]
        at = await cluster.stop(victim)
        await cluster.until(_told(cluster, "left", victim, at, others), 30)
        told = [when - at for by, when in cluster.told("left", victim, at).items() if by in others]
        known += [max(told)] if len(told) == len(others) else []
        await asyncio.sleep(8)
        deaths += len(cluster.told("dead", victim, at))
        await cluster.kill(victim)
        await cluster.start(victim)
        await cluster.converge(60)
        await asyncio.sleep(SETTLE_S)
    return {"trials": trials, "known_to_all_s": spread(known), "held_dead": deaths}


async def idle(cluster: Cluster, seconds: float) -> Figures:
    """Do nothing, and measure what that costs."""
    await asyncio.sleep(5)
    ids, since = cluster.running, time.monotonic()
    sent, used = cluster.network.sent_bytes(), {i: cluster.cpu_s(i) for i in ids}
    await asyncio.sleep(seconds)
    took, after = time.monotonic() - since, cluster.network.sent_bytes()
    return {
        "seconds": seconds,
        "bytes_a_second_a_member": round(statistics.mean((after[i] - sent[i]) / took for i in ids)),
        "cpu_percent_of_a_core": round(statistics.mean(100 * (cluster.cpu_s(i) - used[i]) / took for i in ids), 3),
        "rss_mb": round(statistics.mean(cluster.rss_mb(i) for i in ids), 1),
        "deaths_of_live_members": len(cluster.false_deaths(since)),
    }


async def measure(options: argparse.Namespace, system: str, tasks: list[tuple[str, dict[str, Any]]]) -> None:
    """Boot one group and run experiments on it, one after the other."""
    with Network(options.nodes, options.tag) as network:
        async with Cluster(network, system) as cluster:
            save(options.nodes, system, {"boot_s": await cluster.boot()})
            await asyncio.sleep(5)
            for name, arguments in tasks:
                load = os.getloadavg()[0]
                result = await EXPERIMENTS[name](cluster, **arguments)
                result["load"] = [round(load, 2), round(os.getloadavg()[0], 2)]
                label = " ".join([name, *(f"{key}={value}" for key, value in arguments.items())])
                print(f"{system} {options.nodes} {label}: {json.dumps(result)}", flush=True)
                save(options.nodes, system, {label: result})


EXPERIMENTS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "kill": kill,
    "loss": loss,
    "part": part,
    "pause": pause,
    "restart": restart,
    "leave": leave,
    "idle": idle,
}
ALL: list[tuple[str, dict[str, Any]]] = [
    ("idle", {"seconds": 30}),
    ("kill", {"trials": 15}),
    ("leave", {"trials": 3}),
    ("restart", {"gap_s": 1, "trials": 3}),
    ("restart", {"gap_s": 15, "trials": 3}),
    ("pause", {"seconds": 2, "trials": 3}),
    ("pause", {"seconds": 10, "trials": 3}),
    ("part", {"seconds": 40}),
    ("loss", {"share": 0.3, "seconds": 100}),
    ("loss", {"share": 0.1, "seconds": 600}),
]


def save(nodes: int, system: str, figures: Figures) -> None:
    """Merge figures into the results, with the machine, the date and the commit they come from."""
    RESULTS.parent.mkdir(exist_ok=True)
    lock = os.open(RESULTS.parent, os.O_RDONLY)  # two systems may be measured side by side
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _merge(nodes, system, figures)
    finally:
        os.close(lock)


def _merge(nodes: int, system: str, figures: Figures) -> None:
    results: Figures = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    sha = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=False, capture_output=True, text=True).stdout
    stamp = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": sha.strip()}
    results["machine"] = {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    entry = results.setdefault(system, {}).setdefault(f"{nodes} members", {})
    for label, value in figures.items():
        entry[label] = value | stamp if isinstance(value, dict) else value
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


def main() -> int:
    """Parse, check the machine, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=[*EXPERIMENTS, "all", "simulate"])
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--systems", nargs="+", default=["riftq", "serf"], choices=["riftq", "serf"])
    parser.add_argument("--tag", default="m", help="names the namespaces, so that two runs do not meet")
    for name, kind in (("trials", int), ("seconds", float), ("share", float), ("gap_s", float)):
        parser.add_argument(f"--{name}", type=kind)
    options = parser.parse_args()
    if options.experiment == "simulate":
        from benchmarks.membership_simulation import simulate

        return simulate(save)
    if reason := available():
        print(f"This benchmark cannot run here: {reason}.", file=sys.stderr)
        return 1
    if options.experiment == "all":
        tasks = ALL
    else:
        named = {k: v for k in ("share", "gap_s", "seconds", "trials") if (v := getattr(options, k)) is not None}
        tasks = [(options.experiment, named)]
    for system in options.systems:
        if system == "serf" and shutil.which("serf") is None:
            print("serf is not installed; only riftq is measured (Debian: apt-get install serf).", file=sys.stderr)
            continue
        asyncio.run(measure(options, system, tasks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
