"""Seeded worlds: whatever fails in them, nothing acknowledged is lost; `python -m benchmarks.simulation` runs more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from consensus.simulation import World

SEEDS, PARTS = 200, 10


@pytest.mark.parametrize("part", range(PARTS))
def test_worlds_end_well(part: int) -> None:
    """Safety after every event, convergence at the end; the message of a failure names the seed."""
    writes = installed = 0
    for seed in range(part, SEEDS, PARTS):
        with World(seed) as world:
            try:
                report = world.run()
            except AssertionError as error:
                raise AssertionError(
                    f"seed {seed}: {error}; replay it with `python -m benchmarks.simulation --seed {seed}`"
                ) from error
        writes += report.writes
        installed += report.snapshots_installed
    assert writes > SEEDS / PARTS * 100  # it is worth nothing if the voters are always down
    assert installed > 0


def test_the_same_seed_is_the_same_world() -> None:
    """To the last event, also in a process that hashes differently."""
    with World(4) as world:
        here = world.run()
    code = "from consensus.simulation import World\nwith World(4) as w: print(w.run().fingerprint)"
    for hash_seed in ("1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert int(done.stdout) == here.fingerprint
