"""The cache of artifacts: fetched once, whole, and only what nobody uses makes room."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

import workers.cache
from workers.cache import Cache

if TYPE_CHECKING:
    from pathlib import Path


class Source:
    """Answers with bytes by name, and counts."""

    def __init__(self) -> None:
        self.bytes: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []

    def made(self, number: int, size: int = 100) -> str:
        data = hashlib.shake_128(number.to_bytes(4)).digest(size)
        name = hashlib.sha256(data).hexdigest()
        self.bytes[name] = data
        return name

    async def get_artifact(self, sha256: str, path: Path, *, job: str = "") -> None:
        self.asked.append((sha256, job))
        await asyncio.sleep(0)
        path.write_bytes(self.bytes[sha256])


@pytest.fixture
def source() -> Source:
    return Source()


async def test_many_at_once_fetch_once(source: Source, tmp_path: Path) -> None:
    """All who ask for an artifact share one download, which runs on behalf of the first one's job."""
    cache, name = Cache(tmp_path / "cache", 1_000, source), source.made(1)
    paths = await asyncio.gather(*(cache.get(name, f"job-{number}") for number in range(5)))
    assert {path.read_bytes() for path in paths} == {source.bytes[name]}
    assert source.asked == [(name, "job-0")]
    with pytest.raises(ValueError, match="not the SHA-256"):
        await cache.get("../secrets")


async def test_the_longest_unused_makes_room(source: Source, tmp_path: Path) -> None:
    """Never what a running job uses, however long ago it asked for it."""
    cache = Cache(tmp_path / "cache", 300, source)
    names = [source.made(number) for number in range(4)]
    for age, name in enumerate(names[:3]):
        os.utime(await cache.get(name), (age, age))
    cache.pin(names[0])
    cache.pin(names[0])
    cache.unpin(names[0])
    await cache.get(names[3])
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {names[0], names[2], names[3]}
    assert cache.size_bytes == 300
    cache.unpin(names[0])
    assert cache.evict(more_bytes=100) == [names[0]]


async def test_a_byte_that_rotted_between_two_runs_is_found(source: Source, tmp_path: Path) -> None:
    """What an earlier agent left is looked at once before it is used."""
    whole, damaged = source.made(1), source.made(2)
    for name in (whole, damaged):
        await Cache(tmp_path / "cache", 1_000, source).get(name)
    path = tmp_path / "cache" / damaged
    path.chmod(0o644)
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    cache = Cache(tmp_path / "cache", 1_000, source)
    source.asked.clear()
    for name in (whole, damaged, whole, damaged):
        assert (await cache.get(name)).read_bytes() == source.bytes[name]
    assert [name for name, _ in source.asked] == [damaged]


async def test_bytes_are_looked_at_once(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files that every job uses are not read again and again; what is not being fetched holds no lock."""
    kept, new = source.made(1), source.made(2)
    await Cache(tmp_path / "cache", 1_000, source).get(kept)
    looked: list[str] = []

    def digest(path: Path) -> str:
        looked.append(path.name)
        return path.name

    monkeypatch.setattr(workers.cache, "digest_file", digest)
    cache = Cache(tmp_path / "cache", 1_000, source)
    for name in (kept, new, kept, new):
        await cache.get(name)
    assert looked == [kept]
    assert len(cache._fetching) == 0
