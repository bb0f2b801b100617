"""Links between voters: mutual TLS, length-prefixed msgpack, keep-alive both ways, and limits on everything.

A link is one connection, dialled by the voter with the greater id. The dialled voter's certificate must name the id
that was dialled; the dialling voter's must name the id that its hello claims. Until the hello is accepted nothing
but a small hello is read. Whatever is out of order closes the link and harms nobody else (defects 13, 15, 21).
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import msgspec

from consensus import messages as m
from consensus.settings import ReplicaSettings

PROTOCOL = 1
MAX_FRAME_BYTES = 32 << 20
MAX_HELLO_BYTES = 1024
MAX_STRANGERS = 64  # connections without an accepted hello, and as many that have not finished their TLS handshake
HELLO_S = 3.0
MAX_UNSENT_BYTES = 64 << 20
PING_S = 0.5
SILENCE_S = 3.0
REDIAL_S = 0.1


class Hello(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The first frame each way: who speaks, and of which life of its data folder."""

    protocol: int
    cluster_id: str
    node_id: str
    uuid: str


class Receiver(Protocol):
    """Who is told of links and messages."""

    def connected(self, node_id: str) -> None:
        """A link is up."""
        ...

    def disconnected(self, node_id: str) -> None:
        """A link is down."""
        ...

    def receive(self, node_id: str, message: m.Message) -> None:
        """A message came."""
        ...

    def settle(self) -> None:
        """There are no more messages for now."""
        ...


