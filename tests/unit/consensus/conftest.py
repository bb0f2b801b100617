from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pysyncobj.syncobj as library
import pytest
import uvloop

sys.path.insert(0, str(Path(__file__).parent))

from attack import Attack
from cluster import leader_of, running, until
from virtual import VirtualClock, World
from virtual_ours import Ours
from virtual_stock import Stock

from consensus import transport


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, type]:
    """Tests run on the event loop that voters run on."""
    del config, item
    return {"uvloop": uvloop.Loop}


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


@pytest.fixture
async def attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Attack]:
    monkeypatch.setattr(transport, "HELLO_S", 0.5)
    monkeypatch.setattr(transport, "PING_S", 0.1)
    async with running(tmp_path, 3) as voters:
        await leader_of(voters)
        attack = Attack(tmp_path, voters)
        await attack.still_serves()
        tasks, memory = len(asyncio.all_tasks()), psutil.Process().memory_info().rss
        yield attack
        for writer in attack.held:
            writer.transport.abort()
        await until(lambda: not attack.wire._handshakes and not attack.wire._strangers)
        await attack.still_serves()
        await until(lambda: len(asyncio.all_tasks()) <= tasks + 1)
        assert psutil.Process().memory_info().rss - memory < 96 << 20  # 64 TLS links, both ends of each in this process
