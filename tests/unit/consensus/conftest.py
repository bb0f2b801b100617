from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysyncobj.syncobj as library
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from virtual import VirtualClock, World
from virtual_ours import Ours
from virtual_stock import Stock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    """The time of everything that stands on the library, and its chance."""
    clock = VirtualClock()
    monkeypatch.setattr(library, "monotonicTime", clock.monotonic)
    monkeypatch.setattr(library, "random", random.Random(7))
    return clock


@pytest.fixture(params=["stock", "ours"])
def world_of(request: pytest.FixtureRequest, tmp_path: Path, clock: VirtualClock) -> Callable[..., World]:
    """Make a world of voters: the library's, then ours."""

    def make(names: str, **options: Any) -> World:
        kind = Stock if request.param == "stock" else Ours
        return kind(names, tmp_path, clock, **options)

    return make