class _Link(asyncio.Protocol):
    """One connection, of a known voter or of a stranger."""

    def __init__(self, owner: "LinkTransport", dialled: str | None) -> None:
        self._owner = owner
        self._dialled = dialled
        self._buffer = bytearray()
        self.node_id: str | None = None
        self.transport: asyncio.Transport | None = None
        self.heard_at = owner.now()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES * 2)
        self._owner.stranger(self)
        if self._dialled is not None:
            self.send_frame(self._owner.hello)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._owner.now()
        buffer = self._buffer
        buffer += data
        at, end = 0, len(buffer)
        while end - at >= 4:
            length = int.from_bytes(buffer[at : at + 4], "little")
            if length > (MAX_FRAME_BYTES if self.node_id else MAX_HELLO_BYTES):
                self.drop()
                return
            if end - at - 4 < length:
                break
            if length and not self._frame(bytes(memoryview(buffer)[at + 4 : at + 4 + length])):
                self.drop()
                return
            at += 4 + length
        del buffer[:at]
        if self.node_id is not None:
            self._owner.receiver.settle()

    def _frame(self, data: bytes) -> bool:
        """Act on one frame; False if it is not acceptable."""
        try:
            if self.node_id is None:
                return self._greeted(msgspec.msgpack.decode(data, type=Hello))
            message = m.decode(data)
        except (msgspec.DecodeError, RecursionError):
            return False
        self._owner.receiver.receive(self.node_id, message)
        return True

    def _greeted(self, hello: Hello) -> bool:
        if self._dialled not in (None, hello.node_id) or not self._owner.accepts(hello, self.certificate_names()):
            return False
        if self._dialled is None:
            self.send_frame(self._owner.hello)
        self.node_id = hello.node_id
        self._owner.up(self)
        return True

    def certificate_names(self) -> set[str] | None:
        """Return the names in the peer's certificate, or None if the link has no TLS."""
        if self.transport is None or self.transport.get_extra_info("ssl_object") is None:
            return None
        names = self.transport.get_extra_info("peercert").get("subjectAltName", ())
        return {value for kind, value in names if kind == "DNS"}

    def send_frame(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(len(data).to_bytes(4, "little") + data)

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be sent, though the end of the link has not been told yet."""
        return self.transport is None or self.transport.is_closing()

    def unsent(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def drop(self) -> None:
        self._buffer.clear()
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, _error: Exception | None) -> None:
        self._owner.down(self)


class LinkTransport:
    """All links of one voter; an `Outbox` for `Raft`."""

    def __init__(
        self,
        settings: ReplicaSettings,
        uuid: str,
        accept_uuid: Callable[[str, str], bool],
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._accept_uuid = accept_uuid
        self.now = now
        own = Hello(protocol=PROTOCOL, cluster_id=settings.cluster_id, node_id=settings.node_id, uuid=uuid)
        self.hello = msgspec.msgpack.encode(own)
        self.receiver: Receiver
        self.refused = 0
        self._links: dict[str, _Link] = {}
        self._strangers: dict[_Link, float] = {}
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._server_tls, self._client_tls = tls_contexts(settings.ca, settings.cert, settings.key)

    # ---- life

    async def start(self, receiver: Receiver) -> None:
        """Listen, dial and keep alive."""
        self.receiver = receiver
        loop = asyncio.get_running_loop()
        if self._settings.peers:
            listening = await self._listen()
            self._tasks = [loop.create_task(self._accept(one)) for one in listening]
            self._tasks.append(loop.create_task(self._keep_alive()))
        for peer, address in self._settings.peers.items():
            if self._settings.node_id > peer:
                self._tasks.append(loop.create_task(self._dial(peer, address)))

    async def stop(self) -> None:
        """Close everything; idempotent."""
        tasks, self._tasks = [*self._tasks, *self._handshakes], []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.drop_all()

    def drop_all(self) -> None:
        """Cut every link at once."""
        for link in [*self._links.values(), *self._strangers]:
            link.drop()

    async def _listen(self) -> list[socket.socket]:
        host, port = split_address(self._settings.address)
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        addresses = dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found)
        listening: list[socket.socket] = []
        try:
            for family, address in addresses:
                listening.append(socket.create_server((address, port), family=family))
        except OSError:
            for one in listening:
                one.close()
            raise
        return listening

    async def _accept(self, listening: socket.socket) -> None:
        """Take connections; of those that do not get through their handshake only the newest are kept."""
        loop = asyncio.get_running_loop()
        listening.settimeout(0)  # the loop waits
        with listening:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listening)
                except OSError:  # too many open files, or gone already
                    await asyncio.sleep(REDIAL_S)
                    continue
                task = loop.create_task(self._shake_hands(connection))
                self._handshakes[task] = None
                task.add_done_callback(lambda done: self._handshakes.pop(done, None))
                if len(self._handshakes) > MAX_STRANGERS:
                    next(iter(self._handshakes)).cancel()

    async def _shake_hands(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        seconds = HELLO_S if self._server_tls else None
        try:
            await loop.connect_accepted_socket(
                lambda: _Link(self, None), connection, ssl=self._server_tls, ssl_handshake_timeout=seconds
            )
        except OSError:  # no TLS, no certificate, or not in time
            connection.close()

    async def _dial(self, peer: str, address: str) -> None:
        loop = asyncio.get_running_loop()
        host, port = split_address(address)
        name = peer if self._client_tls else None
        while True:
            if peer not in self._links:
                with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
                    async with asyncio.timeout(HELLO_S):
                        await loop.create_connection(
                            lambda: _Link(self, peer), host, port, ssl=self._client_tls, server_hostname=name
                        )
                    await asyncio.sleep(REDIAL_S)  # for the hello
            await asyncio.sleep(REDIAL_S)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(PING_S)
            now = self.now()
            for link in list(self._links.values()):
                if now - link.heard_at > SILENCE_S:
                    link.drop()
                else:
                    link.send_frame(b"")
            for link, since in list(self._strangers.items()):
                if now - since > HELLO_S:
                    link.drop()

    # ---- links

    def stranger(self, link: _Link) -> None:
        """A connection was made; it is nobody until its hello is accepted."""
        self._strangers[link] = self.now()
        if len(self._strangers) > MAX_STRANGERS:
            next(iter(self._strangers)).drop()

    def accepts(self, hello: Hello, names: set[str] | None) -> bool:
        """Whether a hello is that of a voter of this cluster, as its certificate says."""
        known = (
            hello.protocol == PROTOCOL
            and hello.cluster_id == self._settings.cluster_id
            and hello.node_id in self._settings.peers
            and (hello.node_id in names if names is not None else self._client_tls is None)
        )
        if known and self._accept_uuid(hello.node_id, hello.uuid):
            return True
        self.refused += 1
        return False

    def up(self, link: _Link) -> None:
        """A voter's link is ready; it replaces an older one."""
        self._strangers.pop(link, None)
        if link.node_id is None:
            return
        old = self._links.get(link.node_id)
        self._links[link.node_id] = link
        if old is not None:
            old.drop()
            self.receiver.disconnected(link.node_id)
        self.receiver.connected(link.node_id)

    def down(self, link: _Link) -> None:
        """A connection is gone."""
        self._strangers.pop(link, None)
        if link.node_id is not None and self._links.get(link.node_id) is link:
            del self._links[link.node_id]
            self.receiver.disconnected(link.node_id)

    def metrics(self) -> dict[str, float]:
        """Return counters and gauges by name."""
        return {"links": len(self._links), "links_refused": self.refused}

    # ---- messages

    def send(self, node_id: str, data: bytes) -> bool:
        """Send to a voter; False if there is no link."""
        link = self._links.get(node_id)
        if link is None or link.is_closing:
            return False
        if link.unsent() > MAX_UNSENT_BYTES:  # it does not read: it must not cost us memory
            link.drop()
            return False
        link.send_frame(data)
        return True

    def backlog(self, node_id: str) -> int | None:
        """Return the bytes waiting to be sent to a voter, or None if there is no link."""
        link = self._links.get(node_id)
        return None if link is None or link.is_closing else link.unsent()


def split_address(address: str) -> tuple[str, int]:
    """Return (host, port)."""
    host, port = address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def tls_contexts(
    ca: Path | None, cert: Path | None, key: Path | None
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Return the contexts to listen and to dial with: TLS 1.3, both sides with certificates of one authority."""
    if ca is None or cert is None or key is None:
        return None, None
    contexts = []
    for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
        context.load_cert_chain(cert, key)
        contexts.append(context)
    return contexts[0], contexts[1]
