"""Ways to voters that can be cut: what is under way is held back, as by a network that drops every packet."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence


class Ways:
    """A forwarded port for each of some URLs."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = list(urls)
        self.urls: list[str] = []
        self._open = {url: asyncio.Event() for url in self._urls}
        self.heal()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for url in self._urls:
            port = urlsplit(url).port
            assert port

            def accept(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: int = port, far: str = url
            ) -> None:
                task = asyncio.create_task(self._join(reader, writer, to, self._open[far]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            self._servers.append(server)
            self.urls.append(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, *urls: str) -> None:
        """Pass nothing on from now on, to these of the first URLs or to all, and tell nobody."""
        for url in urls or self._urls:
            self._open[url].clear()

    def heal(self) -> None:
        """Pass on what was held back and what comes."""
        for way in self._open.values():
            way.set()

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, way: asyncio.Event
    ) -> None:
        await way.wait()
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await asyncio.gather(self._pass(reader, far_writer, way), self._pass(far_reader, writer, way))
            finally:
                far_writer.close()
                writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await way.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
