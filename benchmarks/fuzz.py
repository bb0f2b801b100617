"""Hostile log entries: whatever is in the log, every voter answers it, alike, and its state stays whole.

    python -m benchmarks.fuzz --entries 1000000       two replicas, about ten minutes
    python -m benchmarks.fuzz --entries 20000 --seed 7

Entries are random bytes, mutated entries, msgpack of wrong shapes, fields of wrong types, huge numbers, deep nesting
and valid commands with crossed ids. The same entries go to two processes with different hash seeds; the second is
replaced by a restored snapshot of itself ten times and stands on a deeper stack. No exception, equal digests and
snapshots, invariants at each restore and at the end. Writes benchmarks/results/fuzz.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.facts import ROOT, facts
from benchmarks.fuzz_entries import Hostile
from workqueue.machine import invariants
from workqueue.machine.machine import Machine
from workqueue.machine.outcomes import Completed, Outcome, Refused

RESTORES = 10


def replica(entries: int, seed: int, *, restores: int = 0, frames: int = 0) -> dict[str, Any]:
    """Apply hostile entries to a machine; raises when one is not answered or the state is not whole."""
    if frames:
        return (lambda: replica(entries, seed, restores=restores, frames=frames - 1))()
    machine, stream = Machine(), Hostile(seed)
    outcomes: Counter[str] = Counter()
    spent = 0.0
    for k in range(1, entries + 1):
        entry = next(stream)
        began = time.perf_counter()
        answers = machine.apply(entry)
        spent += time.perf_counter() - began
        for answer in answers:
            outcomes[said(answer)] += 1
            stream.author.learn(answer)
        if not k % max(1, entries // RESTORES):
            look_at(machine)
            if restores:
                chunks = list(machine.snapshot())
                machine = Machine()
                machine.restore(chunks)
    look_at(machine)
    picture = hashlib.sha256(b"".join(machine.snapshot())).hexdigest()
    return {
        "digest": machine.digest().hex(),
        "snapshot_sha256": picture,
        "apply_s": round(spent, 2),
        "entries_s": round(entries / spent),
        "entries_by_sort": dict(sorted(stream.kinds.items())),
        "outcomes": dict(sorted(outcomes.items())),
        "jobs": len(machine.ledger.jobs),
        "matches": len(machine.ledger.matches),
    }


def said(answer: Outcome) -> str:
    """Name an outcome, with the code of a refusal."""
    if isinstance(answer, Refused):
        return f"Refused.{answer.code.value}"
    if isinstance(answer, Completed):
        accepted = sum(not isinstance(each, Refused) for each in answer.settled)
        return f"Completed.{'some' if accepted else 'none'}"
    return type(answer).__name__


def look_at(machine: Machine) -> None:
    """Assert the invariants, and that every view can be shown."""
    invariants.check(machine.ledger)
    for name in ("status", "loop", "queue", "workers", "locks", "models", "artifacts", "settings", "audit", "elo"):
        msgspec.json.encode(machine.query(name, {}))
    for job in list(machine.ledger.jobs):
        msgspec.json.encode([machine.query("job", {"job": job}), machine.query("explain", {"job": job})])


def compared(entries: int, seed: int) -> dict[str, Any]:
    """Run two replicas in processes of their own and compare them."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.fuzz", "--entries", str(entries), "--seed", str(seed), "--replica"]
    runs = [
        subprocess.Popen(
            [*command, str(k)],
            env={**os.environ, "PYTHONHASHSEED": str(100 + k)}, cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        for k in range(2)
    ]  # fmt: skip
    said = [json.loads(run.communicate()[0] or "null") for run in runs]
    if any(run.returncode for run in runs):
        raise SystemExit("a replica stopped; see its exception above")
    first, second = said
    equal = all(first[name] == second[name] for name in ("digest", "snapshot_sha256", "outcomes"))
    return {
        "entries": entries,
        "seed": seed,
        "replicas_equal": equal,
        "seconds": round(time.perf_counter() - began, 1),
        "restores_of_the_second": RESTORES,
        "first": first,
        "second": {name: second[name] for name in ("digest", "snapshot_sha256", "apply_s", "entries_s")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replica", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/fuzz.json")
    options = parser.parse_args()
    if options.replica >= 0:
        frames = 120 * options.replica
        json.dump(replica(options.entries, options.seed, restores=options.replica, frames=frames), sys.stdout)
        return
    found = {**facts(), **compared(options.entries, options.seed)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    if not found["replicas_equal"]:
        raise SystemExit("the replicas differ")


if __name__ == "__main__":
    main()
