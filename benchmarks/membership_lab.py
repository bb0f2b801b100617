"""Groups of real processes, one namespace each, for `benchmarks/membership.py` and the cluster tests.

Needs root, iproute2 and nftables. The ARP table is shared by all namespaces, so its limits are raised while a lab is
open and put back after.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from membership import frames

PORT = 22_946
ARP_LIMITS = {"gc_thresh1": 32_768, "gc_thresh2": 65_536, "gc_thresh3": 131_072}
REPOSITORY = Path(__file__).resolve().parent.parent


def available() -> str:
    """Return why no lab can be opened here, or nothing."""
    if os.geteuid() != 0:
        return "namespaces need root"
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    return f"install {' and '.join(missing)}" if missing else ""


class Network:
    """Namespaces on one bridge; loss and partitions by nftables at the receivers; bytes by the bridge's counters."""

    def __init__(self, size: int, tag: str) -> None:
        self.size, self.tag = size, tag
        self._arp: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._destroy()
        for name, value in ARP_LIMITS.items():
            file = Path("/proc/sys/net/ipv4/neigh/default") / name
            with contextlib.suppress(OSError):
                self._arp[name] = file.read_text()
                file.write_text(str(value))
        switch = self._name("sw")
        self._ip([f"netns add {switch}", *(f"netns add {self.namespace(i)}" for i in self.indices)])
        self._ip(["link add br0 type bridge", "link set br0 up"], inside=switch)
        for i in self.indices:
            inside = self.namespace(i)
            self._ip([f"link add v{i} netns {switch} type veth peer name eth0 netns {inside}"])
            self._ip([f"link set v{i} master br0", f"link set v{i} up"], inside=switch)
            self._ip(["link set lo up", f"addr add {self.address(i)}/16 dev eth0", "link set eth0 up"], inside=inside)
        return self

    def __exit__(self, *_: object) -> None:
        self._destroy()
        for name, value in self._arp.items():
            with contextlib.suppress(OSError):
                (Path("/proc/sys/net/ipv4/neigh/default") / name).write_text(value)

    @property
    def indices(self) -> range:
        return range(1, self.size + 1)

    def namespace(self, index: int) -> str:
        return self._name(str(index))

    def address(self, index: int) -> str:
        return f"10.98.{index >> 8}.{index & 255}"

    def lose(self, share: float) -> None:
        """Let every receiver drop this share of packets."""
        rule = f'iifname "eth0" numgen random mod 1000 < {round(1000 * share)} drop'
        for i in self.indices:
            self._filter(i, [rule] if share else [])

    def part(self, one: Iterable[int], other: Iterable[int]) -> None:
        sides = (list(one), list(other))
        for here, there in (sides, sides[::-1]):
            addresses = ", ".join(self.address(i) for i in there)
            for i in here:
                self._filter(i, [f"ip saddr {{ {addresses} }} drop"])

    def heal(self) -> None:
        self.lose(0)

    def sent_bytes(self) -> dict[int, int]:
        """Return what each member has sent so far, Ethernet headers included."""
        command = ["ip", "netns", "exec", self._name("sw"), "cat", "/proc/net/dev"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {int(m[1]): int(m[2]) for m in re.finditer(r"^\s*v(\d+):\s*(\d+)", text, re.MULTILINE)}

    def _name(self, suffix: str) -> str:
        return f"rq{self.tag}{suffix}"

    def _filter(self, index: int, rules: list[str]) -> None:
        table = "flush ruleset\n"
        if rules:
            chain = "type filter hook input priority 0;\n" + "\n".join(rules)
            table += f"table inet lab {{\nchain in {{\n{chain}\n}}\n}}\n"
        command = ["ip", "netns", "exec", self.namespace(index), "nft", "-f", "-"]
        subprocess.run(command, input=table, text=True, check=True)

    def _ip(self, lines: list[str], *, inside: str | None = None) -> None:
        command = ["ip", *(["-n", inside] if inside else []), "-batch", "-"]
        subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True)

    def _destroy(self) -> None:
        listed = subprocess.run(["ip", "netns", "list"], check=False, capture_output=True, text=True).stdout
        for name in re.findall(rf"^(rq{self.tag}(?:sw|\d+))\b", listed, re.MULTILINE):
            subprocess.run(["ip", "netns", "del", name], check=False)


@dataclass(frozen=True)
class Heard:
    """One event that one member told, at the time this process read it."""

    at: float
    by: int
    kind: str
    subject: int
    boot: str = ""


