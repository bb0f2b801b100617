"""One voter of the consensus benchmark, and what can be asked of it over a local TCP port.

Frames are a 32-bit little-endian length and msgpack. A client sends `[number, question, argument]` and gets
`[number, ok, answer]`; an `op` holds commands of the ledger, which are answered when they are committed and applied.
"""

import asyncio
import functools
import gc
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import uvloop

from consensus import ConsensusError, Replica, ReplicaSettings, StateMachine
from consensus.ledger import Command, Ledger
from workqueue.machine.commands import Enqueue, JobSpec, RegisterKind, Request
from workqueue.machine.machine import Machine

KEYS = 10_000
LENGTH = struct.Struct("<I")


class Generator:
    """Makes load inside the leader: so many requests outstanding, so many operations in each."""

    def __init__(self, replica: Replica, task: dict[str, Any], done: Callable[[dict[str, Any]], None]) -> None:
        self._replica = replica
        self._batch: int = task["batch"]
        self._seconds: float = task["seconds"]
        self._value = os.urandom(task["size"])
        self._client = f"{task['run']}"
        self._done = done
        self._seq = 0
        self._live = task["outstanding"]
        self._failed = 0
        self._latencies: list[float] = []
        self._start = time.perf_counter()
        self._end = self._start + self._seconds
        self._left: int = task.get("count", 1 << 60)
        for _ in range(task["outstanding"]):
            self._fire()

    def _fire(self) -> None:
        commands = []
        for seq in range(self._seq + 1, self._seq + 1 + self._batch):
            command = Command(self._client, seq, "put", f"k{seq % KEYS}", self._value)
            commands.append(msgspec.msgpack.encode(command))
        self._seq += self._batch
        self._left -= self._batch
        sent = time.perf_counter()
        self._replica.propose_nowait(commands, lambda outcomes, error: self._answered(sent, outcomes, error))

    def _answered(self, sent: float, _outcomes: Sequence[object] | None, error: ConsensusError | None) -> None:
        now = time.perf_counter()
        if error is not None:
            self._failed += 1
        else:
            self._latencies.append(now - sent)
        if now < self._end and error is None and self._left > 0:
            self._fire()
            return
        self._live -= 1
        if self._live == 0:
            seconds = now - self._start
            self._done({"seconds": seconds, "latencies": self._latencies, "failed": self._failed})


class Served(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, voter: "Voter") -> None:
        self._voter = voter
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= LENGTH.size:
            end = at + LENGTH.size + LENGTH.unpack_from(buffer, at)[0]
            if end > len(buffer):
                break
            number, question, argument = msgspec.msgpack.decode(bytes(buffer[at + LENGTH.size : end]))
            at = end
            self._voter.ask(question, argument, functools.partial(self.reply, number))
        del buffer[:at]

    def reply(self, number: int, ok: bool, answer: object) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        data = msgspec.msgpack.encode([number, ok, answer])
        self._out.append(LENGTH.pack(len(data)) + data)

    def _flush(self) -> None:
        self._transport.write(b"".join(self._out))
        self._out.clear()


Reply = Callable[[bool, object], None]


class Voter:
    """A replica and the answers to what is asked of it."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def ask(self, question: str, argument: Any, reply: Reply) -> None:
        if question == "op":
            self._replica.propose_nowait(argument, lambda outcomes, error: _answer(reply, outcomes, error))
        elif question == "bench":
            Generator(self._replica, argument, lambda found: reply(True, found))
        elif question == "status":
            reply(True, self._status())
        else:
            task = asyncio.ensure_future(getattr(self, f"_{question}")(argument))
            task.add_done_callback(lambda ended: reply(ended.exception() is None, str(ended.exception() or "")))

    def _status(self) -> dict[str, Any]:
        return {
            **msgspec.to_builtins(self._replica.role()),
            "metrics": self._replica.metrics(),
            "pid": os.getpid(),
            "cpu_s": time.process_time(),
            "failure": str(self._replica.failure or ""),
        }

    async def _fill(self, argument: dict[str, int]) -> None:
        """Put many entries or jobs, eight requests outstanding."""
        space = asyncio.Semaphore(8)

        async def one(commands: list[bytes]) -> None:
            try:
                await self._replica.propose(commands)
            finally:
                space.release()

        async with asyncio.TaskGroup() as group:
            for commands in self._requests(argument):
                await space.acquire()
                group.create_task(one(commands))

    def _requests(self, argument: dict[str, int]) -> Any:
        count, batch = argument["count"], argument["batch"]
        value = os.urandom(argument.get("size", 200))
        if isinstance(self._replica.machine, Ledger):
            for start in range(0, count, batch):
                many = range(start, min(count, start + batch))
                yield [msgspec.msgpack.encode(Command("fill", n + 1, "put", f"fill{n}", value)) for n in many]
            return
        yield [msgspec.msgpack.encode(Request("fill", 1, "bench", RegisterKind("bench")))]
        payload = msgspec.Raw(msgspec.msgpack.encode({"d": value}))
        for start in range(0, count, batch):
            jobs = tuple(JobSpec(f"fill{n}", "bench", payload) for n in range(start, min(count, start + batch)))
            yield [msgspec.msgpack.encode(Request("fill", start + 2, "bench", Enqueue(jobs)))]

    async def _snapshot(self, _argument: object) -> None:
        await self._replica.snapshot_now()


def _answer(reply: Reply, outcomes: Sequence[object] | None, error: ConsensusError | None) -> None:
    reply(error is None, type(error).__name__ if error is not None else len(outcomes or ()))


async def main(task: dict[str, Any]) -> None:
    """Run until killed or failed."""
    settings = msgspec.convert(task["settings"], ReplicaSettings, dec_hook=lambda _type, value: Path(value))
    machine: StateMachine = Machine() if task["machine"] == "queue" else Ledger()
    started = time.perf_counter()
    async with Replica(settings, machine) as replica:
        gc.collect()  # as the product's core does: what is there stays there
        gc.freeze()
        gc.set_threshold(50_000, 1 << 30, 1 << 30)
        voter = Voter(replica)
        server = await asyncio.get_running_loop().create_server(lambda: Served(voter), "127.0.0.1", task["port"])
        sys.stdout.write(json.dumps({"loaded_s": time.perf_counter() - started}) + "\n")
        sys.stdout.flush()
        async with server:
            await replica.wait_failed()


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
