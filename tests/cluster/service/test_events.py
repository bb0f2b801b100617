"""Events have the same numbers on every voter: a listener goes on at another one where its own was killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.cluster.service.cluster import Cluster, cluster
from workqueue.machine.commands import Halt
from workqueue.tls import client_context

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


async def read(voters: Cluster, voter: str, since: int, count: int) -> list[dict[str, Any]]:
    """The first `count` events after `since`, from one voter; a listener connects again when its connection breaks."""
    url = next(each.http for each in voters.voters if each.id == voter) + "/v1/events"
    tls, found = client_context(voters.created.ca), list[dict[str, Any]]()
    async with aiohttp.ClientSession() as session, asyncio.timeout(20):
        while len(found) < count:
            last = found[-1]["seq"] if found else since
            headers = {"Authorization": f"Bearer {voters.token()}", "Last-Event-ID": str(last)}
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.get(url, headers=headers, ssl=tls) as got:
                    got.raise_for_status()
                    while len(found) < count and (line := (await got.content.readline()).decode()):
                        if line.startswith("data: "):
                            found.append(json.loads(line[6:]))
    return found


async def halt(voters: Cluster, *scopes: str) -> None:
    async with voters.client() as client:
        await client.submit(*(Halt(scope, "a test") for scope in scopes))


async def test_a_listener_goes_on_at_another_voter(tmp_path: Path) -> None:
    """After kill -9 of the voter that it listened to, which led, no event is missing and none comes twice."""
    async with cluster(tmp_path, 3) as voters:
        leader = await voters.wait_ready()
        await halt(voters, "before-1", "before-2")
        seen = await read(voters, leader, 0, 3)
        last = seen[-1]["seq"]
        await voters.kill(leader)
        await halt(voters, "after-1", "after-2")
        others = [voter for voter in voters.running() if voter != leader]
        rest = {voter: await _until(voters, voter, last, "after-2") for voter in others}
        first, second = rest.values()
        assert first == second
        numbers = [event["seq"] for event in [*seen, *first]]
        assert numbers == list(range(1, len(numbers) + 1))
        subjects = [event["subject"] for event in [*seen, *first] if event["name"] == "audit.halt"]
        assert subjects == ["before-1", "before-2", "after-1", "after-2"]


async def _until(voters: Cluster, voter: str, since: int, subject: str) -> list[dict[str, Any]]:
    """Events after `since` up to the one about `subject`."""
    count = 1
    while True:
        found = await read(voters, voter, since, count)
        if found[-1]["subject"] == subject:
            return found
        count += 1
