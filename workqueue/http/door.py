"""Who may hold a TCP connection to this voter: counted from the accept on, before TLS and before any request.

A connection is a stranger until a request on it showed a token or certificate that holds. Strangers have FIRST_S to
finish their handshake and their first request; when there is no room they give way to those who come, the oldest first.
Connections that are known stay until they end, so a flood without a token cuts nobody off who has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

import structlog
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.cluster import LimitSettings

FIRST_S = 10.0  # from the accept to the end of the first request's headers
IDLE_S = 75.0  # between two requests
SWEEP_S = 0.5
BACKLOG = 1024
_PAUSE_S = 0.1  # after an accept failed, for want of descriptors most likely
_RESET = struct.pack("ii", 1, 0)
log = structlog.get_logger()


class Guest(asyncio.Protocol):
    """A connection: passes everything on to the protocol inside, and says when it is over."""

    def __init__(self, door: Door, address: str, inner: asyncio.Protocol, now: float) -> None:
        self.address = address
        self.inner = inner
        self.since = now
        self.asked = False  # a request has come
        self.known = False  # with a token or certificate that holds
        self.shaking: asyncio.Task[None] | None = None
        self._door = door
        self._transport: asyncio.Transport | None = None
        self.data_received = inner.data_received  # type: ignore[method-assign]  # saves a call for each packet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, after the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        self.inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._door.left(self)
        self.inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self.inner.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self.inner.resume_writing()

    def cut(self) -> None:
        """End it at once, in whatever state it is."""
        if self._transport is not None:
            self._transport.abort()
        elif self.shaking:
            self.shaking.cancel()
        self._door.left(self)


class Door:
    """The connections that are open, and who may come in."""

    def __init__(self, limits: Callable[[], LimitSettings]) -> None:
        self._limits = limits
        self._guests: dict[object, Guest] = {}  # by the protocol inside
        self._strangers: OrderedDict[Guest, None] = OrderedDict()  # the oldest first
        self._of_address: dict[str, int] = {}
        self.refused = 0  # there was no room
        self.cut = 0  # too slow, or had to make room

    def usage(self) -> dict[str, int]:
        """Return what /status tells."""
        return {
            "open": len(self._guests), "strangers": len(self._strangers), "refused": self.refused, "cut": self.cut,
            "max": self._limits().sockets_max,
        }  # fmt: skip

    def enter(self, address: str, inner: asyncio.Protocol, now: float) -> Guest | None:
        """Let a connection in if there is room, or if a stranger can make some; None when there is none."""
        limits = self._limits()
        if self._of_address.get(address, 0) >= limits.sockets_address_max and not self._make_room(address):
            self.refused += 1
            return None
        if len(self._guests) >= limits.sockets_max and not self._make_room():
            self.refused += 1
            return None
        guest = Guest(self, address, inner, now)
        self._guests[inner] = guest
        self._strangers[guest] = None
        self._of_address[address] = self._of_address.get(address, 0) + 1
        return guest

    def _make_room(self, address: str = "") -> bool:
        oldest = next((each for each in self._strangers if address in {"", each.address}), None)
        if oldest is None:
            return False
        self.cut += 1
        oldest.cut()
        return True

    def asked(self, inner: object) -> None:
        """A request has come over a connection."""
        if guest := self._guests.get(inner):
            guest.asked = True

    def known(self, inner: object) -> None:
        """The request showed who asks."""
        guest = self._guests.get(inner)
        if guest and not guest.known:
            guest.known = True
            self._strangers.pop(guest, None)

    def left(self, guest: Guest) -> None:
        """Forget a connection; harmless when it is forgotten."""
        if self._guests.pop(guest.inner, None) is None:
            return
        self._strangers.pop(guest, None)
        self._of_address[guest.address] -= 1
        if not self._of_address[guest.address]:
            del self._of_address[guest.address]

    def sweep(self, now: float) -> None:
        """Cut strangers that have not asked for anything in time."""
        late = []
        for guest in self._strangers:
            if guest.since + FIRST_S > now:
                break
            if not guest.asked:
                late.append(guest)
        for guest in late:
            self.cut += 1
            guest.cut()


class _Listening:
    """The part of asyncio's Server that a site needs."""

    def __init__(self, sockets: list[socket.socket], tasks: list[asyncio.Task[None]]) -> None:
        self.sockets = sockets
        self._tasks = tasks

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()  # which closes its socket


class DoorSite(web.BaseSite):
    """A site of the front's runner whose connections come through the door; `port` 0 takes any."""

    def __init__(self, runner: web.AppRunner, door: Door, host: str, port: int, tls: ssl.SSLContext) -> None:
        super().__init__(runner, ssl_context=tls, backlog=BACKLOG)
        self._door = door
        self._host = host
        self._port = port
        self._shaking: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """Where it listens."""
        return f"https://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen on every address of the host; raises OSError."""
        await super().start()
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sockets = [_bound(family, address) for family, address in dict.fromkeys((each[0], each[4]) for each in found)]
        tasks = [asyncio.create_task(self._serve(each)) for each in sockets] + [asyncio.create_task(self._sweep())]
        self._server = _Listening(sockets, tasks)  # type: ignore[assignment]  # as much of a server as is asked of it

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._door.sweep(asyncio.get_running_loop().time())

    async def _serve(self, listening: socket.socket) -> None:
        with listening:
            while True:
                try:
                    accepted, address = await asyncio.get_running_loop().sock_accept(listening)
                except OSError as error:
                    log.warning("front.accept_failed", reason=error.strerror)
                    await asyncio.sleep(_PAUSE_S)
                else:
                    self._admit(accepted, str(address[0]))

    def _admit(self, accepted: socket.socket, address: str) -> None:
        server = self._runner.server
        assert server is not None
        guest = self._door.enter(address, server(), asyncio.get_running_loop().time())
        if guest is None:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # tells the caller at once
            accepted.close()
            return
        guest.shaking = asyncio.create_task(self._shake(accepted, guest))
        self._shaking.add(guest.shaking)
        guest.shaking.add_done_callback(self._shaking.discard)

    async def _shake(self, accepted: socket.socket, guest: Guest) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: guest, accepted, ssl=self._ssl_context, ssl_handshake_timeout=FIRST_S
            )
        except (OSError, asyncio.CancelledError):  # what the caller sent is not TLS, it left, or had to go
            self._door.left(guest)
            with contextlib.suppress(OSError):
                accepted.close()


def _bound(family: int, address: Any) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setblocking(False)  # noqa: FBT003
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"cannot listen on {address[0]} port {address[1]}: {error.strerror}") from error
    return listening
