"""Orders from outside the cluster: the command that knows of a spot notice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from workers.control import watch_spot
from workers.events import Order

if TYPE_CHECKING:
    from collections.abc import Callable

    Orders = list[tuple[Order, str]]


@pytest.fixture
def orders() -> Orders:
    return []


def taking(orders: Orders) -> Callable[[Order, str], None]:
    return lambda order, reason: orders.append((order, reason))


async def test_a_spot_notice_stops_the_worker(tmp_path: Path, orders: Orders) -> None:
    """The command is run until it exits with 0, whatever else it says; then the worker is told to stop, once."""
    notice, asked = tmp_path / "notice", tmp_path / "asked"
    command = f"echo >> {asked}; echo noise; echo noise >&2; test -e {notice}"
    watching = asyncio.create_task(watch_spot(command, taking(orders), period_s=0.02))
    async with asyncio.timeout(40):
        while not asked.exists() or len(asked.read_text()) < 3:
            await asyncio.sleep(0.01)
        assert orders == []
        notice.touch()
        await watching
    assert orders == [(Order.STOP, "spot notice")]


async def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path, orders: Orders) -> None:
    """It is no notice, and nothing of it is left, also when the worker leaves meanwhile."""
    pids = tmp_path / "pids"
    watching = asyncio.create_task(
        watch_spot(f"sleep 600 & echo $! >> {pids}; wait", taking(orders), period_s=0.7)
    )  # fmt: skip
    async with asyncio.timeout(40):
        while not pids.exists() or len(pids.read_text().split()) < 2:  # the first was ended, the second waits
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # the shell may write before its start is over on this side
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        while any(runs(int(pid)) for pid in pids.read_text().split()):
            await asyncio.sleep(0.01)
    assert orders == []


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
