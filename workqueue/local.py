"""`rift up`: voters and workers as children of one process, started, watched and stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import yaml

from config.cluster import CA, ClusterSettings
from config.errors import AppError, ConfigError
from config.load import load
from workqueue.errors import EXIT_DISK, EXIT_FAILED, EXIT_PORT, ClientError, ProcessFailure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from config.loop import LoopSettings
    from workqueue.client import Client

READY_S = 120.0
WORKER_STOP_S = 40.0
VOTER_STOP_S = 30.0
STEADY_S = 10.0  # a process that lived for so long did not die at its start
RESTART_S = 1.0
SPACE_MIN_BYTES = 1 << 30
_PERIOD_S = 1.0
_HEADLESS_PERIOD_S = 5.0


class Plan(msgspec.Struct, frozen=True):
    """What to run, and until when."""

    data: Path
    voters: int
    workers: int
    base_port: int
    loop: LoopSettings
    headless: bool = False
    stop_after_champion: int = 0  # promotions of all configs; 0 = until told to stop


class Child:
    """A process with its log file; one that has run for a while and dies is started again."""

    def __init__(self, name: str, arguments: list[str], log: Path, stop_s: float) -> None:
        self.name = name
        self._arguments = arguments
        self._log = log
        self._stop_s = stop_s
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; what it says goes to its log."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *self._arguments, stdout=log, stderr=log, start_new_session=True
            )

    async def watch(self) -> None:
        """Start it again when it was killed; raises ProcessFailure with its last words when it gave up at its start."""
        while True:
            started = asyncio.get_running_loop().time()
            assert self._process
            code = await self._process.wait()
            if code >= 0 and asyncio.get_running_loop().time() - started < STEADY_S:
                self._fail(code)
            await asyncio.sleep(RESTART_S)
            await self.start()

    def _fail(self, code: int) -> None:
        words = [text for text in self._log.read_text(errors="replace").splitlines() if not text.startswith("{")]
        last = f": {words[-1]}" if words else ""
        raise ProcessFailure(f"{self.name} ended with code {code}{last} (log: {self._log})", code if code > 0 else 1)

    async def stop(self) -> None:
        """Ask it to end, and insist after a while."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(self._stop_s):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def prepare(plan: Plan) -> ClusterSettings:
    """Make the data folder on first use, else check that it fits; raises AppError with one sentence."""
    from workqueue.init import create, loopback

    plan.data.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(plan.data).free
    if free < SPACE_MIN_BYTES:
        raise ProcessFailure(
            f"{plan.data} has {free >> 20} MiB of free space; at least {SPACE_MIN_BYTES >> 20} are needed", EXIT_DISK
        )
    if not (plan.data / "cluster.yaml").exists():
        create(plan.data, loopback(plan.voters, plan.base_port), loop=plan.loop)
    settings = load(ClusterSettings, plan.data / "cluster.yaml")
    if len(settings.voters) != plan.voters:
        raise ConfigError(
            str(plan.data), f"holds a cluster of {len(settings.voters)} voters; say --voters {len(settings.voters)}, "
            "or name another folder with --data"
        )  # fmt: skip
    write_context(plan.data, settings)
    return settings


