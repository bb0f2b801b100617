"""Bytes on their way: gathered into large blocks, written by threads while more arrive, and held to a rate."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from workqueue.store import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from pathlib import Path

    from aiohttp import StreamReader

    Sink = Callable[[bytes], None]

AHEAD = 8  # blocks that may wait to be written


class Throttle:
    """A token bucket over bytes; 0 = unlimited. Several connections may share one."""

    def __init__(self, kbps: int) -> None:
        self._bytes_s = kbps * 125
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        """Wait until `size` more bytes may pass."""
        if not self._bytes_s:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / self._bytes_s
        await asyncio.sleep(self._free_at - now)


async def read_blocks(path: Path, start: int, size: int) -> AsyncGenerator[bytes, None]:
    """Yield a file's bytes from `start` up to `size`, reading one block while another is used."""
    with path.open("rb") as file:
        file.seek(start)
        reading = asyncio.ensure_future(asyncio.to_thread(file.read, BLOCK_BYTES))
        try:
            while start < size and (block := await reading):
                reading = asyncio.ensure_future(asyncio.to_thread(file.read, BLOCK_BYTES))
                yield block
                start += len(block)
        finally:
            await asyncio.gather(reading, return_exceptions=True)


async def gather_blocks(content: StreamReader, timeout_s: float) -> AsyncGenerator[bytes, None]:
    """Yield a body in large blocks; what has arrived is yielded also when the connection breaks or stalls."""
    parts: list[bytes] = []
    size = 0
    try:
        while True:
            async with asyncio.timeout(timeout_s):
                part = await content.readany()
            if not part:
                break
            parts.append(part)
            size += len(part)
            if size >= BLOCK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
    except (OSError, TimeoutError):
        if parts:
            yield b"".join(parts)
        raise
    if parts:
        yield b"".join(parts)


async def pipe(blocks: AsyncIterator[bytes], sinks: Sequence[Sink], throttles: Sequence[Throttle] = ()) -> None:
    """Give each block to all sinks, each in a thread of its own; all that arrived is given before an error goes on."""
    loop = asyncio.get_running_loop()
    given: deque[asyncio.Future[list[None]]] = deque()
    with contextlib.ExitStack() as stack:
        threads = [stack.enter_context(ThreadPoolExecutor(1)) for _ in sinks]
        try:
            async for block in blocks:
                if len(given) >= AHEAD:
                    await given.popleft()
                takers = zip(threads, sinks, strict=True)
                given.append(asyncio.gather(*(loop.run_in_executor(thread, sink, block) for thread, sink in takers)))
                for throttle in throttles:
                    await throttle.take(len(block))
        finally:
            await asyncio.gather(*given)
