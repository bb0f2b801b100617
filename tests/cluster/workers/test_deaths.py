"""A worker that dies has its jobs running on another within seconds, whichever way its death is noticed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.cluster.workers import deaths

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
WITHIN_S = 6.0
HANG_WITHIN_S = 8.0  # its silence is waited for before its gossip ends


async def test_jobs_of_the_dead_run_elsewhere_within_six_seconds(tmp_path: Path) -> None:
    """A machine that is gone, an agent killed with -9 or hung, and a worker that only beats; leases take a minute.

    More members and trials: `python -m benchmarks.deaths`.
    """
    async with deaths.group(tmp_path, voters=3, workers=2, members=12) as group:
        assert {road for _, road in (await group.members()).values()} == {"gossip"}
        assert await group.trial("machine") < WITHIN_S
        assert await group.trial("agent") < WITHIN_S
        assert await group.trial("hang") < HANG_WITHIN_S
        async with group.beating():
            assert (await group.members())["quiet0"] == ("alive", "lease")
            assert await group.trial("machine") < WITHIN_S


async def test_a_false_hint_ends_nothing(tmp_path: Path) -> None:
    """A worker whose gossip process alone dies keeps its job by its heartbeats, and gossips again."""
    async with deaths.group(tmp_path, voters=3, workers=1, members=6) as group:
        name, holder = await group.start_job()
        [worker] = group.workers
        [gossip] = worker.children("membership.process")
        gossip.kill()
        async with asyncio.timeout(20):
            while (await group.members())[holder] != ("alive", "lease"):
                await asyncio.sleep(0.05)
            while (await group.members())[holder] != ("alive", "gossip"):
                await asyncio.sleep(0.1)
        await asyncio.sleep(5)  # a time to live of its heartbeats, and more than a suspicion lasts
        job = await group.client.query("job", job=name)
        assert (job["state"], job["attempt"], job["worker"]) == ("running", 1, holder)
