"""One WebSocket that carries frames: what clients, and voters' fronts among each other, speak through."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

import aiohttp
import msgspec

from workqueue.stream import FRAME_BYTES_MAX, PUSH, Calls, FrameError, Splitter, StreamError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from aiohttp import web

BUFFER_BYTES_MAX = 64 << 20  # a peer that reads slower than this is let go
CONNECT_S = 5.0
HEARTBEAT_S = 10.0


class Sender:
    """Writes to a WebSocket from ordinary functions; what gathers while a write is under way travels together."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse | web.WebSocketResponse) -> None:
        self._socket = socket
        self._out: list[bytes] = []
        self._size = 0
        self._wake = asyncio.Event()

    def write(self, data: bytes) -> None:
        """Queue bytes; a peer that lets too many gather loses its connection."""
        self._size += len(data)
        self._out.append(data)
        self._wake.set()

    async def run(self) -> None:
        """Send until the socket is closed."""
        while not self._socket.closed:
            await self._wake.wait()
            self._wake.clear()
            if self._size > BUFFER_BYTES_MAX:
                break
            data, self._out, self._size = b"".join(self._out), [], 0
            if data:
                try:
                    await self._socket.send_bytes(data, compress=0)
                except (ConnectionError, aiohttp.ClientError):
                    return
        await self._socket.close(code=aiohttp.WSCloseCode.POLICY_VIOLATION, message=b"read too slowly")


class WsLink:
    """A caller's end of a stream; `async with WsLink(...)` holds it open."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        tls: ssl.SSLContext,
        headers: Mapping[str, str],
        on_push: Callable[[str, msgspec.Raw], None],
    ) -> None:
        self._session = session
        self._url = url
        self._tls = tls
        self._headers = headers
        self._on_push = on_push
        self.closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect; raises StreamError (unauthorized, limit or unavailable)."""
        try:
            async with asyncio.timeout(CONNECT_S):
                self._socket = await self._session.ws_connect(
                    f"{self._url}/v1/stream",
                    ssl=self._tls,
                    headers=self._headers,
                    max_msg_size=2 * FRAME_BYTES_MAX,
                    compress=0,
                    heartbeat=HEARTBEAT_S,
                )
        except aiohttp.WSServerHandshakeError as error:
            raise _refusal(self._url, error.status) from error
        except (aiohttp.ClientError, OSError) as error:
            raise StreamError("unavailable", f"{self._url}: {str(error) or type(error).__name__}") from error
        sender = Sender(self._socket)
        self.calls = Calls(sender.write)
        self._tasks = [asyncio.create_task(sender.run()), asyncio.create_task(self._read())]

    async def close(self) -> None:
        """End the connection and every call in flight; harmless when it is closed already."""
        self.calls.close(f"the connection to {self._url} was closed")
        self.closed.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._socket.close()

    async def _read(self) -> None:
        splitter = Splitter()
        reason = ""
        try:
            async for message in self._socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    continue
                for frame in splitter.feed(message.data):
                    if frame[0] == PUSH:
                        self._on_push(frame[1], frame[2])
                    else:
                        self.calls.answer(frame)
        except FrameError as error:
            reason = f": {error}"
        finally:
            self.calls.close(f"the connection to {self._url} ended{reason}")
            self.closed.set()


def _refusal(url: str, status: int) -> StreamError:
    if status in {401, 403}:
        return StreamError("unauthorized", f"{url} does not accept this token or certificate; ask for a new one")
    if status == 429:
        return StreamError("limit", f"{url} has as many connections as it allows; try again later", 1_000)
    return StreamError("unavailable", f"{url} answered {status}")
