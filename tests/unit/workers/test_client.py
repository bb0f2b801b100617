"""The worker's client: it leaves a voter that is connected but passes no heartbeats on, and not too often."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from config.cluster import StoreSettings, WorkerSettings
from tests.unit.store.conftest import cluster_of
from workers import client as worker_client
from workers.client import WorkerClient
from workers.network import DOWN, UP, Network
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


async def test_the_network_is_measured_by_what_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way by itself, told with every heartbeat and kept; bytes that voters hold already do not pass."""
    told: list[dict[str, object]] = []

    async def beat(self: Client, worker: str, boot: str, seq: int, metadata: dict[str, object]) -> None:
        told.append(metadata)

    monkeypatch.setattr(Client, "beat", beat)
    path, seen = tmp_path / "file", []
    path.write_bytes(bytes(range(256)) * 12_000)  # 3 MB
    async with cluster_of(tmp_path / "voters", 1, StoreSettings(replicas=1, floor_mb=1)) as cluster:
        settings = {"id": "w", "join": cluster.http.servers, "token_file": "t", "ca": "c", "data": str(tmp_path)}
        client = WorkerClient(msgspec.convert(settings, WorkerSettings), "w")
        client._session = cluster.http.session
        ref = await client.put_artifact(path, kind="shard", progress=lambda *done: seen.append(done))
        up = client._network.rates[UP]
        assert client._network.rates == {UP: up}
        await client.put_artifact(path, kind="shard")
        assert client._network.rates == {UP: up}
        await client.get_artifact(ref.sha256, tmp_path / "again")
        (tmp_path / "rest.part").write_bytes(path.read_bytes()[:-1000])
        down = client._network.rates[DOWN]
        await client.get_artifact(ref.sha256, tmp_path / "rest")
        assert client._network.rates == {UP: up, DOWN: down}
    assert seen[-1] == (3_072_000, 3_072_000)
    await client.beat("w", "b", 1, {"running": []})
    assert told == [{"running": [], UP: up, DOWN: down}]
    assert Network(tmp_path / "network.json").rates == {UP: up, DOWN: down}
