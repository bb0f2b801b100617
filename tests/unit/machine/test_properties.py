"""The machine is the same everywhere: whatever the hash seed, in the documents, and for snapshots of old."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from driver import KINDS, Driver, raw

from workqueue.machine import commands as c
from workqueue.machine import invariants
from workqueue.machine.machine import Machine
from workqueue.machine.transitions import ENDED, diagram

# ---- the same everywhere


RUN = """
import sys; sys.path[:0] = ["tests/unit/machine", "."]
from driver import Driver
from workqueue.machine import commands as c
d = Driver(checked=False)
d.kind(); [d.worker(f"w{k}") for k in range(5)]
d.add(*(f"j{k}" for k in range(50)), group="g", group_limit=9)
for k in range(30):
    d.claim(f"w{k % 5}", limit=3)
    d.now_ms += 7000
    d.do(c.Tick())
d.do(c.EndBoot("w1", "b1", "x")); d.do(c.Cancel(tuple(f"j{k}" for k in range(40, 45))))
import hashlib
print(d.machine.digest().hex(), hashlib.sha256(b"".join(d.machine.snapshot())).hexdigest())
"""


def test_replicas_agree_whatever_the_hash_seed() -> None:
    """State and digest do not depend on the order of sets and dicts."""
    root = Path(__file__).parents[3]
    said = {
        subprocess.run(
            [sys.executable, "-c", RUN], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=root, capture_output=True,
            text=True, check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(said) == 1


def test_the_document_shows_the_table() -> None:
    """docs/state-machine.md holds the diagram of the code."""
    text = (Path(__file__).parents[3] / "docs/state-machine.md").read_text()
    assert diagram() in text
    assert all(state.value in text for state in ENDED)


def test_old_snapshots_load() -> None:
    """The snapshot of version 1 in the repository is read, checked and written back the same."""
    data = (Path(__file__).parents[2] / "golden/machine/snapshot-1.bin").read_bytes()
    machine = Machine()
    machine.restore([data])
    invariants.check(machine.ledger)
    assert b"".join(machine.snapshot()) == data
    assert machine.ledger.state.models
    assert machine.ledger.matches


def golden() -> bytes:
    """Return the snapshot that the repository keeps: every sort of record in it."""
    driver = Driver()
    driver.kind()
    driver.worker()
    driver.add("a", "b", "c", priority=3)
    driver.complete(driver.lease())
    driver.selfplay_done(driver.selfplay("s1"), "shard1")
    driver.train("t1", "model1")
    driver.tournament("m1", [("g1", (1, 2)), ("g2", (2, 1))], model="model1")
    driver.do(c.Acquire("lock", "me", 5000))
    driver.do(c.PutToken("t", "read", "hash"))
    driver.do(c.PutSettings({"target_elo": raw(1800)}))
    driver.do(c.SetAlias("champion/square8_2p", "model1", "", c.Evidence("manual", note="golden")))
    driver.do(c.SetAlert("disk", "v1", active=True))
    driver.do(c.Halt("train", "golden"))
    driver.add("d", run_at_ms=driver.now_ms + 10_000)
    driver.lease()
    return b"".join(driver.machine.snapshot())


if __name__ == "__main__":
    fuzz(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, seed=int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    assert KINDS
