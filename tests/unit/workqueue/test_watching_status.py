"""`rift status --watch` is told of changes over the event stream, and asks where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from workqueue import client as client_module
from workqueue.client import Client
from workqueue.errors import Rejected
from workqueue.machine.commands import Enqueue, JobSpec

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.unit.workqueue.conftest import Voter


def routes_asked(voter: Voter) -> dict[str, float]:
    """How often each route was answered."""
    [family] = voter.context.metrics.requests.collect()
    return {s.labels["route"]: s.value for s in family.samples if s.name.endswith("_total")}


async def following(documents: AsyncGenerator[dict[str, Any]]) -> dict[str, Any]:
    async with asyncio.timeout(10):
        return await anext(documents)


async def test_changes_come_by_themselves(voter: Voter) -> None:
    """At once, then again when a job was added; `/status` is not asked for."""
    async with voter.client() as client, contextlib.aclosing(client.statuses()) as documents:
        before = await following(documents)
        await client.submit(Enqueue((JobSpec("a", "open"),)))
        after = await following(documents)
        while after["consensus"]["applied_index"] == before["consensus"]["applied_index"]:
            after = await following(documents)
        assert after["voter"] == "voter-1"
        assert "/status" not in routes_asked(voter)


async def test_a_document_may_come_in_pieces(voter: Voter) -> None:
    """However the network cuts it, also within the words that announce it."""

    async def follow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        text = b'retry: 1000\n\n: nothing\n\nid: 7\nevent: job.claimed\ndata: {"seq":7}\n\n'
        for byte in text + b'event: status\ndata: {"voter":"v"}\n\nevent: status\ndata: {"voter":"w"}\n\n':
            await response.write(bytes([byte]))
            await asyncio.sleep(0.001)
        return response

    app = web.Application()
    app.add_routes([web.get("/v1/events", follow)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with (
            Client([url], token="t", ca=voter.created.ca) as client,
            contextlib.aclosing(client.statuses()) as documents,
        ):
            assert [(await following(documents))["voter"] for _ in range(2)] == ["v", "w"]
    finally:
        await runner.cleanup()


async def busy(client: Client) -> None:
    """Change something all the time, so that there is always another document."""
    for number in itertools.count():
        await client.submit(Enqueue((JobSpec(f"j{number}", "open"),)))
        await asyncio.sleep(0.05)


async def test_without_a_stream_it_asks(voter: Voter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A voter that gives no stream is not waited for; another is followed as soon as it is its turn."""
    monkeypatch.setattr(client_module, "_POLL_S", 0.01)
    monkeypatch.setattr(client_module, "_STREAM_AGAIN_S", 0.2)
    servers = ["https://127.0.0.1:1", voter.url]  # nobody listens at the first
    async with Client(servers, token=voter.token("admin"), ca=voter.created.ca) as client, voter.client() as other:
        client._at = 0
        changing = asyncio.create_task(busy(other))
        async with contextlib.aclosing(client.statuses()) as documents:
            while voter.context.metrics.connections._value.get() < 2:  # that of `other`, and the events
                assert (await following(documents))["schema"] == 1
            asked = routes_asked(voter)["/status"]
            assert asked >= 1
            for _ in range(2):
                await following(documents)
            assert routes_asked(voter)["/status"] == asked
        changing.cancel()


async def test_who_may_not_look_is_told(voter: Voter) -> None:
    """A token that does not hold ends it with a sentence."""
    async with Client([voter.url], token="none", ca=voter.created.ca) as client:
        with pytest.raises(Rejected, match="no such token"):
            await following(client.statuses())
