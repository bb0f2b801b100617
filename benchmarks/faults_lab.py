"""Five real voters, each in a network namespace of its own where that is possible, and what can be done to them.

Without root the voters meet on loopback, and faults of the network and of the disk's size are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import msgspec

from benchmarks.faults_clients import Link
from benchmarks.membership_lab import REPOSITORY, Network, available
from consensus.certificates import make_certificates

VOTERS = tuple(f"v{k}" for k in range(1, 6))
PORT = 23_801
DISK_BYTES = 96 << 20
FILE_BYTES = 4 << 10  # where writes fail once a voter's files may not grow; its segments are nearly always longer
SETTINGS: dict[str, Any] = {"snapshot_entries": 600, "trailing_entries": 50, "digest_every": 200}


@functools.cache
def isolation() -> bool:
    """Whether network namespaces and mounts can be made here; root in a container often may not."""
    probe = ["unshare", "--net", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return not available() and subprocess.run(probe, check=False, capture_output=True).returncode == 0


class Cuts(Network):
    """A network whose links can be cut one way; packets of a cut link are dropped where they arrive."""

    def __init__(self, size: int, tag: str) -> None:
        super().__init__(size, tag)
        self._cut: set[tuple[int, int]] = set()

    def cut(self, senders: Iterable[int], receivers: Iterable[int]) -> None:
        """Let the receivers hear nothing of the senders."""
        receivers = list(receivers)
        self._cut |= {(s, r) for s in senders for r in receivers if s != r}
        self._apply()

    def heal(self) -> None:
        self._cut.clear()
        self._apply()

    def _apply(self) -> None:
        for index in self.indices:
            deaf_to = ", ".join(self.address(s) for s, r in sorted(self._cut) if r == index)
            self._filter(index, [f"ip saddr {{ {deaf_to} }} drop"] if deaf_to else [])


class Lab:
    """Voters that can be started, killed, paused, cut off and given a full disk."""

    def __init__(self, tag: str = "f", *, namespaces: bool | None = None, sabotage: str = "") -> None:
        self._sabotage = sabotage
        self.network = Cuts(len(VOTERS), tag) if (isolation() if namespaces is None else namespaces) else None
        self.died: list[tuple[str, int]] = []  # who ended by itself, and its exit code
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._killed: set[int] = set()  # process ids
        self._said: dict[str, list[str]] = {}
        self._links: dict[str, Link] = {}

    async def __aenter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="rqf"))
        if self.network is not None:
            self.network.__enter__()
            self._mount()
        make_certificates(self.folder / "tls", VOTERS)
        addresses = self._addresses()
        for voter in VOTERS:
            replica = {
                "node_id": voter,
                "address": addresses[voter],
                "peers": {n: a for n, a in addresses.items() if n != voter},
                "data_dir": str(self.data(voter)),
                "cluster_id": "faults",
                "ca": str(self.folder / "tls" / "ca.pem"),
                "cert": str(self.folder / "tls" / f"{voter}.pem"),
                "key": str(self.folder / "tls" / f"{voter}.key"),
                **SETTINGS,
            }
            config = {"replica": replica, "socket": str(self.sockets[voter]), "sabotage": self._sabotage}
            (self.folder / f"{voter}.json").write_bytes(msgspec.json.encode(config))
            self._links[voter] = Link(self.sockets[voter])
        await asyncio.gather(*map(self.start, VOTERS))
        assert self.running == list(VOTERS), f"the voters did not start: {self.log(VOTERS[0])[-1000:]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for voter in list(self._processes):
            await self.kill(voter)
        for link in self._links.values():
            link.close()
        if self.network is not None:
            subprocess.run(["umount", self.small_disk], check=False)
            self.network.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _addresses(self) -> dict[str, str]:
        if self.network is not None:
            return {voter: f"{self.network.address(k)}:{PORT}" for k, voter in enumerate(VOTERS, 1)}
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in VOTERS]
            return {voter: f"127.0.0.1:{s.getsockname()[1]}" for voter, s in zip(VOTERS, sockets, strict=True)}

    def _mount(self) -> None:
        self.small_disk.mkdir()
        options = f"size={DISK_BYTES}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.small_disk], check=True)

    # ---- places

    @property
    def small_disk(self) -> Path:
        """Where the last voter keeps its data: a file system of its own that can be filled."""
        return self.folder / "disk"

    @property
    def sockets(self) -> dict[str, Path]:
        """Where clients reach the voters."""
        return {voter: self.folder / f"{voter}.sock" for voter in VOTERS}

    def data(self, voter: str) -> Path:
        """Return a voter's data folder."""
        on_small_disk = self.network is not None and voter == VOTERS[-1]
        return (self.small_disk if on_small_disk else self.folder) / voter

    # ---- processes

    @property
    def running(self) -> list[str]:
        return [v for v in VOTERS if v in self._processes and self._processes[v].returncode is None]

    async def start(self, voter: str) -> None:
        """Start a voter and wait until it answers."""
        inside = []
        if self.network is not None:
            inside = ["ip", "netns", "exec", self.network.namespace(VOTERS.index(voter) + 1)]
        self.sockets[voter].unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(*inside, sys.executable, "-m", "benchmarks.faults_voter", str(self.folder / f"{voter}.json")),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,  # a file would be limited with the others
            cwd=REPOSITORY,
        )
        self._processes[voter] = process
        self._watchers[voter] = asyncio.create_task(self._watch(voter, process))
        async with asyncio.timeout(60):
            while process.returncode is None and await self.role(voter) is None:
                await asyncio.sleep(0.02)

    async def _watch(self, voter: str, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        said = self._said.setdefault(voter, [])
        async for line in process.stderr:
            said.append(line.decode(errors="replace").rstrip())
        code = await process.wait()
        if process.pid not in self._killed:
            self.died.append((voter, code))

    async def kill(self, *voters: str) -> None:
        """kill -9, all in the same moment."""
        self._killed |= {self._processes[voter].pid for voter in voters}
        self.signal(signal.SIGKILL, *voters)
        for voter in voters:
            await self._processes.pop(voter).wait()

    def signal(self, number: signal.Signals, *voters: str) -> None:
        for voter in voters:
            with contextlib.suppress(ProcessLookupError):
                self._processes[voter].send_signal(number)

    async def restart_the_dead(self) -> None:
        """Start every voter that does not run."""
        await asyncio.gather(*(self.start(v) for v in VOTERS if v not in self.running))

    def log(self, voter: str) -> str:
        """What a voter wrote before it ended."""
        return "\n".join(self._said.get(voter, [])[-20:])

    # ---- questions

    async def role(self, voter: str) -> dict[str, Any] | None:
        """Return what a voter says of itself, None if it doesn't answer."""
        outcome, role = await self._links[voter].ask("role", None, 0.5)
        return role if outcome == "ok" else None

    async def leader(self) -> str | None:
        """Return who leads in the newest term, of those that answer."""
        roles = [r for r in await asyncio.gather(*map(self.role, self.running)) if r and r["is_leader"]]
        return max(roles, key=lambda r: r["term"])["node_id"] if roles else None

    async def dump(self, voter: str) -> dict[str, Any] | None:
        """Return a voter's whole state, None if it doesn't answer."""
        path = self.folder / f"{voter}.dump"
        outcome, _ = await self._links[voter].ask("dump", str(path), 30)
        if outcome != "ok":
            return None
        values: dict[str, Any] = msgspec.msgpack.decode(path.read_bytes())
        return values

    async def settled(self, seconds: float = 60.0) -> bool:
        """Wait until all voters have applied the same entries; return whether they did, and have equal digests then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.running == list(VOTERS):
            roles = await asyncio.gather(*map(self.role, VOTERS))
            if all(roles) and len({r["applied_index"] for r in roles if r}) == 1:
                return len({r["digest"] for r in roles if r}) == 1
            await asyncio.sleep(0.1)
        return False

    def writes_a_snapshot(self) -> bool:
        """Whether any voter is writing or receiving a snapshot at this moment."""
        names = ("snapshot.writing", "snapshot.incoming")
        return any((self.data(v) / name).exists() for v in VOTERS for name in names)

    # ---- disks

    def fill_disk(self) -> None:
        """Leave no byte on the last voter's file system."""
        with (self.small_disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with (self.small_disk / "ballast2").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))

    def free_disk(self) -> None:
        for name in ("ballast", "ballast2"):
            (self.small_disk / name).unlink(missing_ok=True)

    def forbid_growth(self, voter: str) -> None:
        """Let no file of a voter's grow any more: its next write of an entry fails, or one soon after."""
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self._processes[voter].pid, resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))

    def last_words(self, voter: str) -> str:
        """The last line that a voter wrote."""
        return self._said.get(voter, [""])[-1]

    async def until(self, reached: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.001)
        return True


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))