def write_context(data: Path, settings: ClusterSettings) -> None:
    """Write the context that other commands use."""
    folder = data.resolve()
    tree = {
        "servers": [voter.http for voter in settings.voters],
        "token_file": str(folder / "secrets/admin.token"),
        "ca": str(folder / CA),
    }
    (data / "context.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def check_ports(settings: ClusterSettings) -> None:
    """Find out before anything starts whether a port is taken; raises ProcessFailure."""
    for voter in settings.voters:
        for port in (voter.http_port, voter.raft_port):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((voter.host, port))
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise
                    raise ProcessFailure(
                        f"port {port} of {voter.host} is taken: stop what uses it, "
                        "or use another folder and --base-port",
                        EXIT_PORT,
                    ) from error


def voters_of(data: Path, settings: ClusterSettings) -> list[Child]:
    """Return the voters' processes."""
    return [
        Child(voter.id, ["workqueue.voter", "--config", str(data / f"{voter.id}.yaml")],
              data / f"logs/{voter.id}.log", VOTER_STOP_S)
        for voter in settings.voters
    ]  # fmt: skip


def workers_of(data: Path, settings: ClusterSettings, count: int) -> list[Child]:
    """Return the workers' processes; they share the machine's processors, and gossip with the voters."""
    slots = max(1, (os.cpu_count() or 1) // max(1, count))
    joins = [part for voter in settings.voters for part in ("--join", voter.http)]
    keys = [part for key in settings.gossip_keys for part in ("--gossip-key", str(data / key))]
    found = []
    for n in range(1, count + 1):
        arguments = [
            "workers.cli", *joins, "--token-file", str(data / "secrets/worker.token"), "--ca", str(data / CA),
            "--data", str(data / f"workers/worker-{n}"), "--id", f"worker-{n}",
            "--slots", str(slots), "--threads", "1",
            "--gossip", "127.0.0.1:0", *keys,
        ]  # fmt: skip
        found.append(Child(f"worker-{n}", arguments, data / f"logs/worker-{n}.log", WORKER_STOP_S))
    return found


async def run(plan: Plan, out: TextIO) -> None:
    """Run everything until SIGINT or SIGTERM, a failure, or the wanted champion; then stop it all in order."""
    settings = prepare(plan)
    check_ports(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    voters = voters_of(plan.data, settings)
    workers = workers_of(plan.data, settings, plan.workers)
    watches: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait())]
    try:
        await _start(voters, watches)
        async with _client(plan.data, settings) as client:
            if await _until(_ready(client), watches):
                return
            await _start(workers, watches)
            await _until(_show(plan, client, settings, out), watches)
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        out.write("stopping: workers give their jobs back, voters write what they hold\n")
        await asyncio.gather(*(child.stop() for child in workers))
        await asyncio.gather(*(child.stop() for child in voters))


async def _start(children: list[Child], watches: list[asyncio.Task[Any]]) -> None:
    for child in children:
        await child.start()
        watches.append(asyncio.create_task(child.watch()))


async def _until(work: Any, watches: list[asyncio.Task[Any]]) -> bool:
    """Do `work` unless a watch ends first; raises what either raised, returns whether it was a watch."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task, *watches], return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
        return task not in done
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _client(data: Path, settings: ClusterSettings) -> Client:
    from workqueue.client import Client
    from workqueue.security import read_secret

    token = read_secret(data / "secrets/admin.token").decode()
    servers = [voter.http for voter in settings.voters]
    return Client(servers, token=token, ca=data / CA, deadline_s=10.0)


async def _ready(client: Client) -> None:
    try:
        async with asyncio.timeout(READY_S):
            while True:
                with contextlib.suppress(ClientError):
                    if (await client.query("settings"))["version"]:
                        return
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise ProcessFailure(f"the voters had no leader within {READY_S:.0f} s; see data/logs", EXIT_FAILED) from None


async def _show(plan: Plan, client: Client, settings: ClusterSettings, out: TextIO) -> None:
    from workqueue.screen import line, page

    url = settings.voters[0].http
    with contextlib.ExitStack() as stack:
        show: Callable[[dict[str, Any]], None]
        if plan.headless:
            out.write(f"running: {url}/dashboard\n")

            def show(document: dict[str, Any]) -> None:
                out.write(line(document) + "\n")
                out.flush()
        else:
            from rich.live import Live

            live = stack.enter_context(Live(auto_refresh=False, screen=True))

            def show(document: dict[str, Any]) -> None:
                live.update(page(document, url), refresh=True)

        while True:
            with contextlib.suppress(ClientError):
                document = await client.status()
                show(document)
                promotions = sum(config["promotions"] for config in document["state"]["configs"])
                if plan.stop_after_champion and promotions >= plan.stop_after_champion:
                    return
            await asyncio.sleep(_HEADLESS_PERIOD_S if plan.headless else _PERIOD_S)


def main(plan: Plan, out: TextIO = sys.stdout) -> int:
    """Run `plan`; returns the exit code, and says why on standard error when it is not 0."""
    try:
        asyncio.run(run(plan, out))
    except AppError as error:
        sys.stderr.write(f"rift up: {error}\n")
        return error.exit_code if isinstance(error, ProcessFailure) else 2
    except OSError as error:
        sys.stderr.write(f"rift up: {error.strerror or error}: {error.filename or plan.data}\n")
        return EXIT_DISK if error.errno == errno.ENOSPC else EXIT_FAILED
    return 0
