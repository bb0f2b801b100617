"""The machine is the same everywhere: whatever the hash seed, and in the documents."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from workqueue.machine.transitions import ENDED, diagram

# ---- the same everywhere


RUN = """
import sys; sys.path.insert(0, ".")
from tests.unit.machine.driver import Driver
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
