"""What holds for every test: few threads, and a backend of nets that one test chose is not the next one's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

# Threads that wait for each other take a thousand times longer where other programs keep the processors busy, and the
# nets of tests are tiny. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _as_at_the_start() -> Iterator[None]:
    yield
    if chosen := sys.modules.get("engine.nets.inference"):  # loads torch: only where a test has
        chosen.use("torch")
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
