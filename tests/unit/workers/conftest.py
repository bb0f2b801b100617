"""Agents with real runners and a voter in memory."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.workers.memory import MemoryVoters
from workers.agent import Agent
from workers.attempts import Options, SlotSpec
from workers.events import Order
from workers.limits import Limits
from workqueue.machine.commands import Capability

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

EXAMPLE = Path(__file__).parent / "example"
CAPABILITY = Capability(cpus=2, ram_mb=2048, disk_mb=1000, kinds=("fake",), rules_version="1")


@pytest.fixture
def voters() -> MemoryVoters:
    return MemoryVoters()


@pytest.fixture
def root() -> Path:
    return Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Runners find the example package as if it were installed."""
    monkeypatch.setenv("PYTHONPATH", f"{EXAMPLE}:{root}")


def options(worker: str = "w", slots: int = 1, **fields: object) -> Options:
    return Options(
        worker, f"boot-{worker}", CAPABILITY, tuple(SlotSpec() for _ in range(slots)), **fields  # type: ignore[arg-type]
    )  # fmt: skip


class Started:
    """An agent that runs in the test's loop."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.task = asyncio.create_task(agent.run())

    async def leave(self, order: Order = Order.STOP) -> int:
        self.agent.order(order)
        async with asyncio.timeout(20):
            return await self.task

    async def vanish(self) -> None:
        """Stop without a word to the voters, as kill -9 would."""
        for runner in self.agent._runners.processes.values():
            runner.kill()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def start(tmp_path: Path, voters: MemoryVoters) -> AsyncIterator[Callable[..., Started]]:
    made: list[Started] = []

    def begin(opts: Options | None = None, data: Path | None = None, **limits: object) -> Started:
        values = {
            "cpus": 1,
            "threads": 1,
            "memory_mb": 0,
            "disk_bytes": 1 << 30,
            "floor_bytes": 1 << 20,
            "tick_s": 0.02,
        } | limits
        given = opts or options()
        agent = Agent(given, Limits(**values), data or tmp_path / given.worker, voters)  # type: ignore[arg-type]
        agent._courier._pause_s = 0.05
        made.append(Started(agent))
        return made[-1]

    yield begin
    for started in made:
        started.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await started.task