@dataclass
class Cluster:
    """Members of one kind ("riftq" or "serf") on a network."""

    network: Network
    kind: str = "riftq"
    settings: dict[str, Any] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    views: dict[int, dict[int, str]] = field(default_factory=dict)
    boots: dict[int, int] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="rq"))
        (self._folder / "gossip.key").write_text(secrets.token_hex(32))
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._readers: dict[int, asyncio.Task[None]] = {}
        return self

    async def __aexit__(self, *_: object) -> None:
        for i in list(self._processes):
            self.signal(i, signal.SIGCONT)
            await self.kill(i)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def running(self) -> list[int]:
        return [i for i, process in self._processes.items() if process.returncode is None]

    async def start(self, index: int) -> None:
        self.boots[index] = self.boots.get(index, 0) + 1
        self.views[index] = {}
        inside = ["ip", "netns", "exec", self.network.namespace(index)]
        seeds = [f"{self.network.address(i)}:{PORT}" for i in range(1, min(3, self.network.size) + 1) if i != index]
        command = self._serf(index, seeds) if self.kind == "serf" else self._riftq(index, seeds)
        process = await asyncio.create_subprocess_exec(
            *inside,
            *command,
            stdout=asyncio.subprocess.PIPE if self.kind == "serf" else asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.STDOUT if self.kind == "serf" else None,
            cwd=REPOSITORY,
        )
        self._processes[index] = process
        read = self._read_serf(index, process) if self.kind == "serf" else self._read_riftq(index)
        self._readers[index] = asyncio.create_task(read)

    async def boot(self, *, limit_s: float = 90) -> float | None:
        """Start all; return the seconds until all see all, None if that took longer than the limit."""
        started = time.monotonic()
        for i in self.network.indices:
            await self.start(i)
        return None if await self.converge(limit_s) is None else round(time.monotonic() - started, 2)

    def signal(self, index: int, number: signal.Signals) -> float:
        process = self._processes[index]
        if process.returncode is None:
            process.send_signal(number)
        return time.monotonic()

    async def kill(self, index: int) -> float:
        """End a member at once; return when."""
        at = self.signal(index, signal.SIGKILL)
        await self._processes[index].wait()
        self._readers[index].cancel()
        await asyncio.gather(self._readers[index], return_exceptions=True)
        return at

    async def stop(self, index: int) -> float:
        """Ask a member to leave; return when it was asked."""
        return self.signal(index, signal.SIGINT if self.kind == "serf" else signal.SIGTERM)

    def converged(self) -> bool:
        ids = self.running
        return all(self.views[i].get(j) == "alive" for i in ids for j in ids if i != j)

    async def converge(self, limit_s: float) -> float | None:
        return await self.until(self.converged, limit_s)

    async def until(self, reached: Callable[[], bool], limit_s: float) -> float | None:
        """Wait for a condition; return the seconds it took."""
        started = time.monotonic()
        while not reached():
            if time.monotonic() - started > limit_s:
                return None
            await asyncio.sleep(0.02)
        return round(time.monotonic() - started, 2)

    def told(self, kind: str, subject: int, since: float, boot: str = "") -> dict[int, float]:
        """Return when each member first told of an event."""
        first: dict[int, float] = {}
        for h in reversed(self.heard):
            if h.at < since:
                break
            if h.kind == kind and h.subject == subject and (not boot or h.boot == boot):
                first[h.by] = h.at
        return first

    def false_deaths(self, since: float, *excused: int) -> list[Heard]:
        return [h for h in self.heard if h.at >= since and h.kind == "dead" and not {h.subject, h.by} & set(excused)]

    def cpu_s(self, index: int) -> float:
        fields = Path(f"/proc/{self._processes[index].pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self, index: int) -> float:
        pages = int(Path(f"/proc/{self._processes[index].pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _riftq(self, index: int, seeds: list[str]) -> list[str]:
        settings = {
            "node_id": f"n{index}",
            "boot_id": f"boot-{self.boots[index]}",
            "role": "worker",
            "bind": f"{self.network.address(index)}:{PORT}",
            "seeds": seeds,
            "key_files": [str(self._folder / "gossip.key")],
            "metadata": {"device": "H100", "count": 8, "region": "lab"},
            **self.settings,
        }
        file = self._folder / f"{index}.json"
        file.write_text(json.dumps(settings))
        return [sys.executable, "-m", "membership.process", "--settings", str(file), "--socket", self._socket(index)]

    def _serf(self, index: int, seeds: list[str]) -> list[str]:
        command = ["serf", "agent", f"-node=n{index}", f"-bind={self.network.address(index)}:{PORT}"]
        command += ["-rpc-addr=127.0.0.1:7373", "-log-level=info", "-retry-interval=1s", *self.arguments]
        return command + [f"-retry-join={seed}" for seed in seeds]

    def _socket(self, index: int) -> str:
        return str(self._folder / f"{index}-{self.boots[index]}.sock")

    def _hear(self, by: int, kind: str, subject: int, state: str, boot: str = "") -> None:
        self.heard.append(Heard(time.monotonic(), by, kind, subject, boot))
        self.views[by][subject] = state

    async def _read_riftq(self, index: int) -> None:
        path = self._socket(index)
        reader, writer = await _connected(path)
        writer.write(frames.pack(frames.Frame(1, "members", {"role": None, "state": None})))
        try:
            while (frame := await frames.read(reader)) is not None:
                if frame.id:
                    for member in frame.body:
                        self.views[index].setdefault(int(member["id"][1:]), member["state"])
                elif frame.body["member"] is not None:
                    member = frame.body["member"]
                    subject = int(member["id"][1:])
                    self._hear(index, frame.body["kind"], subject, member["state"], member["boot_id"])
        finally:
            writer.close()

    async def _read_serf(self, index: int, process: asyncio.subprocess.Process) -> None:
        kinds = {"Join": ("joined", "alive"), "Failed": ("dead", "dead"), "Leave": ("left", "left")}
        assert process.stdout is not None
        async for line in process.stdout:
            found = re.search(rb"serf: EventMember(Join|Failed|Leave): n(\d+)", line)
            if found:
                kind, state = kinds[found[1].decode()]
                self._hear(index, kind, int(found[2]), state)


async def _connected(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            return await asyncio.open_unix_connection(path)
        except OSError:
            await asyncio.sleep(0.05)
