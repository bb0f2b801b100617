"""Bytes on their way: gathered into large blocks, written by threads while more arrive, and held to a rate."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from pathlib import Path

    from aiohttp import StreamReader

    Block = bytes | memoryview
    Sink = Callable[[Block], None]

BLOCK_BYTES = 1 << 20
AHEAD = 4  # blocks that may wait to be written; whoever gives one may use its memory again that many later
SHARES_MAX = 1_000  # names whose rate is remembered


class Throttle:
    """A token bucket over bytes; 0 = unlimited. Several connections may share one."""

    def __init__(self, kbps: int) -> None:
        self._bytes_s = kbps * 125
        self._free_at = 0.0

    @property
    def limited(self) -> bool:
        """Whether it ever makes wait."""
        return self._bytes_s > 0

    async def take(self, size: int) -> None:
        """Wait until `size` more bytes may pass."""
        if not self._bytes_s:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / self._bytes_s
        await asyncio.sleep(self._free_at - now)


class Shares:
    """One throttle a name, all of the same rate; those used longest ago are forgotten."""

    def __init__(self, kbps: int, names_max: int = SHARES_MAX) -> None:
        self._kbps = kbps
        self._names_max = names_max
        self._throttles: OrderedDict[str, Throttle] = OrderedDict()

    def of(self, name: str) -> Throttle:
        """Return what all transfers of this name share."""
        throttle = self._throttles.pop(name, None) or Throttle(self._kbps)
        self._throttles[name] = throttle
        if len(self._throttles) > self._names_max:
            self._throttles.popitem(last=False)
        return throttle


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


async def pipe(blocks: AsyncIterator[Block], sinks: Sequence[Sink], throttles: Sequence[Throttle] = ()) -> None:
    """Give each block to all sinks, each in a thread of its own; all that arrived is given before an error goes on."""
    given: deque[asyncio.Future[list[Future[None]]]] = deque()
    with contextlib.ExitStack() as stack:
        threads = [stack.enter_context(ThreadPoolExecutor(1)) for _ in sinks]
        try:
            async for block in blocks:
                while len(given) >= AHEAD:
                    _check(await given[0])
                    del given[0]
                given.append(_give(block, threads, sinks))
                for throttle in throttles:
                    await throttle.take(len(block))
        finally:
            ended = await asyncio.gather(*given)
        for works in ended:
            _check(works)


def _give(
    block: Block, threads: Sequence[ThreadPoolExecutor], sinks: Sequence[Sink]
) -> asyncio.Future[list[Future[None]]]:
    """Start all sinks on a block; the loop is woken once, when the last of them is done with it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[Future[None]]] = loop.create_future()
    works = [thread.submit(sink, block) for thread, sink in zip(threads, sinks, strict=True)]
    left = itertools.count(len(works) - 1, -1)

    def count(_: Future[None]) -> None:
        if next(left) == 0:
            loop.call_soon_threadsafe(end)

    def end() -> None:
        if not done.cancelled():
            done.set_result(works)

    for work in works:
        work.add_done_callback(count)
    return done


def _check(works: list[Future[None]]) -> None:
    for work in works:
        work.result()
