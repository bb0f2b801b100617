"""A client process of the consensus benchmark: requests over TCP, so many outstanding on each connection."""

import asyncio
import functools
import json
import os
import sys
import time
from typing import Any, cast

import msgspec

from benchmarks.consensus_voter import KEYS, LENGTH
from consensus.ledger import Command


class Connection(asyncio.Protocol):
    """Keeps operations outstanding until the time is over; `ended` holds what went wrong, or None."""

    def __init__(self, task: dict[str, Any], name: str) -> None:
        self._task = task
        self._batch: int = task.get("batch", 1)
        self._name = name
        self._value = os.urandom(task["size"])
        self._buffer = bytearray()
        self._sent: dict[int, float] = {}
        self._number = 0
        self._end = 0.0
        self._transport: asyncio.Transport
        self.latencies: list[float] = []
        self.failed = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error or ConnectionError("the voter closed the connection"))

    def begin(self) -> None:
        self._end = time.perf_counter() + self._task["seconds"]
        self._send(self._task["outstanding"])

    def _send(self, count: int) -> None:
        frames = []
        now = time.perf_counter()
        for _ in range(count):
            first = self._number + 1
            self._number += self._batch
            commands = [
                msgspec.msgpack.encode(Command(self._name, number, "put", f"k{number % KEYS}", self._value))
                for number in range(first, self._number + 1)
            ]
            data = msgspec.msgpack.encode([first, "op", commands])
            frames.append(LENGTH.pack(len(data)) + data)
            self._sent[first] = now
        self._transport.write(b"".join(frames))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = answered = 0
        now = time.perf_counter()
        while len(buffer) - at >= LENGTH.size:
            end = at + LENGTH.size + LENGTH.unpack_from(buffer, at)[0]
            if end > len(buffer):
                break
            number, ok, _answer = msgspec.msgpack.decode(bytes(buffer[at + LENGTH.size : end]))
            sent = self._sent.pop(number)
            answered += 1
            if ok:
                self.latencies.append(now - sent)
            else:
                self.failed += 1
            at = end
        del buffer[:at]
        if now < self._end and answered:
            self._send(answered)
        elif not self._sent and not self.ended.done():
            self.ended.set_result(None)


async def main(task: dict[str, Any]) -> dict[str, Any]:
    """Wait for the word on standard input, run, and return what was measured."""
    loop = asyncio.get_running_loop()
    connections = []
    for number in range(task["connections"]):
        name = f"{task['run']}-{number}"
        _, connection = await loop.create_connection(
            functools.partial(Connection, task, name), "127.0.0.1", task["port"]
        )
        connections.append(connection)
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    started = time.perf_counter()
    for connection in connections:
        connection.begin()
    await asyncio.gather(*(connection.ended for connection in connections))
    return {
        "seconds": time.perf_counter() - started,
        "latencies": [value for connection in connections for value in connection.latencies],
        "failed": sum(connection.failed for connection in connections),
        "cpu_s": time.process_time(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))) + "\n")
