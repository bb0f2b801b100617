"""etcd: five members, and a client of its gRPC interface written down to the frames, so that it costs little.

HTTP/2 as far as gRPC needs it (RFC 9113, RFC 7541 without a dynamic table), and the few protobuf messages of
`etcdserverpb` that are used. A job is a key under `jobs/`; a claim is a transaction that creates `claims/ID` if it
does not exist; completing deletes both. All three are linearized and synced by a majority.
"""

import asyncio
import os
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from benchmarks.peers_servers import NODES, Servers, installed

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
FRAME_MAX = 16_384
WINDOW = 65_535
WINDOW_MAX = (1 << 31) - 1


class Etcd(Servers):
    """Five members with etcd's own durability; the bound on operations in a transaction is raised for batches."""

    name, program = "etcd", "etcd"
    durable = "fdatasync on a majority, all steps"

    def command(self, node: int) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the environment of a node."""
        peer_port = self.base_port + 50
        client, peer = f"http://127.0.0.1:{self.port(node)}", f"http://127.0.0.1:{peer_port + node}"
        members = ",".join(f"e{n}=http://127.0.0.1:{peer_port + n}" for n in range(NODES))
        return [
            installed(self.program) or self.program, "--name", f"e{node}", "--data-dir", f"{self.folder}/{node}",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", members, "--initial-cluster-state", "new", "--initial-cluster-token", "bench",
            "--quota-backend-bytes", "8000000000", "--auto-compaction-mode", "revision",
            "--auto-compaction-retention", "50000", "--log-level", "error", "--max-txn-ops", "1024",
        ], {}  # fmt: skip

    async def leader(self) -> int:
        """Wait for the member that leads; returns its number."""
        while True:
            for node in range(NODES):
                wire = await Wire.open(self.port(node))
                status = decode(await wire.call("Maintenance/Status", b""))
                await wire.close()
                member = int(decode(status[1][0])[2][0])
                if status.get(4) == [member]:
                    return node
            await asyncio.sleep(0.2)

    async def empty(self) -> None:
        """Delete jobs and claims."""
        wire = await Wire.open(self.port(0))
        for name in (b"jobs", b"claims"):
            await wire.call("KV/DeleteRange", blob(1, name + b"/") + blob(2, name + b"0"))
        await wire.close()


class Wire(asyncio.Protocol):
    """One HTTP/2 connection: many calls at once, each a stream."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._next = 1
        self._window = WINDOW
        self._first_window = WINDOW
        self._windows: dict[int, int] = {}
        self._unsent: deque[tuple[int, bytes, bool]] = deque()
        self._got: dict[int, bytearray] = {}
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._watched: dict[int, Callable[[bytes], None]] = {}

    @classmethod
    async def open(cls, port: int) -> "Wire":
        """Connect to a member."""
        _, wire = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return wire

    async def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        settings = b"".join(struct.pack(">HI", *pair) for pair in ((1, 0), (2, 0), (4, WINDOW_MAX)))
        grow = struct.pack(">I", WINDOW_MAX - WINDOW)
        greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self._transport.write(greeting + _frame(SETTINGS, 0, 0, settings) + _frame(WINDOW_UPDATE, 0, 0, grow))

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what is under way."""
        for call in self._calls.values():
            if not call.done():
                call.set_exception(error or ConnectionError("etcd closed the connection"))

    async def call(self, method: str, message: bytes) -> bytes:
        """Return the answer to one request."""
        stream = self._begin(method)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[stream] = answer
        self._put(stream, message, end=True)
        return await answer

    def watch(self, method: str, message: bytes, heard: Callable[[bytes], None]) -> None:
        """Send a request whose answers come one after another."""
        stream = self._begin(method)
        self._watched[stream] = heard
        self._put(stream, message, end=False)

    def _begin(self, method: str) -> int:
        stream, self._next = self._next, self._next + 2
        path = f"/etcdserverpb.{method}".encode()
        head = b"\x83\x86\x04" + bytes([len(path)]) + path + b"\x01\x09127.0.0.1\x0f\x10\x10application/grpc"
        self._transport.write(_frame(HEADERS, END_HEADERS, stream, head + b"\x00\x02te\x08trailers"))
        self._windows[stream] = self._first_window
        self._got[stream] = bytearray()
        return stream

    def _put(self, stream: int, message: bytes, *, end: bool) -> None:
        data = b"\0" + struct.pack(">I", len(message)) + message
        for at in range(0, len(data), FRAME_MAX):
            self._unsent.append((stream, data[at : at + FRAME_MAX], end and at + FRAME_MAX >= len(data)))
        self._send()

    def _send(self) -> None:
        """Send as much as the peer's windows take, in order."""
        frames = []
        while self._unsent:
            stream, data, end = self._unsent[0]
            if len(data) > min(self._window, self._windows.get(stream, 0)):
                break
            self._unsent.popleft()
            self._window -= len(data)
            self._windows[stream] -= len(data)
            frames.append(_frame(DATA, END_STREAM if end else 0, stream, data))
        if frames:
            self._transport.write(b"".join(frames))

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 9:
            length = int.from_bytes(buffer[at : at + 3], "big")
            if len(buffer) - at - 9 < length:
                break
            kind, flags, stream = struct.unpack_from(">BBI", buffer, at + 3)
            self._read(kind, flags, stream, bytes(buffer[at + 9 : at + 9 + length]))
            at += 9 + length
        del buffer[:at]

    def _read(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == DATA:
            self._taken(stream, body)
        elif kind == WINDOW_UPDATE:
            self._grow(stream, int.from_bytes(body, "big"))
        elif kind == SETTINGS and not flags & ACK:
            for number, value in struct.iter_unpack(">HI", body):
                if number == 4:
                    for known in self._windows:
                        self._windows[known] += value - self._first_window
                    self._first_window = value
            self._transport.write(_frame(SETTINGS, ACK, 0, b""))
            self._send()
        elif kind == PING and not flags & ACK:
            self._transport.write(_frame(PING, ACK, 0, body))
        elif kind in (RST_STREAM, GOAWAY):
            self._transport.abort()
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self._ended(stream)

    def _grow(self, stream: int, by: int) -> None:
        if stream == 0:
            self._window += by
        elif stream in self._windows:
            self._windows[stream] += by
        self._send()

    def _taken(self, stream: int, body: bytes) -> None:
        self._transport.write(_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(body)))) if len(body) > 8192 else None
        got = self._got[stream]
        got += body
        while len(got) >= 5 and len(got) >= 5 + (length := int.from_bytes(got[1:5], "big")):
            message = bytes(got[5 : 5 + length])
            del got[: 5 + length]
            if stream in self._watched:
                self._watched[stream](message)
            elif not self._calls[stream].done():
                self._calls[stream].set_result(message)

    def _ended(self, stream: int) -> None:
        self._windows.pop(stream, None)
        self._got.pop(stream, None)
        call = self._calls.pop(stream, None)
        if call is not None and not call.done():
            call.set_exception(RuntimeError("etcd refused the request"))


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + body


