"""RabbitMQ: five nodes with a quorum queue, and as much of AMQP 0-9-1 as publishing, consuming and confirms need.

A batch is so many persistent messages written at once; it is acknowledged when the broker has confirmed all of them.
"""

import asyncio
import json
import os
import re
import struct
import time
from collections.abc import Sequence
from typing import Any, cast

from benchmarks.peers_servers import NODES, START_S, Servers, installed

QUEUE = b"jobs"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"


class RabbitMQ(Servers):
    """Five Erlang nodes that do not spin when idle, as is advised where cores are shared."""

    name, program = "rabbitmq", "rabbitmq-server"
    durable = "fdatasync on a majority, enqueue only"

    def command(self, node: int) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the environment of a node."""
        folder = self.folder / str(node)
        folder.mkdir(exist_ok=True)
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port(node)}", "loopback_users = none", "log.file.level = warning",
            "vm_memory_high_watermark.absolute = 3GB", "disk_free_limit.absolute = 500MB",
        ]  # fmt: skip
        if node:
            lines.append("cluster_formation.peer_discovery_backend = classic_config")
            for number, other in enumerate((0, node), 1):
                lines.append(f"cluster_formation.classic_config.nodes.{number} = bench{other}@localhost")
        (folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (folder / "plugins").write_text("[].\n")
        return [installed(self.program) or self.program], {
            "HOME": str(self.folder), "RABBITMQ_NODENAME": f"bench{node}@localhost",
            "ERL_EPMD_PORT": str(self.base_port + 90), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia", "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_NODE_PORT": str(self.port(node)), "RABBITMQ_DIST_PORT": str(self.base_port + 50 + node),
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins", "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null", "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_LOGS": f"{folder}/rabbit.log",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }  # fmt: skip

    async def start(self) -> None:
        """Start the first node, then the others, which join it."""
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text("BENCHMARK")
        cookie.chmod(0o400)
        await self.launch(["epmd", "-port", str(self.base_port + 90)], {"ERL_EPMD_ADDRESS": "127.0.0.1"}, "epmd")
        await self.opened(self.base_port + 90)
        for node in range(NODES):
            await self.launch(*self.command(node), f"{node}")
            if node == 0:
                await self.opened(self.port(0))
        for node in range(NODES):
            await self.opened(self.port(node))
        end = time.monotonic() + START_S
        while len((await self._control("cluster_status"))["running_nodes"]) < NODES:
            if time.monotonic() > end:
                raise RuntimeError(f"rabbitmq's nodes did not join; read {self.folder}/*/log")
            await asyncio.sleep(1)
        wire = await Wire.open(self.port(0))
        await wire.declare()
        wire.close()

    async def empty(self) -> None:
        """Purge the queue."""
        wire = await Wire.open(self.port(0))
        await wire.purge()
        wire.close()

    async def _control(self, *arguments: str) -> Any:
        program = installed("rabbitmqctl") or "rabbitmqctl"
        process = await asyncio.create_subprocess_exec(
            program, "-q", "-n", "bench0@localhost", *arguments, "--formatter", "json",
            env={**os.environ, **self.command(0)[1]}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        return json.loads((await process.communicate())[0] or b"{}")

    async def leader(self) -> int:
        """Return the node that leads the queue."""
        for queue in await self._control("list_queues", "name", "leader"):
            if queue["name"] == QUEUE.decode() and (found := re.search(r"bench(\d)@", queue["leader"])):
                return int(found.group(1))
        raise RuntimeError("rabbitmq knows no leader of the queue")


def short(text: bytes) -> bytes:
    """Return a short string."""
    return bytes([len(text)]) + text


def long(data: bytes) -> bytes:
    """Return a long string or a table."""
    return struct.pack(">I", len(data)) + data


def frame(kind: int, channel: int, body: bytes) -> bytes:
    """Return a frame."""
    return struct.pack(">BHI", kind, channel, len(body)) + body + END


def method(channel: int, number: tuple[int, int], arguments: bytes = b"") -> bytes:
    """Return a frame of one method."""
    return frame(METHOD, channel, struct.pack(">HH", *number) + arguments)


class Wire(asyncio.Protocol):
    """One connection with one channel: publishes with confirms, and consumes."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._waiting: dict[tuple[int, int], asyncio.Future[bytes]] = {}
        self._published = 0
        self._confirmed = 0
        self._unconfirmed: list[tuple[int, asyncio.Future[None]]] = []
        self._delivery = 0
        self.deliveries: asyncio.Queue[int] = asyncio.Queue()

    @classmethod
    async def open(cls, port: int) -> "Wire":
        """Connect, log in, and open a channel with confirms."""
        _, wire = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        await wire._expect((10, 10))
        wire._send(method(0, (10, 11), long(b"") + short(b"PLAIN") + long(b"\0guest\0guest") + short(b"en_US")))
        await wire._expect((10, 30))
        wire._send(method(0, (10, 31), struct.pack(">HIH", 2047, 131_072, 0)))
        await wire._ask(0, (10, 40), short(b"/") + short(b"") + b"\0")
        await wire._ask(1, (20, 10), short(b""))
        await wire._ask(1, (85, 10), b"\0")
        return wire

    async def declare(self) -> None:
        """Declare the quorum queue; it is led by the node that is asked."""
        table = short(b"x-queue-type") + b"S" + long(b"quorum")
        await self._ask(1, (50, 10), struct.pack(">H", 0) + short(QUEUE) + b"\x02" + long(table))

    async def purge(self) -> None:
        """Remove every message that waits."""
        await self._ask(1, (50, 30), struct.pack(">H", 0) + short(QUEUE) + b"\0")

    async def consume(self, prefetch: int) -> None:
        """Have messages delivered, so many at most before they are acknowledged."""
        await self._ask(1, (60, 10), struct.pack(">IHB", 0, prefetch, 0))
        await self._ask(1, (60, 20), struct.pack(">H", 0) + short(QUEUE) + short(b"c") + b"\0" + long(b""))

    async def publish(self, bodies: Sequence[bytes]) -> None:
        """Publish persistent messages and wait until all are confirmed."""
        publish = method(1, (60, 40), struct.pack(">H", 0) + short(b"") + short(QUEUE) + b"\0")
        frames = []
        for body in bodies:
            head = struct.pack(">HHQHB", 60, 0, len(body), 0x1000, 2)
            frames += [publish, frame(HEADER, 1, head), frame(BODY, 1, body)]
        self._published += len(bodies)
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unconfirmed.append((self._published, confirmed))
        self._send(b"".join(frames))
        await confirmed

    def acknowledge(self, tag: int) -> None:
        """Acknowledge all deliveries up to this one; the broker does not answer."""
        self._send(method(1, (60, 80), struct.pack(">QB", tag, 1)))

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _send(self, data: bytes) -> None:
        self._transport.write(data)

    async def _expect(self, number: tuple[int, int]) -> bytes:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        return await future

    async def _ask(self, channel: int, number: tuple[int, int], arguments: bytes) -> bytes:
        answer = asyncio.ensure_future(self._expect((number[0], number[1] + 1)))
        await asyncio.sleep(0)
        self._send(method(channel, number, arguments))
        return await answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"AMQP\0\0\x09\x01")

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what is under way."""
        lost = error or ConnectionError("rabbitmq closed the connection")
        futures: list[asyncio.Future[Any]] = [*self._waiting.values(), *(each for _, each in self._unconfirmed)]
        for future in futures:
            if not future.done():
                future.set_exception(lost)

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 8:
            kind, _channel, length = struct.unpack_from(">BHI", buffer, at)
            if len(buffer) - at < 8 + length:
                break
            if kind == METHOD:
                number = struct.unpack_from(">HH", buffer, at + 7)
                self._method(number, bytes(buffer[at + 11 : at + 7 + length]))
            elif kind == BODY:  # a message of ours has one body frame
                self.deliveries.put_nowait(self._delivery)
            at += 8 + length
        del buffer[:at]

    def _method(self, number: tuple[Any, ...], body: bytes) -> None:
        if number == (60, 80):  # confirms
            tag, multiple = struct.unpack(">QB", body)
            self._confirmed = tag if multiple else self._confirmed + 1
            self._settle(tag if multiple else None)
        elif number == (60, 60):
            self._delivery = struct.unpack_from(">Q", body, 1 + body[0])[0]
        elif number in ((10, 50), (20, 40), (60, 120)):
            self.connection_lost(RuntimeError(f"rabbitmq refused: {body!r}"))
        elif number in self._waiting:
            future = self._waiting.pop((number[0], number[1]))
            if not future.done():
                future.set_result(body)

    def _settle(self, _tag: int | None) -> None:
        while self._unconfirmed and self._unconfirmed[0][0] <= self._confirmed:
            self._unconfirmed.pop(0)[1].set_result(None)


class RabbitSession:
    """A producer or consumer with a connection of its own."""

    def __init__(self, wire: Wire, task: dict[str, Any]) -> None:
        self._wire = wire
        self._batch = task.get("batch", 1)
        self._body = os.urandom(task["size"])
        self._consuming = False

    async def commit(self, count: int) -> None:
        """Publish persistent messages."""
        await self._wire.publish([self._body] * count)

    async def enqueue(self, count: int) -> None:
        """Publish persistent messages."""
        await self._wire.publish([self._body] * count)

    async def claim(self, limit: int) -> Sequence[int]:
        """Take deliveries."""
        if not self._consuming:
            self._consuming = True
            await self._wire.consume(max(1, self._batch))
        try:
            async with asyncio.timeout(0.5):
                tags = [await self._wire.deliveries.get()]
        except TimeoutError:
            return []
        while len(tags) < limit and not self._wire.deliveries.empty():
            tags.append(self._wire.deliveries.get_nowait())
        return tags

    async def complete(self, claimed: Sequence[int]) -> None:
        """Acknowledge to the broker, which does not answer."""
        self._wire.acknowledge(claimed[-1])
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Close the connection."""
        self._wire.close()


async def connect(port: int, task: dict[str, Any]) -> RabbitSession:
    """Connect to a node."""
    return RabbitSession(await Wire.open(port), task)
