"""The worker's client: it leaves a voter that is connected but passes no heartbeats on, and not too often."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from config.cluster import WorkerSettings
from workers import client as worker_client
from workers.client import WorkerClient
from workqueue.client import Client
from workqueue.errors import Unavailable
from workqueue.transfer import PROVIDER

if TYPE_CHECKING:
    from pathlib import Path

SERVERS = ("https://a:1", "https://b:1", "https://c:1")


class Link:
    """A connection that may be closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def close(self) -> None:
        self.closed.set()


@pytest.fixture
def client(tmp_path: Path) -> WorkerClient:
    settings = WorkerSettings("w", SERVERS, "t", str(tmp_path / "ca.pem"), provider="vast")
    return WorkerClient(settings, "secret")


def connect(client: WorkerClient) -> Link:
    """As a first call does."""
    link = Link()
    client._link = link  # type: ignore[assignment]
    return link


async def test_a_heartbeat_that_is_not_answered_turns_to_the_next_voter(
    client: WorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is given up, what waits on it goes on at the next voter; an answer resets the pauses."""
    answers: list[BaseException | None] = [asyncio.CancelledError(), Unavailable(["a"]), None]

    async def beat(self: Client, *_: object) -> None:
        answer = answers.pop(0)
        if isinstance(answer, asyncio.CancelledError):
            await asyncio.sleep(10)
        elif answer:
            raise answer

    monkeypatch.setattr(Client, "beat", beat)
    monkeypatch.setattr(worker_client, "BEAT_S", 0.02)
    first, at = connect(client), client._at
    with pytest.raises(TimeoutError):
        await client.beat("w", "b", 1, {})
    assert client._at == (at + 1) % 3
    assert client._link is None
    await asyncio.wait_for(first.closed.wait(), 1)
    second = connect(client)
    with pytest.raises(Unavailable):
        await client.beat("w", "b", 2, {})
    assert not second.closed.is_set(), "it stays for a while before it moves again"
    await client.beat("w", "b", 3, {})
    assert client._moves == 0


async def test_the_provider_is_named(client: WorkerClient) -> None:
    """So that voters can hold all its machines to one rate."""
    assert client.headers[PROVIDER] == "vast"
    assert client.headers["Authorization"] == "Bearer secret"
