"""Copies of an upload on other voters: made while it arrives when it is large, else after."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol

from workqueue.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from workqueue.blocks import Sink
    from workqueue.machine.commands import ArtifactRef
    from workqueue.mirror import Mirror
    from workqueue.transfer import Holders

SHUN_S = 30.0  # a voter that failed to take a copy is asked last
MIRRORS_MAX = 16  # copies that are made while uploads arrive; further ones are made after
MIRROR_BYTES_MIN = 4 << 20  # of an upload that is copied while it arrives
_COPY_S = 60.0


def preference(sha256: str, voters: Sequence[str]) -> list[str]:
    """Order voters by rendezvous hashing (Thaler and Ravishankar 1998): alike on every voter, even over artifacts."""
    return sorted(voters, key=lambda voter: hashlib.sha256(f"{voter}/{sha256}".encode()).digest())


class HasHolders(Protocol):
    """What knows the other voters."""

    holders: Holders


class Mirrors:
    """The mirrors of one upload, by voter."""

    def __init__(self, owner: Copies, mirrors: dict[str, Mirror]) -> None:
        self._owner = owner
        self._mirrors = mirrors

    @property
    def sinks(self) -> list[Sink]:
        """What takes the upload's blocks; to be called in threads."""
        return [mirror.send for mirror in self._mirrors.values()]

    @property
    def stored(self) -> list[str]:
        """Voters that have the whole artifact now."""
        return [voter for voter, mirror in self._mirrors.items() if mirror.stored]

    async def finish(self) -> None:
        """Wait until each has stored the bytes or has failed to."""
        await self._owner.in_threads([mirror.finish for mirror in self._mirrors.values()])

    def close(self) -> None:
        """Hang up; what the others have got is kept there."""
        for mirror in self._mirrors.values():
            mirror.close()
        self._owner.ended(self._mirrors)


class Copies:
    """Where copies go; voters that failed a moment ago are asked last."""

    def __init__(self, context: HasHolders, count: int) -> None:
        self._context = context
        self._count = count  # besides the voter's own
        # Threads of their own: two voters whose common ones all wait for the other's answer would wait for ever.
        self._threads = ThreadPoolExecutor(MIRRORS_MAX, "mirror")
        self._mirrored = 0
        self._shunned_until_s: dict[str, float] = {}

    async def mirrors(self, ref: ArtifactRef, start: int) -> Mirrors:
        """Begin to pass an upload on, if what is to come is large enough to be worth connections of its own."""
        large = ref.size_bytes - start >= MIRROR_BYTES_MIN
        count = max(0, min(self._count, MIRRORS_MAX - self._mirrored)) if large else 0
        chosen = self._order(ref.sha256, self._context.holders.urls)[:count]
        made = {voter: self._context.holders.mirror(voter, ref.sha256, ref.kind) for voter in chosen}
        self._mirrored += len(made)
        await self.in_threads([partial(mirror.begin, ref.size_bytes, start) for mirror in made.values()])
        return Mirrors(self, made)

    async def in_threads(self, works: Iterable[Callable[[], None]]) -> None:
        """Run what blocks, all at once."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, work) for work in works))

    def ended(self, mirrors: dict[str, Mirror]) -> None:
        """Take note of how the mirrors of an upload fared."""
        self._mirrored -= len(mirrors)
        for voter, mirror in mirrors.items():
            if mirror.failed:
                self._shun(voter)

    async def make(self, path: Path, ref: ArtifactRef, holding: Sequence[str]) -> list[str]:
        """Copy a file until it is on as many voters as wanted, those `holding` it counted; returns the new holders."""
        made: list[str] = []
        others = [voter for voter in self._context.holders.urls if voter not in holding]
        for voter in self._order(ref.sha256, others):
            if len(holding) + len(made) > self._count:
                break
            try:
                async with asyncio.timeout(_COPY_S):
                    await self._context.holders.push(voter, path, ref)
            except (ClientError, TimeoutError):
                self._shun(voter)
            else:
                made.append(voter)
        return made

    def _order(self, sha256: str, voters: Iterable[str]) -> list[str]:
        now_s = asyncio.get_running_loop().time()
        return sorted(preference(sha256, list(voters)), key=lambda v: self._shunned_until_s.get(v, 0.0) > now_s)

    def _shun(self, voter: str) -> None:
        self._shunned_until_s[voter] = asyncio.get_running_loop().time() + SHUN_S
