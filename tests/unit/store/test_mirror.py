"""A copy that is made while an upload arrives: as whole as any, and its failure is never the upload's."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.store.conftest import Http
from tests.unit.store.test_artifacts import broken_upload, made
from workqueue.http import copies
from workqueue.http.copies import preference
from workqueue.mirror import OFFSET, Mirror
from workqueue.store import StoreError
from workqueue.transfer import Holders, put_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.store.conftest import Cluster, Voter

SIZE = 7 << 20


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Voters that got a copy after the upload instead of beside it."""
    voters: list[str] = []
    push = Holders.push

    async def noted(self: Holders, voter: str, *rest: Any) -> None:
        voters.append(voter)
        await push(self, voter, *rest)

    monkeypatch.setattr(Holders, "push", noted)
    return voters


def order(cluster: Cluster, sha256: str) -> tuple[Voter, Voter, Voter]:
    """The voter that takes an upload, the one that it prefers for the copy, and the other."""
    first = cluster.voters[0]
    chosen = preference(sha256, [voter.voter_id for voter in cluster.voters[1:]])
    by_name = {voter.voter_id: voter for voter in cluster.voters}
    return first, by_name[chosen[0]], by_name[chosen[1]]


async def test_the_second_copy_is_made_while_the_first_arrives(
    cluster: Cluster, tmp_path: Path, pushed: list[str]
) -> None:
    """Both are whole when the upload is acknowledged, and nothing was copied after."""
    path, sha256 = made(tmp_path / "a", SIZE)
    first, second, third = order(cluster, sha256)
    await put_artifact(cluster.http, path, kind="weights")
    assert await first.store.verify(sha256)
    assert await second.store.verify(sha256)
    assert await third.store.size(sha256) is None
    assert cluster.registry.holders[sha256] == {first.voter_id, second.voter_id}
    assert pushed == []


async def test_a_voter_that_fails_in_the_midst_is_replaced(
    cluster: Cluster, tmp_path: Path, pushed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload goes on without it and the copy is made elsewhere."""
    path, sha256 = made(tmp_path / "a", SIZE)
    first, second, third = order(cluster, sha256)
    send, sent = Mirror.send, [0]

    def breaking(self: Mirror, block: bytes) -> None:
        sent[0] += len(block)
        if sent[0] > SIZE // 2 and self._link.sock:
            self._link.sock.close()
        send(self, block)

    monkeypatch.setattr(Mirror, "send", breaking)
    monkeypatch.setattr(second.store, "begin", _full)  # and it takes no more
    monkeypatch.setattr("workqueue.transfer._PAUSE_S", 0.002)
    await put_artifact(cluster.http, path, kind="weights")
    assert cluster.registry.holders[sha256] == {first.voter_id, third.voter_id}
    assert pushed[-1] == third.voter_id
    assert await third.store.verify(sha256)


async def test_a_voter_that_failed_is_asked_last_for_a_while(
    cluster: Cluster, tmp_path: Path, pushed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first upload waits for it."""
    asked: list[str] = []
    begin = Mirror.begin
    monkeypatch.setattr("workqueue.transfer._PAUSE_S", 0.002)

    def noted(self: Mirror, size: int, start: int) -> None:
        asked.append(f"{self._link.host}:{self._link.port}")
        begin(self, size, start)

    monkeypatch.setattr(Mirror, "begin", noted)
    path, sha256 = made(tmp_path / "a", SIZE)
    _, second, third = order(cluster, sha256)
    await second.stop()
    await put_artifact(cluster.http, path, kind="weights")
    for seed in range(2, 8):
        await put_artifact(cluster.http, made(tmp_path / "b", SIZE, seed)[0], kind="weights")
    assert [second.url.endswith(address) for address in asked] == [True] + [False] * 6
    assert pushed == [third.voter_id]


async def _full(sha256: str, size: int, offset: int) -> None:
    raise StoreError("no room")


async def test_an_upload_that_was_cut_goes_on_at_both(cluster: Cluster, tmp_path: Path, pushed: list[str]) -> None:
    """What the two voters have got is kept by both, and only the rest is sent to either."""
    path, sha256 = made(tmp_path / "a", SIZE)
    first, second, _ = order(cluster, sha256)
    cut = 2_345_678
    await broken_upload(first.url, sha256, path.read_bytes()[:cut], SIZE)
    async with asyncio.timeout(5):
        while await second.store.offset(sha256) != cut:
            await asyncio.sleep(0.01)
    await put_artifact(cluster.http, path, kind="weights")
    assert cluster.registry.holders[sha256] == {first.voter_id, second.voter_id}
    assert await second.store.verify(sha256)
    assert pushed == []


async def test_a_byte_that_flips_between_voters_is_found(
    cluster: Cluster, tmp_path: Path, pushed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second voter verifies what reaches it; a damaged copy counts for nothing and is made again."""
    path, sha256 = made(tmp_path / "a", SIZE)
    first, second, _ = order(cluster, sha256)
    send = Mirror.send
    monkeypatch.setattr(Mirror, "send", lambda self, block: send(self, block[:99] + b"\xff\x00\xff" + block[102:]))
    await put_artifact(cluster.http, path, kind="weights")
    assert pushed == [second.voter_id]
    assert cluster.registry.holders[sha256] == {first.voter_id, second.voter_id}
    assert await second.store.verify(sha256)


async def test_a_part_of_an_upload_is_kept_at_both_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """A request that brings a part only is answered with where to go on, without waiting for the rest."""
    path, sha256 = made(tmp_path / "a", SIZE)
    first, second, _ = order(cluster, sha256)
    half = SIZE // 2
    headers = cluster.http.headers | {"Content-Range": f"bytes 0-{half - 1}/{SIZE}"}
    data = path.read_bytes()
    async with asyncio.timeout(5):
        url = f"{first.url}/v1/artifacts/{sha256}"
        async with cluster.http.session.put(url, data=io.BytesIO(data[:half]), headers=headers) as answer:
            assert (answer.status, answer.headers[OFFSET]) == (409, str(half))
        while await second.store.offset(sha256) != half:
            await asyncio.sleep(0.01)


async def test_many_uploads_at_once_to_all_voters(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Voters that copy to each other at the same time do not wait for each other for ever."""
    monkeypatch.setattr(copies, "MIRROR_BYTES_MIN", 1)
    sizes = [made(tmp_path / str(seed), 50_000, seed) for seed in range(60)]

    async def put(turn: int, path: Path) -> None:
        servers = [voter.url for voter in cluster.voters]
        http = Http(cluster.http.session, servers[turn % 3 :] + servers[: turn % 3])
        await put_artifact(http, path, kind="shard")

    async with asyncio.timeout(30):
        await asyncio.gather(*(put(turn, path) for turn, (path, _) in enumerate(sizes)))
    assert all(len(cluster.registry.holders[sha256]) == 2 for _, sha256 in sizes)


async def test_small_uploads_are_copied_after(cluster: Cluster, tmp_path: Path, pushed: list[str]) -> None:
    """A connection of its own is not worth it for them."""
    path, _ = made(tmp_path / "a", 300_000)
    await put_artifact(cluster.http, path, kind="shard")
    assert len(pushed) == 1


def test_a_mirror_that_cannot_connect_says_so() -> None:
    """It takes what it is given and has stored nothing."""
    mirror = Mirror("http://127.0.0.1:1", None, "0" * 64, "shard")
    mirror.begin(10, 0)
    mirror.send(b"x" * 10)
    mirror.finish()
    assert not mirror.stored
