"""Break five real voters in every way for minutes, and judge every answer that their clients got.

    python -m benchmarks.faults --minutes 30

Kills (all five at once while they write snapshots, too), pauses, partitions, one-way cuts, loss, full and failing
disks, one after the other, while clients put, swap, count, append and read. Each key's history must be linearizable,
every acknowledged append must be in the state of every voter at the end, and all voters must agree. The figures are
written to `benchmarks/results/faults.json`; the exit code is 1 if anything was lost or violated, or a recovery took
more than a minute. Partitions and full disks need root, iproute2 and nftables.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.faults_clients import Log, clients
from benchmarks.faults_lab import VOTERS, Lab, processors
from benchmarks.faults_nemesis import FAULTS
from benchmarks.faults_voter import EXIT_FAILED
from benchmarks.histories import Op, Undecided, by_key, linearizable

RESULTS = Path(__file__).parent / "results" / "faults.json"
RECOVERY_S = 60.0
Figures = dict[str, Any]


@dataclass
class Injected:
    """One fault, from its injection until clients had been served again for a moment."""

    name: str
    at: float
    until: float = 0.0


@dataclass
class Outcome:
    """All that happened in a run."""

    log: Log
    injected: list[Injected] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # sentences
    lost: list[str] = field(default_factory=list)  # acknowledged appends that are not in some voter's state
    unserved: list[str] = field(default_factory=list)  # times when the cluster did not recover soon; no loss
    snapshots: int = 0
    elections: int = 0
    seconds: float = 0.0
    sabotaged: bool = False  # the voters may never agree


async def torment(
    seconds: float,
    *,
    tag: str = "f",
    seed: int = 1,
    say: Any = lambda _text: None,
    only: Sequence[str] = (),
    sabotage: str = "",
    namespaces: bool | None = None,
) -> Outcome:
    """Run voters, clients and faults for so long, then let all recover, and judge."""
    chance = random.Random(seed)
    outcome = Outcome(Log(), sabotaged=bool(sabotage))
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # and leave nothing behind
    async with Lab(tag, sabotage=sabotage, namespaces=namespaces) as lab:
        names = [n for n, f in FAULTS.items() if lab.network is not None or not f.network]
        names = [n for n in names if not only or n in only]
        async with clients(lab.sockets, outcome.log, seed=seed):
            await _served(outcome, time.monotonic())
            end = time.monotonic() + seconds
            while time.monotonic() < end or len(outcome.injected) < len(names):
                for name in chance.sample(names, len(names)):
                    if time.monotonic() < end or len(outcome.injected) < len(names):
                        await _one(lab, name, chance, outcome)
                        say(f"{len(outcome.injected)} faults, {len(outcome.log.history)} operations; {name}")
            outcome.seconds = seconds + time.monotonic() - end
        await _judge_voters(lab, outcome)
    outcome.wrong += await asyncio.to_thread(judge, outcome.log.history, say)
    return outcome


async def _one(lab: Lab, name: str, chance: random.Random, outcome: Outcome) -> None:
    fault = Injected(name, time.monotonic())
    outcome.injected.append(fault)
    before = len(lab.died)
    try:
        await FAULTS[name].inject(lab, chance)
    except TimeoutError:
        outcome.unserved.append(f"no leader, or no answer, in a minute of {name}")
    await lab.restart_the_dead()
    await _served(outcome, time.monotonic())
    await asyncio.sleep(chance.uniform(0.3, 1.5))
    fault.until = time.monotonic()
    for voter, code in lab.died[before:]:
        if "disk" not in name or code != EXIT_FAILED or not lab.last_words(voter).startswith("StorageFailed"):
            outcome.wrong.append(f"{voter} ended by itself ({code}) in {name}: {lab.log(voter)[-500:]}")


async def _served(outcome: Outcome, since: float) -> None:
    """Wait until an operation that was asked since then has been acknowledged."""
    end = time.monotonic() + RECOVERY_S
    while not any(op.answered and op.called > since for op in outcome.log.history[-50:]):
        if time.monotonic() > end:
            outcome.unserved.append(f"nobody was served for {RECOVERY_S:.0f} s after {outcome.injected[-1:]} had ended")
            return
        await asyncio.sleep(0.01)


async def _judge_voters(lab: Lab, outcome: Outcome) -> None:
    await lab.restart_the_dead()
    if not await lab.settled(10.0 if outcome.sabotaged else 60.0):
        outcome.wrong.append(f"the voters do not agree: {await asyncio.gather(*map(lab.role, VOTERS))}")
    history = by_key(outcome.log.history)
    now = time.monotonic()
    last_read = False
    for voter in VOTERS:
        state = await lab.dump(voter)
        if state is None:
            outcome.wrong.append(f"{voter} does not answer in the end: {lab.log(voter)[-500:]}")
            continue
        for key, ops in history.items():
            value = state.get(key)
            there = set(value["items"]) if isinstance(value, dict) else set()
            appended = [op.argument for op in ops if op.kind == "append" and op.answered]
            outcome.lost += [f"{key}: {item} on {voter}" for item in appended if item not in there]
            if not last_read:  # what is left in the end is one more read
                seen = tuple(value["chain"]) if isinstance(value, dict) else value
                outcome.log.history.append(Op("end", key, "get", None, seen, now, now + 1e-6))
        last_read = True
    roles = [role for role in await asyncio.gather(*map(lab.role, VOTERS)) if role]
    outcome.snapshots = sum(int(r["metrics"]["snapshots_taken"]) for r in roles)
    outcome.elections = max((int(r["term"]) for r in roles), default=0)


def judge(history: list[Op], say: Any = lambda _text: None) -> list[str]:
    """Return a sentence for each key whose history no order of its operations explains."""
    wrong = []
    keys = by_key(history)
    for number, (key, ops) in enumerate(keys.items(), 1):
        try:
            if not linearizable(ops):
                wrong.append(f"the history of {key} is not linearizable: {sorted(ops, key=lambda o: o.called)}")
        except Undecided as error:
            wrong.append(f"the history of {key} could not be judged: {error}")
        if number % 500 == 0:
            say(f"judged {number} of {len(keys)} histories")
    return wrong


def unavailability_ms(outcome: Outcome) -> dict[str, list[float]]:
    """Return, by fault, how long no operation was acknowledged after each injection (the longest silence)."""
    acked = sorted(op.returned for op in outcome.log.history if op.answered and op.client != "end")
    silences: dict[str, list[float]] = {}
    at = 0
    for fault in outcome.injected:
        longest, last = 0.0, fault.at
        while at < len(acked) and acked[at] < fault.at:
            at += 1
        while at < len(acked) and acked[at] < fault.until:
            longest, last = max(longest, acked[at] - last), acked[at]
            at += 1
        silences.setdefault(fault.name, []).append(1000 * max(longest, 0.0 if last > fault.at else fault.until - last))
    return silences


def figures(outcome: Outcome, load: tuple[float, float]) -> Figures:
    """Return what is written down of a run."""
    history = [op for op in outcome.log.history if op.client != "end"]
    sha = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=False, capture_output=True, text=True).stdout
    return {
        "machine": {
            "cpus": processors(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "load1": [round(load[0], 2), round(load[1], 2)],
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": sha.strip(),
        },
        "voters": len(VOTERS),
        "minutes": round(outcome.seconds / 60, 1),
        "faults_injected": len(outcome.injected),
        "operations": {
            "acknowledged": sum(op.answered for op in history),
            "unanswered": sum(not op.answered for op in history),
            "certainly_refused": outcome.log.refused,
        },
        "histories_judged": len(by_key(history)),
        "lost": len(outcome.lost),
        "violations": len(outcome.wrong),
        "recoveries_over_60_s": len(outcome.unserved),
        "what": [text[:2000] for text in [*outcome.lost[:20], *outcome.wrong[:20], *outcome.unserved[:20]]],
        "snapshots_since_last_start": outcome.snapshots,
        "last_term": outcome.elections,
        "unavailable_ms": {
            name: {
                "n": len(values),
                "p50": round(statistics.median(values)),
                "max": round(max(values)),
                "all": [round(value) for value in values],
            }
            for name, values in sorted(unavailability_ms(outcome).items())
        },
    }


def main() -> int:
    """Parse, torment, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1, help="of the order and length of the faults")
    parser.add_argument("--tag", default="f", help="names the namespaces, so that two runs do not meet")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs="+", default=[], choices=FAULTS, help="these faults, not all")
    parser.add_argument("--sabotage", default="", choices=["stale-reads", "lonely-commits"], help="must be found")
    options = parser.parse_args()

    def say(text: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)

    load = os.getloadavg()[0]
    chosen = {"tag": options.tag, "seed": options.seed, "only": options.only, "sabotage": options.sabotage}
    outcome = asyncio.run(torment(options.minutes * 60, say=say, **chosen))
    found = figures(outcome, (load, os.getloadavg()[0]))
    options.out.parent.mkdir(exist_ok=True)
    text = json.dumps(found, indent=1)
    lists = re.compile(r"\[\s+([\d.,\s]+?)\s+\]")
    options.out.write_text(lists.sub(lambda m: f"[{' '.join(m[1].split())}]", text) + "\n")
    print(json.dumps(found, indent=1))
    return 1 if outcome.lost or outcome.wrong or outcome.unserved else 0


if __name__ == "__main__":
    sys.exit(main())
