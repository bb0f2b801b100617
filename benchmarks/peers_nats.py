"""NATS JetStream: five servers with a replicated file store, and as much of its text protocol as is needed.

It acknowledges before it syncs (the store is synced every two minutes), so that its figures are an upper reference.
"""

import asyncio
import itertools
import json
import os
from collections.abc import Sequence
from typing import Any, cast

from benchmarks.peers_servers import NODES, Servers, installed

STREAM = "JOBS"


class Nats(Servers):
    """Five servers with the default sync interval."""

    name, program = "nats", "nats-server"
    durable = "page cache of a majority, not synced"

    def command(self, node: int) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the environment of a node."""
        routes = ", ".join(f"nats-route://127.0.0.1:{self.base_port + 50 + n}" for n in range(NODES))
        path = self.folder / f"{node}.conf"
        path.write_text(
            f'server_name: n{node}\nlisten: "127.0.0.1:{self.port(node)}"\n'
            f'jetstream {{ store_dir: "{self.folder}/{node}", max_mem: 2G, max_file: 20G }}\n'
            f'cluster {{ name: bench, listen: "127.0.0.1:{self.base_port + 50 + node}", routes: [{routes}] }}\n'
        )
        return [installed(self.program) or self.program, "-c", str(path)], {}

    async def start(self) -> None:
        """Start the servers, and make the stream and its consumer."""
        await super().start()
        stream = {"name": STREAM, "subjects": ["jobs"], "retention": "workqueue", "storage": "file", "num_replicas": 5}
        consumer = {
            "stream_name": STREAM,
            "config": {
                "durable_name": "w",
                "ack_policy": "explicit",
                "max_ack_pending": 100_000,
                "ack_wait": 60 * 10**9,
            },
        }
        wire = await Wire.open(self.port(0))
        async with asyncio.timeout(60):
            await _made(wire, f"STREAM.CREATE.{STREAM}", stream)
            await _made(wire, f"CONSUMER.DURABLE.CREATE.{STREAM}.w", consumer)
        wire.close()

    async def leader(self) -> int:
        """Return the server that leads the stream."""
        wire = await Wire.open(self.port(0))
        async with asyncio.timeout(30):
            while True:
                found = json.loads(await wire.request(f"$JS.API.STREAM.INFO.{STREAM}", b""))
                if leader := found.get("cluster", {}).get("leader"):
                    wire.close()
                    return int(leader[1:])
                await asyncio.sleep(0.2)

    async def empty(self) -> None:
        """Purge the stream."""
        wire = await Wire.open(self.port(0))
        async with asyncio.timeout(30):
            await wire.request(f"$JS.API.STREAM.PURGE.{STREAM}", b"")
        wire.close()


async def _made(wire: "Wire", what: str, argument: dict[str, Any]) -> None:
    while True:
        try:
            async with asyncio.timeout(5):
                answer = json.loads(await wire.request(f"$JS.API.{what}", json.dumps(argument).encode()))
        except TimeoutError:
            continue
        if "error" not in answer:
            return
        await asyncio.sleep(0.5)


class Wire(asyncio.Protocol):
    """One connection: requests by inbox, and messages that were asked for."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._inbox = f"_INBOX.{os.urandom(8).hex()}"
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self.messages: asyncio.Queue[str] = asyncio.Queue()  # the subjects to acknowledge to

    @classmethod
    async def open(cls, port: int) -> "Wire":
        """Connect to a server."""
        _, wire = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet and subscribe to the inbox."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b'CONNECT {"verbose":false,"headers":false}\r\n' + f"SUB {self._inbox}.* 1\r\n".encode())

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what is under way."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error or ConnectionError("nats closed the connection"))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def requests(self, subjects: Sequence[str], body: bytes) -> list["asyncio.Future[bytes]"]:
        """Publish the same body to several subjects; returns the answers to come."""
        lines, answers = [], []
        loop = asyncio.get_running_loop()
        for subject in subjects:
            inbox = f"{self._inbox}.{next(self._numbers)}"
            answer: asyncio.Future[bytes] = loop.create_future()
            self._waiting[inbox] = answer
            answers.append(answer)
            lines.append(f"PUB {subject} {inbox} {len(body)}\r\n".encode() + body + b"\r\n")
        self._transport.write(b"".join(lines))
        return answers

    async def request(self, subject: str, body: bytes) -> bytes:
        """Return the answer to one request."""
        return await self.requests([subject], body)[0]

    def fetch(self, count: int) -> None:
        """Ask for messages, which come into `messages` within half a second if there are any."""
        body = json.dumps({"batch": count, "expires": 500_000_000}).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.w"
        self._transport.write(f"PUB {subject} {self._inbox}.m {len(body)}\r\n".encode() + body + b"\r\n")

    def data_received(self, data: bytes) -> None:
        """Read lines, and the bodies of messages."""
        buffer = self._buffer
        buffer += data
        at = 0
        while (end := buffer.find(b"\r\n", at)) >= 0:
            line = bytes(buffer[at:end]).decode()
            if line.startswith("MSG "):
                words = line.split()
                size = int(words[-1])
                if len(buffer) < end + 4 + size:
                    break
                self._message(words, bytes(buffer[end + 2 : end + 2 + size]))
                at = end + 4 + size
                continue
            if line == "PING":
                self._transport.write(b"PONG\r\n")
            at = end + 2
        del buffer[:at]

    def _message(self, words: list[str], body: bytes) -> None:
        subject = words[1]
        if len(words) == 5:  # with a subject to answer to: a job
            self.messages.put_nowait(words[3])
            return
        future = self._waiting.pop(subject, None)
        if future is not None and not future.done():
            future.set_result(body)


class NatsSession:
    """A producer or consumer with a connection of its own."""

    def __init__(self, wire: Wire, task: dict[str, Any]) -> None:
        self._wire = wire
        self._body = os.urandom(task["size"])
        self._asked_until = 0.0

    async def commit(self, count: int) -> None:
        """Publish to the stream and wait for every acknowledgement."""
        for answer in await asyncio.gather(*self._wire.requests(["jobs"] * count, self._body)):
            if b'"error"' in answer:
                raise RuntimeError(f"nats refused: {answer.decode()}")

    async def enqueue(self, count: int) -> None:
        """Publish to the stream and wait for every acknowledgement."""
        await self.commit(count)

    async def claim(self, limit: int) -> Sequence[str]:
        """Fetch messages."""
        loop = asyncio.get_running_loop()
        if self._wire.messages.empty() and loop.time() >= self._asked_until:
            self._asked_until = loop.time() + 0.5
            self._wire.fetch(limit)
        try:
            async with asyncio.timeout(0.5):
                found = [await self._wire.messages.get()]
        except TimeoutError:
            return []
        while len(found) < limit and not self._wire.messages.empty():
            found.append(self._wire.messages.get_nowait())
        self._asked_until = 0.0
        return found

    async def complete(self, claimed: Sequence[str]) -> None:
        """Acknowledge and wait for the answers."""
        await asyncio.gather(*self._wire.requests(list(claimed), b"+ACK"))

    async def close(self) -> None:
        """Close the connection."""
        self._wire.close()


async def connect(port: int, task: dict[str, Any]) -> NatsSession:
    """Connect to a server."""
    return NatsSession(await Wire.open(port), task)
