"""One source, many builds: all play the same games, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


def digests(*arguments: str, **variables: str) -> list[str]:
    """Run the fixed games under a build and return its lines."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_") or k == "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("replay.py")), *arguments],
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def compiled() -> list[str]:
    lines = digests()
    assert len(lines) == 12
    return lines


def test_plain_python_agrees(compiled: list[str]) -> None:
    """The source without any compiler gives every legal list, state and hash of the compiled run."""
    assert digests(NUMBA_DISABLE_JIT="1") == compiled


def test_bounds_checked_build_agrees(compiled: list[str]) -> None:
    """With every index checked nothing is out of bounds, and the games are the same."""
    assert digests(NUMBA_BOUNDSCHECK="1") == compiled


def test_bounds_checked_build_checks() -> None:
    """That build does refuse an index out of bounds."""
    program = (
        "import numpy as np; from engine.rules import kernels, movement; from engine.rules.geometry import geometry\n"
        "g = geometry('square8', 2).tables; s = np.zeros(g.state_words, dtype=np.int32)\n"
        "kernels.new_game(s, g)\n"
        "movement.add_rays(s, g.table, 10**6, 3, s, 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_BOUNDSCHECK": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert "IndexError" in done.stderr


def test_cuda_simulator_agrees(compiled: list[str]) -> None:
    """The CUDA kernel ends whole games in the states of the CPU."""
    assert digests("cuda", NUMBA_DISABLE_JIT="1", NUMBA_ENABLE_CUDASIM="1") == compiled[1::2]


@pytest.mark.gpu
@pytest.mark.timeout(600)
def test_cuda_device_agrees(compiled: list[str]) -> None:
    """On a real device too."""
    assert digests("cuda") == compiled[1::2]
