"""Takes a request's body straight from its connection into large blocks, past the web server's own parser.

The parser would hand over every TLS record as an object of its own; to receive into a buffer instead costs half of the
processor's time, which is what bounds an upload. Only bodies of a known length without an encoding are taken so, and
their connection is closed after the answer, because the parser has not seen where the body ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from aiohttp import web

from workqueue.blocks import AHEAD, gather_blocks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from workqueue.blocks import Block

TAKEN = web.RequestKey("intake", bool)  # set in a request whose connection has to be closed
LEFT_BYTES_MIN = 4 << 20  # of a body that is worth it
INTAKES_MAX = 16  # at a time: each keeps up to 14 MB of blocks
_BLOCK_BYTES = 2 << 20
_WAITING = 2  # full blocks that may wait before the sender is held back


class Intake(asyncio.BufferedProtocol):
    """Receives the last `left` bytes of a body in place of the web server's protocol, then gives way to it again."""

    def __init__(self, request: web.Request, first: bytes, left: int) -> None:
        assert request.transport
        self._transport = request.transport
        server = request.transport.get_protocol()  # the door's guest around the web server's: it must see the end
        assert isinstance(server, asyncio.Protocol)
        self._server = server
        self._content = request.content
        self._left = left
        self._block = memoryview(bytearray(_BLOCK_BYTES))
        self._filled = 0
        self._full: deque[memoryview] = deque()
        self._lent: deque[memoryview] = deque()  # in use by whoever took them, the newest last
        self._news = asyncio.Event()
        self._error: BaseException | None = None
        self._discarding = False
        self._first = first
        self._transport.set_protocol(self)
        self._transport.resume_reading()

    async def blocks(self, timeout_s: float) -> AsyncGenerator[Block, None]:
        """Yield the body in blocks; what has arrived is yielded also when the connection breaks or stalls."""
        try:
            if self._first:
                yield self._first
            while self._left or self._full or self._filled:
                await self._wait(timeout_s)
                block = self._next()
                if block is None:
                    break
                yield block
                self._lent.append(block)
            if self._error:
                raise self._error
        finally:
            self._discard()

    async def _wait(self, timeout_s: float) -> None:
        """Wait for a full block or the end; an error is kept for when all that arrived is yielded."""
        while self._left and not self._full and not self._error:
            self._news.clear()
            before = self._left
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError as error:
                if self._left == before:
                    self._error = error

    def _next(self) -> memoryview | None:
        """Return a full block, or at the end what is left."""
        if self._full:
            block = self._full.popleft()
            if not self._error:
                self._transport.resume_reading()
            return block
        block, self._filled = self._block[: self._filled], 0
        if self._left:  # a sender that was given up may go on all the same
            self._block = self._new_block()
        return block if len(block) else None

    def _new_block(self) -> memoryview:
        """Return memory for a block, if possible of one that is used no more: fresh memory costs page faults."""
        if len(self._lent) > AHEAD:
            return self._lent.popleft()
        return memoryview(bytearray(_BLOCK_BYTES))

    def _discard(self) -> None:
        """Throw the rest of the body away, so that the client reads the answer before the connection is closed."""
        if self._left and not self._error:
            self._discarding = True
            self._full.clear()
            self._transport.resume_reading()

    # ---- what the connection calls

    def get_buffer(self, sizehint: int) -> memoryview:
        """Room for what comes next: never more than the body's."""
        del sizehint
        return self._block[self._filled : self._filled + self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of new bytes."""
        self._left -= nbytes
        if self._discarding:
            self._filled = 0
        else:
            self._filled += nbytes
            if self._filled == _BLOCK_BYTES:
                self._full.append(self._block)
                self._block, self._filled = self._new_block(), 0
                self._news.set()
                if len(self._full) >= _WAITING and self._left:
                    self._transport.pause_reading()
        if not self._left:
            self._give_way()

    def _give_way(self) -> None:
        self._news.set()
        self._transport.set_protocol(self._server)
        self._content.feed_eof()

    def eof_received(self) -> None:
        """Note that the client sends no more."""
        self._end(ConnectionResetError("the client hung up"))
        self._server.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the web server too."""
        self._end(exc or ConnectionResetError("the connection was lost"))
        self._server.connection_lost(exc)

    def _end(self, error: BaseException) -> None:
        self._error = self._error or error
        self._news.set()

    def pause_writing(self) -> None:
        """Pass it on: the answer is the web server's."""
        self._server.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._server.resume_writing()


class Bodies:
    """Gives the bodies of requests in large blocks, `most` of them at a time by an Intake."""

    def __init__(self, most: int = INTAKES_MAX) -> None:
        self._left = most

    def blocks(self, request: web.Request, timeout_s: float) -> AsyncGenerator[Block, None]:
        """Yield a body, by an Intake where that is possible and worth it; to be iterated at once."""
        length = request.content_length
        large = length is not None and length >= LEFT_BYTES_MIN and "Content-Encoding" not in request.headers
        if length is None or not large or request.transport is None or not self._left:
            return gather_blocks(request.content, timeout_s)
        first = b""
        while part := request.content.read_nowait():
            first += part
        if request.content.is_eof():
            return _one(first)
        request[TAKEN] = True
        return self._counted(Intake(request, first, length - len(first)).blocks(timeout_s))

    async def _counted(self, blocks: AsyncGenerator[Block, None]) -> AsyncGenerator[Block, None]:
        self._left -= 1
        try:
            async with contextlib.aclosing(blocks):
                async for block in blocks:
                    yield block
        finally:
            self._left += 1


async def _one(block: bytes) -> AsyncGenerator[Block, None]:
    if block:
        yield block
