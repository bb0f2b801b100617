"""What the state machine costs on its own: `python -m benchmarks.apply`, one core, no disk and no network.

Writes `benchmarks/results/apply.json`: microseconds of CPU a job for its whole life (enqueue, claim, complete), the
making of the commands included; for an open kind and for selfplay with a champion, in batches and one by one, with few
and with many jobs waiting.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from pathlib import Path

import msgspec

from benchmarks.facts import facts
from workqueue.machine import commands as c
from workqueue.machine.machine import Machine
from workqueue.machine.outcomes import Changed, Completed, Enqueued, Granted, Lease, Registered, Settled
from workqueue.schema import PlayerSpec, SelfplayPayload, SelfplayResult, ShardRef

CONFIGS = [f"{board}_{players}p" for board in ("square8", "hex8", "square19", "hexagonal") for players in (2, 3, 4)]
CAPABILITY = c.Capability(1 << 20, 1 << 30, 1 << 30, kinds=("selfplay", "bench"), rules_version="1")
FREE = c.Free(1 << 20, 1 << 30, 1 << 30)
MODEL = "c" * 64
RESULT = Path(__file__).parent / "results/apply.json"
encode = msgspec.msgpack.encode


class Bench:
    """A machine and the entries that go into it."""

    def __init__(self, kind: str) -> None:
        self.machine = Machine()
        self.kind = kind
        self.now_ms = 1_700_000_000_000
        self.number = 0
        self.outcome(c.RegisterKind("bench"))
        assert isinstance(self.outcome(c.RegisterWorker("w", "b", CAPABILITY)), Registered)
        assert isinstance(self.outcome(c.RegisterArtifact(c.ArtifactRef(MODEL, 1, "weights"), ("v1",))), Changed)

    def outcome(self, command: c.Command) -> object:
        """Apply one command in an entry of its own."""
        self.now_ms += 1
        self.number += 1
        entry = encode([c.VERSION, self.now_ms, [c.Request("bench", self.number, "bench", command)]])  # type: ignore[arg-type]
        [outcome] = self.machine.apply(entry)
        return outcome

    def enqueue(self, first: int, count: int) -> None:
        """Add jobs of all configs in turn."""
        outcome = self.outcome(c.Enqueue(tuple(self._job(number) for number in range(first, first + count))))
        assert isinstance(outcome, Enqueued), outcome

    def _job(self, number: int) -> c.JobSpec:
        config = CONFIGS[number % len(CONFIGS)]
        if self.kind == "bench":
            return c.JobSpec(f"j{number}", "bench", msgspec.Raw(encode({"data": "x" * 180})), config)
        board, players = config[:-1].rsplit("_", 1)
        player = PlayerSpec("gumbel", MODEL)
        payload = SelfplayPayload(board, int(players), player, 20, number, rules_version="1")
        return c.JobSpec(f"j{number}", "selfplay", msgspec.Raw(encode(payload)), config)

    def claim_and_complete(self, count: int) -> int:
        """Take jobs and complete them; returns how many."""
        granted = self.outcome(c.Claim("w", "b", FREE, count))
        assert isinstance(granted, Granted), granted
        done = tuple(self._completion(lease) for lease in granted.leases)
        completed = self.outcome(c.Complete("w", done))
        assert isinstance(completed, Completed)
        assert all(isinstance(each, Settled) for each in completed.settled), completed.settled[0]
        return len(done)

    def _completion(self, lease: Lease) -> c.Completion:
        if self.kind == "bench":
            return c.Completion(lease.job, lease.attempt)
        sha = f"{int(lease.job[1:]):064x}"
        self.outcome(c.RegisterArtifact(c.ArtifactRef(sha, 1000, "shard"), ("v1", "v2"), lease.config))
        key = PlayerSpec("gumbel", MODEL).key
        result = SelfplayResult(20, 900, 900, 1000, (ShardRef(sha, 1000, 20, 900),), (10, 10), key, "1")
        artifacts = (c.ArtifactRef(sha, 1000, "shard"),)
        return c.Completion(lease.job, lease.attempt, msgspec.Raw(encode(result)), artifacts)


def measure(kind: str, batch: int, waiting: int, jobs: int) -> dict[str, float | int | str]:
    """Run `jobs` whole lives in batches while `waiting` others wait."""
    bench = Bench(kind)
    gc.freeze()
    gc.set_threshold(50_000, 1 << 30, 1 << 30)  # as the voter's core does
    for first in range(0, waiting, 500):
        bench.enqueue(first, min(500, waiting - first))
    begun = time.process_time()
    done, at = 0, waiting
    while done < jobs:
        bench.enqueue(at, batch)
        at += batch
        done += bench.claim_and_complete(batch)
    us = (time.process_time() - begun) * 1e6 / done
    return {"kind": kind, "batch": batch, "waiting": waiting, "us_a_job": round(us, 1), "jobs_s": round(1e6 / us)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    jobs = parser.parse_args().jobs
    rows = []
    for kind in ("bench", "selfplay"):
        for batch, waiting in ((100, 0), (100, 20_000), (1, 0), (1, 20_000)):
            rows.append(measure(kind, batch, waiting, jobs if batch > 1 else jobs // 4))
            print(rows[-1], flush=True)
    RESULT.write_text(json.dumps(facts() | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
