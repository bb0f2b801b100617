"""From settings to a running agent: what the machine has, what its engine is, who the voters are."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from config.cluster import WorkerSettings
from config.errors import ConfigError
from config.load import convert, load
from workers import devices, jobs
from workers.agent import Agent
from workers.attempts import Options, SlotSpec
from workers.client import WorkerClient
from workers.control import Control, watch_spot
from workers.gossip import GossipProcess, describe
from workers.limits import Limits
from workers.network import Network
from workers.process import RunnerProcess, tail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workqueue.machine.commands import Capability

log = structlog.get_logger()
_MEASURE_S = 300.0  # the engine may compile first
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Extra(msgspec.Struct, frozen=True):
    """What is set by flags alone."""

    spot_command: str = ""
    memory_mb: int = 0
    hang_ms: int = 300_000
    grace_ms: int = 20_000
    canary: bool = True
    backend: str = "auto"  # what computes nets


def settings_of(path: Path | None, flags: dict[str, Any]) -> WorkerSettings:
    """Read worker.yaml when there is one, and lay flags over it; raises ConfigError."""
    if path:
        settings = load(WorkerSettings, path, flags)
    else:
        host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
        missing = [name for name in ("join", "token_file", "ca") if not flags.get(name)]
        if missing:
            named = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
            raise ConfigError("rift worker", f"give {named}, or --config with a worker.yaml")
        settings = convert(WorkerSettings, {"id": host} | flags, "rift worker")
    if not _NAME.fullmatch(settings.id):
        raise ConfigError("id", f"{settings.id!r} is no name: use letters, digits, dots and dashes, at most 64")
    return settings


async def work_for(settings: WorkerSettings, extra: Extra) -> int:
    """Run a worker until it leaves; returns the exit code."""
    data = Path(settings.data)
    token = _secret(Path(settings.token_file))
    with _alone(data):
        measured = await _measure(data, extra)
        network = Network(data / "network.json")
        capability = devices.capability(settings, _kinds(measured), measured, network.rates)
        options, limits = plan(settings, extra, capability)
        log.info("worker.starts", worker=options.worker, slots=len(options.slots), kinds=",".join(capability.kinds))
        client = WorkerClient(settings, token, network)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(client)
            if settings.gossip:
                gossip = GossipProcess(settings, options.boot, describe(capability), client)
                await stack.enter_async_context(gossip)
            agent = Agent(options, limits, data, client)
            await stack.enter_async_context(Control(data, agent.order))
            if extra.spot_command:
                spot = asyncio.create_task(watch_spot(extra.spot_command, agent.order))
                stack.callback(spot.cancel)
            return await agent.run()


def plan(settings: WorkerSettings, extra: Extra, capability: Capability) -> tuple[Options, Limits]:
    """Slots and limits from what the machine has: one slot a device, the rest of the CPU in pairs of cores."""
    accelerators = capability.devices
    cpu_slots = settings.slots or max(0 if accelerators else 1, capability.cpus // 2 - len(accelerators))
    slots = tuple(SlotSpec(index, vram) for index, (_, vram) in enumerate(accelerators))
    slots += tuple(SlotSpec() for _ in range(cpu_slots))
    options = Options(
        worker=settings.id,
        boot=secrets.token_hex(8),
        capability=capability,
        slots=slots,
        hang_ms=extra.hang_ms,
        grace_ms=extra.grace_ms,
        seed=secrets.randbits(32),
    )
    limits = Limits(
        cpus=capability.cpus,
        threads=settings.threads,
        backend=extra.backend,
        memory_mb=extra.memory_mb or capability.ram_mb // len(slots),
        disk_bytes=settings.disk_mb << 20,
        floor_bytes=settings.floor_mb << 20,
        canary="workers.canary:check" if extra.canary and capability.rules_version else "",
    )
    return options, limits


def _kinds(measured: devices.Measured) -> tuple[str, ...]:
    """Kinds that can run: those built in need the engine."""
    return tuple(name for name in jobs.names() if measured.rules_version or name not in jobs.BUILT_IN)


async def _measure(data: Path, extra: Extra) -> devices.Measured:
    """Measure the engine in a runner of its own, or take what an earlier start of the same build measured."""
    bare = devices.Measured(devices.build(), devices=devices.accelerators(), at_s=time.time_ns() // 10**9)
    kept = devices.load_measured(data / "measured.json", bare)
    if kept:
        return kept
    if not extra.canary:
        found = await _ask_runner(data, "workers.canary:versions")
    else:
        log.info("worker.measures", note="the engine compiles on its first start")
        found = await _ask_runner(data, "workers.canary:measure", 0 if bare.devices else -1)
    if found is None:
        return bare
    measured = msgspec.structs.replace(bare, rules_version=str(found["rules_version"]), rates=found.get("rates", {}))
    if measured.rates:
        devices.save_measured(data / "measured.json", measured)
    return measured


async def _ask_runner(data: Path, target: str, device: int = -1) -> dict[str, Any] | None:
    answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def told(parts: list[Any]) -> None:
        if parts[0] == "ready":
            runner.send("check", target)
        elif not answer.done():
            answer.set_result(parts)

    def gone(code: int) -> None:
        if not answer.done():
            answer.set_result(["checked", "failed", "runner.crashed", "node", f"exit code {code}: {tail(path)}"])

    path = data / "measure.log"
    runner = RunnerProcess(device=device, threads=1, log=path, on_frame=told, on_exit=gone)
    await runner.start()
    try:
        async with asyncio.timeout(_MEASURE_S):
            _, how, *rest = await answer
    except TimeoutError:
        how, rest = "failed", ["no answer in time"]
    finally:
        await runner.stop()
    if how == "ok":
        return dict(rest[0])
    log.warning("worker.without_engine", reason=str(rest[-1]))
    return None


@contextlib.contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Hold the data folder: a second worker on it would deliver the same spool."""
    data.mkdir(parents=True, exist_ok=True)
    fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError("data", f"another worker uses {data}; choose another --data") from error
        yield
    finally:
        os.close(fd)


def _secret(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise ConfigError("token_file", f"{path} cannot be read: {error.strerror}") from error
    if not token:
        raise ConfigError("token_file", f"{path} is empty; put the worker's token into it")
    return token
