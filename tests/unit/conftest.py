"""What holds for every test: a backend of nets that a command or a job chose is not the next test's."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _backend_in_use() -> Iterator[None]:
    yield
    if chosen := sys.modules.get("engine.nets.inference"):  # loads torch: only where a test has
        chosen.use("torch")
