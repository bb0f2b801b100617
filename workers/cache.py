"""Artifacts that jobs have used here, the longest unused evicted first; whatever a running job uses stays.

What an earlier run of the agent left is digested before its first use: a disk may rot, and a copy may be had anew.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import TYPE_CHECKING, Protocol

from workqueue.store import digest_file, is_name

if TYPE_CHECKING:
    from pathlib import Path


class Source(Protocol):
    """Where what is missing comes from."""

    async def get_artifact(self, sha256: str, path: Path, *, job: str = "") -> None:
        """Fetch bytes by name on behalf of a job, verified."""


class Cache:
    """A folder of files by SHA-256 with a quota; their access time is their modification time."""

    def __init__(self, folder: Path, quota_bytes: int, source: Source) -> None:
        self._folder = folder
        self._quota = quota_bytes
        self._source = source
        self._pins: dict[str, int] = {}
        self._fetching: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._trusted: set[str] = set()  # verified since this agent started
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where these bytes are or would be."""
        return self._folder / sha256

    async def get(self, sha256: str, job: str = "") -> Path:
        """Return the file with these bytes, fetched at most once at a time; raises what the source raises."""
        if not is_name(sha256):
            raise ValueError(f"{sha256!r} is not the SHA-256 of an artifact")
        path = self.path(sha256)
        lock = self._fetching.setdefault(sha256, asyncio.Lock())
        async with lock:
            if path.exists() and await asyncio.to_thread(self._is_whole, path):
                os.utime(path)
            else:
                await self._source.get_artifact(sha256, path, job=job)
                self._trusted.add(sha256)
                path.chmod(0o444)
                self.evict()
        return path

    def _is_whole(self, path: Path) -> bool:
        """Whether a file has the bytes of its name, looked at once; one that has not is deleted. Blocks."""
        if path.name not in self._trusted:
            if digest_file(path) != path.name:
                path.unlink(missing_ok=True)
                return False
            self._trusted.add(path.name)
        return True

    def pin(self, sha256: str) -> None:
        """Keep these bytes until as many unpins."""
        self._pins[sha256] = self._pins.get(sha256, 0) + 1

    def unpin(self, sha256: str) -> None:
        """End one pin."""
        left = self._pins.get(sha256, 0) - 1
        if left > 0:
            self._pins[sha256] = left
        else:
            self._pins.pop(sha256, None)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self._files())

    def evict(self, more_bytes: int = 0) -> list[str]:
        """Delete the longest unused files until `more_bytes` fit into the quota; returns their names."""
        files = sorted(self._files())
        used = sum(size for _, size, _ in files) + more_bytes
        gone = []
        for _, size, path in files:
            if used <= self._quota:
                break
            if path.name not in self._pins:
                path.unlink(missing_ok=True)
                self._trusted.discard(path.name)
                used -= size
                gone.append(path.name)
        return gone

    def _files(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self._folder.iterdir():
            stat = path.stat()
            found.append((stat.st_mtime, stat.st_size, path))
        return found
