"""Starts, asks and kills the voter processes of the consensus benchmark."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.consensus_voter import LENGTH
from benchmarks.facts import ROOT
from consensus.certificates import make_certificates
from tests.ports import reserve_ports

PATIENCE_S = 60.0


class Asker:
    """One connection to a voter, for one question after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0

    async def ask(self, question: str, argument: object = None) -> Any:
        """Return the answer; RuntimeError if it is a refusal."""
        self._number += 1
        data = msgspec.msgpack.encode([self._number, question, argument])
        self._writer.write(LENGTH.pack(len(data)) + data)
        length = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
        _number, ok, answer = msgspec.msgpack.decode(await self._reader.readexactly(length))
        if not ok:
            raise RuntimeError(f"{question}: {answer}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


class Voters:
    """Voter processes on loopback with mutual TLS and synced disks."""

    def __init__(self, folder: Path, count: int, machine: str = "ledger", **changes: object) -> None:
        self._folder = folder
        self._machine = machine
        self._changes = changes
        self.ids = [f"v{n}" for n in range(count)]
        ports = reserve_ports(2 * count)
        self._raft = {node_id: f"127.0.0.1:{port}" for node_id, port in zip(self.ids, ports[:count], strict=True)}
        self.ports = dict(zip(self.ids, ports[count:], strict=True))
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        make_certificates(folder / "tls", self.ids)

    def _settings(self, node_id: str) -> dict[str, object]:
        tls = self._folder / "tls"
        return {
            "node_id": node_id,
            "address": self._raft[node_id],
            "peers": {peer: address for peer, address in self._raft.items() if peer != node_id},
            "data_dir": str(self._folder / node_id),
            "cluster_id": "bench",
            "ca": str(tls / "ca.pem"),
            "cert": str(tls / f"{node_id}.pem"),
            "key": str(tls / f"{node_id}.key"),
            **self._changes,
        }

    async def start(self, node_id: str) -> float:
        """Start a voter; returns the seconds that it took to load its state."""
        task = {"settings": self._settings(node_id), "machine": self._machine, "port": self.ports[node_id]}
        with (self._folder / f"{node_id}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.consensus_voter", json.dumps(task),
                cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.processes[node_id] = process
        assert process.stdout is not None
        async with asyncio.timeout(600):
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"{node_id} did not start: {(self._folder / f'{node_id}.log').read_text()[-2000:]}")
        return float(json.loads(line)["loaded_s"])

    async def start_all(self) -> None:
        """Start every voter that does not run."""
        await asyncio.gather(*(self.start(n) for n in self.ids if n not in self.processes))

    async def kill(self, node_id: str) -> None:
        """kill -9."""
        process = self.processes.pop(node_id)
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def stop_all(self) -> None:
        """Kill every voter."""
        for node_id in list(self.processes):
            with contextlib.suppress(ProcessLookupError):
                await self.kill(node_id)

    @contextlib.asynccontextmanager
    async def asker(self, node_id: str) -> AsyncIterator[Asker]:
        """Connect to a voter."""
        asker = Asker(*await asyncio.open_connection("127.0.0.1", self.ports[node_id]))
        try:
            yield asker
        finally:
            asker.close()

    async def status(self, node_id: str) -> dict[str, Any]:
        """Return what a voter says of itself."""
        async with self.asker(node_id) as asker:
            found: dict[str, Any] = await asker.ask("status")
            return found

    async def leader(self) -> str:
        """Wait for a leader that is ready."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            for node_id in list(self.processes):
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    found = await self.status(node_id)
                    if found["is_leader"] and found["ready"]:
                        return node_id
            await asyncio.sleep(0.02)
        raise RuntimeError("no leader was elected; read the voters' logs")

    async def cpu_s(self) -> dict[str, float]:
        """Return the CPU seconds that each voter has used."""
        return {node_id: (await self.status(node_id))["cpu_s"] for node_id in self.processes}


@contextlib.asynccontextmanager
async def voters(folder: Path, count: int, machine: str = "ledger", **changes: object) -> AsyncIterator[Voters]:
    """Run a cluster while open."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Voters(folder, count, machine, **changes)
    try:
        await cluster.start_all()
        await cluster.leader()
        yield cluster
    finally:
        await cluster.stop_all()


def load1() -> float:
    """Return the load of the last minute."""
    return round(os.getloadavg()[0], 1)