# ---- protobuf: fields by number


def varint(value: int) -> bytes:
    """Return a variable-length integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def blob(number: int, data: bytes) -> bytes:
    """Return a field of bytes, or of a message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def integer(number: int, value: int) -> bytes:
    """Return a field of an integer."""
    return varint(number << 3) + varint(value)


def decode(data: bytes) -> dict[int, list[Any]]:
    """Return the fields of a message: integers and bytes by number."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        key, at = _varint_at(data, at)
        value, at = _varint_at(data, at)
        if key & 7 == 2:
            found.setdefault(key >> 3, []).append(data[at : at + value])
            at += value
        else:
            found.setdefault(key >> 3, []).append(value)
    return found


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def put(key: bytes, value: bytes, lease: int = 0) -> bytes:
    """Return an operation that sets a key."""
    return blob(2, blob(1, key) + blob(2, value) + (integer(3, lease) if lease else b""))


def delete(key: bytes) -> bytes:
    """Return an operation that removes a key."""
    return blob(3, blob(1, key))


def absent(key: bytes) -> bytes:
    """Return the condition that a key does not exist."""
    return blob(1, integer(1, 0) + integer(2, 1) + blob(3, key) + integer(5, 0))


class EtcdSession:
    """One worker of a process; jobs found by the process's watch are shared out among its sessions."""

    def __init__(self, wire: Wire, task: dict[str, Any], found: "asyncio.Queue[bytes]", lease: int) -> None:
        self._wire = wire
        self._found = found
        self._lease = lease
        self._value = os.urandom(task["size"])
        self._name = f"{task['run']}-{task['process']}-{id(self)}"
        self._number = 0

    async def _transact(self, operations: Sequence[bytes], conditions: Sequence[bytes] = ()) -> bool:
        request = b"".join(conditions) + b"".join(blob(2, each) for each in operations)
        return decode(await self._wire.call("KV/Txn", request)).get(2) == [1]

    async def commit(self, count: int) -> None:
        """Set keys in one transaction."""
        self._number += count
        keys = [f"k{number % 10_000}".encode() for number in range(self._number, self._number + count)]
        assert await self._transact([put(key, self._value) for key in keys])

    async def enqueue(self, count: int) -> None:
        """Create jobs in one transaction."""
        start = self._number
        self._number += count
        keys = [f"jobs/{self._name}-{number}".encode() for number in range(start, self._number)]
        assert await self._transact([put(key, self._value) for key in keys])

    async def claim(self, limit: int) -> Sequence[bytes]:
        """Claim jobs that the watch told of."""
        try:
            async with asyncio.timeout(0.5):
                keys = [await self._found.get()]
        except TimeoutError:
            return []
        while len(keys) < limit and not self._found.empty():
            keys.append(self._found.get_nowait())
        claims = [b"claims/" + key[5:] for key in keys]
        ok = await self._transact([put(c, b"", self._lease) for c in claims], [absent(c) for c in claims])
        return keys if ok else []

    async def complete(self, claimed: Sequence[bytes]) -> None:
        """Delete jobs and claims in one transaction."""
        operations = [each for key in claimed for each in (delete(key), delete(b"claims/" + key[5:]))]
        assert await self._transact(operations)

    async def close(self) -> None:
        """Close the connection."""
        await self._wire.close()


_shared: dict[int, tuple[Wire, "asyncio.Queue[bytes]", int]] = {}


async def connect(port: int, task: dict[str, Any]) -> EtcdSession:
    """Connect; the sessions of a process share a connection, and a watch for jobs that hash to the process."""
    if port not in _shared:
        wire = await Wire.open(port)
        found: asyncio.Queue[bytes] = asyncio.Queue()
        lease = int(decode(await wire.call("Lease/LeaseGrant", integer(1, 600)))[2][0])
        _shared[port] = wire, found, lease
        _watch(wire, task, found)
        await asyncio.sleep(0.2)
    wire, found, lease = _shared[port]
    return EtcdSession(wire, task, found, lease)


def _watch(wire: Wire, task: dict[str, Any], found: "asyncio.Queue[bytes]") -> None:
    def heard(message: bytes) -> None:
        for event in decode(message).get(11, ()):
            fields = decode(event)
            key = decode(fields[2][0])[1][0]
            if not fields.get(1) and sum(key) % task["consumers"] == task["consumer"]:
                found.put_nowait(key)

    if task["consumers"]:
        wire.watch("Watch/Watch", blob(1, blob(1, b"jobs/") + blob(2, b"jobs0")), heard)
