"""One voter of a fault run: a replica, and a Unix socket for clients, which no fault of the network touches.

A request is a frame [number, what, body]: "do" and a command, "look" and a key (a read after a barrier), "role", or
"dump" and a path to write the whole state to. The answer is [number, "ok" | "fail" | "unknown", result].
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from benchmarks.faults_machine import Objects
from consensus import ConsensusError, NotLeader, Overloaded, Replica, ReplicaSettings
from consensus.raft import Raft

EXIT_FAILED = 3


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """Return the next frame; IncompleteReadError at the end."""
    length = int.from_bytes(await reader.readexactly(4), "little")
    return msgspec.msgpack.decode(await reader.readexactly(length))


def frame(value: Any) -> bytes:
    """Return the bytes of a frame."""
    data = msgspec.msgpack.encode(value)
    return len(data).to_bytes(4, "little") + data


class Service:
    """Answers clients of one voter."""

    def __init__(self, replica: Replica, machine: Objects, *, stale_reads: bool) -> None:
        self._replica, self._machine, self._stale_reads = replica, machine, stale_reads
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                task = asyncio.create_task(self._answer(await read_frame(reader), writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        writer.close()

    async def _answer(self, request: Sequence[Any], writer: asyncio.StreamWriter) -> None:
        number, what, body = request
        try:
            outcome = "ok", await self._result(what, body)
        except NotLeader as error:
            outcome = "fail", error.leader_id
        except Overloaded:
            outcome = "fail", None
        except ConsensusError as error:
            outcome = "unknown", str(error)
        if not writer.is_closing():
            writer.write(frame([number, *outcome]))

    async def _result(self, what: str, body: Any) -> Any:
        match what:
            case "do":
                return (await self._replica.propose([body]))[0]
            case "look":
                if not self._stale_reads:
                    await self._replica.barrier()
                return self._machine.look(body)
            case "role":
                role, metrics = self._replica.role(), self._replica.metrics()
                return msgspec.to_builtins(role) | {"digest": self._machine.digest().hex(), "metrics": metrics}
            case "dump":
                Path(body).write_bytes(msgspec.msgpack.encode(self._machine.values))
                return len(self._machine.values)
            case other:
                raise ValueError(f"there is no request {other!r}")


def commit_alone(raft: Raft) -> None:
    """Commit what the leader has, whoever else has it: a mistake made on purpose."""
    if raft.is_leader:
        raft.journal.sync()
        raft._SyncObj__raftCommitIndex = raft.journal.last_index


async def run(path: Path) -> None:
    """Run until the voter must stop."""
    config = msgspec.json.decode(path.read_bytes())
    if config["sabotage"] == "lonely-commits":
        Raft._advance_commit = commit_alone  # type: ignore[method-assign,assignment]
    settings = msgspec.convert(config["replica"], ReplicaSettings, dec_hook=lambda kind, value: kind(value))
    asyncio.get_running_loop().add_reader(0, lambda: os._exit(0))  # whoever started it is gone
    machine = Objects()
    socket = Path(config["socket"])
    async with Replica(settings, machine) as replica:
        socket.unlink(missing_ok=True)
        service = Service(replica, machine, stale_reads=config["sabotage"] == "stale-reads")
        server = await asyncio.start_unix_server(service.serve, socket)
        async with server:
            await replica.wait_failed()


def main() -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        uvloop.run(run(Path(sys.argv[1])))
    except ConsensusError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
