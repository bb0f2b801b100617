"""Sealed envelopes over UDP, and over a short TCP connection as the second path, on one port number."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from membership.api import MembershipError
from membership.frames import hang_up
from membership.messages import Envelope, Ping, decode, encode, split_address
from membership.sealing import SEALED_MAX, Sealer
from membership.swim import SwimTransport
from membership.tasks import Tasks

_LENGTH = struct.Struct(">H")
_STREAM_S = 2.0  # a whole exchange over a connection
_STREAMS_MAX = 32  # served at a time
_DIALS_MAX = 16  # opened at a time
_BIND_TRIES = 16

Receiver = Callable[[Envelope, str], None]
Responder = Callable[[Envelope, str], Envelope | None]


def wall_ms() -> int:
    """Return the wall clock, which only the freshness of strangers' packets depends on."""
    return time.time_ns() // 1_000_000


class Datagrams(SwimTransport):  # type: ignore[misc, unused-ignore]
    """The transport of one member; opens nothing that is not sealed under the cluster's key."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._receiver: Callable[[bytes, tuple[str, int]], Any] | None = None
        self._inbox: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue(maxsize=64)
        self._responder: Responder = lambda _envelope, _source: None
        self._serving = Tasks(_STREAMS_MAX)
        self._dials = Tasks(_DIALS_MAX)
        self.port = 0
        self.counters: Counter[str] = Counter()

    async def bind(self, address: tuple[str, int]) -> None:
        """Take the UDP and the TCP port of one number."""
        host, port = address
        for attempt in range(_BIND_TRIES):
            try:
                self._tcp = await asyncio.start_server(self._accept, host, port, backlog=_STREAMS_MAX)
                self.port = self._tcp.sockets[0].getsockname()[1]
                self._udp = await self._open_udp(host, self.port)
            except OSError as error:
                await self.close()
                if port != 0 or attempt + 1 == _BIND_TRIES:
                    raise MembershipError(
                        f"Gossip cannot bind {host}:{port} ({error.strerror}); free the port, or set another."
                    ) from error
            else:
                return

    async def send(self, data: bytes, dest: tuple[str, int]) -> None:
        """Send the bytes of an envelope, sealed."""
        self._sendto(data, dest)

    async def receive(self, timeout: float | None = None, msg_type: str | None = None) -> tuple[bytes, tuple[str, int]]:
        """Return the next opened packet when no receiver was started; the kind of a message is the core's to tell."""
        del msg_type
        async with asyncio.timeout(timeout):
            return await self._inbox.get()

    async def start_receiver(self, callback: Callable[[bytes, tuple[str, int]], Any]) -> None:
        """Hand each opened packet to a callback, in the loop's thread and in order."""
        self._receiver = callback

    async def close(self) -> None:
        """Release both ports."""
        await self._dials.cancel()
        await self._serving.cancel()
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        self._udp = self._tcp = None

    def post(self, address: str, envelope: Envelope) -> None:
        """Send an envelope; what the network does to it is the protocol's business."""
        self._sendto(encode(envelope), split_address(address))

    def dial(self, address: str, envelope: Envelope, receiver: Receiver) -> None:
        """Exchange one envelope over a connection; no answer is no answer, whatever the cause."""
        if not self._dials.start(self._exchange(address, envelope, receiver)):
            self.counters["dial refused"] += 1

    def respond_with(self, responder: Responder) -> None:
        """Answer the challenges that come by connection."""
        self._responder = responder

    def unseal(self, packet: bytes) -> Envelope | None:
        """Return the envelope of a genuine packet."""
        payload = self._sealer.open(packet, wall_ms())
        return None if payload is None else self._decode(payload)

    async def _open_udp(self, host: str, port: int) -> asyncio.DatagramTransport:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.settimeout(0)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        try:
            udp.bind((host, port))  # no SO_REUSEPORT: two members on one port would share each other's packets
        except OSError:
            udp.close()
            raise
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Receiver(self), sock=udp)
        return transport

    def _sendto(self, data: bytes, dest: tuple[str, int]) -> None:
        if self._udp is None or self._udp.is_closing():
            return
        packet = self._sealer.seal(data, wall_ms())
        self.counters["sent"] += 1
        self.counters["sent bytes"] += len(packet)
        self._udp.sendto(packet, dest)

    def arrived(self, packet: bytes, source: tuple[str, int]) -> None:
        """Open a packet and hand it on; drop it when it is not genuine or when nobody takes it."""
        payload = self._sealer.open(packet, wall_ms())
        if payload is None:
            return
        if self._receiver is not None:
            self._receiver(payload, source)
        elif not self._inbox.full():
            self._inbox.put_nowait((payload, source))

    def _decode(self, payload: bytes) -> Envelope | None:
        try:
            return decode(payload)
        except ValueError:
            self.counters["undecodable"] += 1
            return None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._serving.start(self._serve(reader, writer)):
            self.counters["stream refused"] += 1
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one challenge of one connection."""
        try:
            async with asyncio.timeout(_STREAM_S):
                envelope = self.unseal(await _read_packet(reader))
                if envelope is None or not isinstance(envelope.message, Ping):
                    return
                host, port = writer.get_extra_info("peername")[:2]
                answer = self._responder(envelope, f"{host}:{port}")
                if answer is not None:
                    await _write_packet(writer, self._sealer.seal(encode(answer), wall_ms()))
        except (OSError, TimeoutError, EOFError, ValueError):
            self.counters["stream broken"] += 1
        finally:
            await hang_up(writer)

    async def _exchange(self, address: str, envelope: Envelope, receiver: Receiver) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_STREAM_S):
                reader, writer = await asyncio.open_connection(*split_address(address))
                await _write_packet(writer, self._sealer.seal(encode(envelope), wall_ms()))
                answer = self.unseal(await _read_packet(reader))
            if answer is not None:
                receiver(answer, address)
        except (OSError, TimeoutError, EOFError, ValueError):
            self.counters["stream unanswered"] += 1
        finally:
            if writer is not None:
                await hang_up(writer)


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, owner: Datagrams) -> None:
        self._owner = owner

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._owner.arrived(data, (addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        self._owner.counters["unreachable"] += 1


async def _read_packet(reader: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > SEALED_MAX:
        raise ValueError("The packet is too long.")
    return await reader.readexactly(length)


async def _write_packet(writer: asyncio.StreamWriter, packet: bytes) -> None:
    writer.write(_LENGTH.pack(len(packet)) + packet)
    await writer.drain()
