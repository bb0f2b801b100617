"""Keeps the gossip process of a worker that can be reached: a failure detector that no job can delay.

It is a child of the agent and ends with it: when the agent goes, however that happens, the process says farewell in the
name of the agent's boot. When the whole machine goes, the other members notice. When the agent hangs, and so no longer
says that it runs, the process ends without a word, and the others notice likewise; it is started anew when the agent
goes on. Gossip that fails never stops a worker, which is present by its heartbeats then.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
import structlog

from membership.settings import METADATA_BYTES_MAX, GossipSettings, check_metadata
from workers.process import tail
from workqueue.errors import ClientError
from workqueue.peering import PATH, Peering

if TYPE_CHECKING:
    from config.cluster import WorkerSettings
    from membership.api import Metadata
    from workqueue.client import Client
    from workqueue.machine.commands import Capability

log = structlog.get_logger()
_PAUSE_S = 1.0
_PAUSE_S_MAX = 30.0
_STEADY_S = 60.0  # a process that ran for so long has not failed at its start
_FAREWELL_S = 3.0
PULSE_S = 0.5  # how often the agent's loop says that it runs
SILENCE_S = 2.0  # an agent that has not for so long hangs; a false alarm costs nothing while its heartbeats arrive


def describe(capability: Capability) -> Metadata:
    """Return what other members are told of this machine, cut to what fits into a packet."""
    devices: list[str | int | float] = [name for name, _ in capability.devices]
    metadata: Metadata = {"build": capability.build, "cpus": capability.cpus, "devices": devices}
    while devices and len(msgspec.msgpack.encode(metadata)) > METADATA_BYTES_MAX:
        devices.pop()
    check_metadata(metadata)
    return metadata


def gossip_settings(settings: WorkerSettings, peering: Peering, boot: str, metadata: Metadata) -> GossipSettings:
    """Return what the process is told; raises ValueError for an address that is none."""
    return GossipSettings(
        node_id=settings.id,
        boot_id=boot,
        role="worker",
        bind=settings.gossip_bind or settings.gossip,
        advertise=settings.gossip,
        seeds=list(peering.seeds),
        key_files=[str(Path(path).resolve()) for path in settings.gossip_keys],
        period_ms=peering.period_ms,
        suspicion_mult=peering.suspicion_mult,
        metadata=metadata,
        cluster=peering.cluster,
    )


class GossipProcess:
    """Runs `membership.process` while entered, and starts it anew when it ends; ends with a farewell."""

    def __init__(
        self, settings: WorkerSettings, boot: str, metadata: Metadata, client: Client, *,
        pause_s: float = _PAUSE_S, pulse_s: float = PULSE_S, silence_s: float = SILENCE_S,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._boot = boot
        self._metadata = metadata
        self._client = client
        self._pause_s, self._pulse_s, self._silence_s = pause_s, pulse_s, silence_s
        self._folder = Path(settings.data)
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id, 0 while it is not running."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def __aenter__(self) -> Self:
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeping:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._process is None or self._process.returncode is not None:
            return
        if self._process.stdin:
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _keep(self) -> None:
        pause_s = self._pause_s
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            try:
                await self._run()
            except (ClientError, OSError, ValueError) as error:
                log.warning("gossip.unstartable", reason=str(error))
            if loop.time() - began_s > _STEADY_S:
                pause_s = self._pause_s
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    async def _run(self) -> None:
        """Ask voters how they gossip, and do likewise until the process ends."""
        peering = msgspec.json.decode(await self._client.get(PATH), type=Peering)
        told = gossip_settings(self._settings, peering, self._boot, self._metadata)
        file, log_file = self._folder / "gossip.json", self._folder / "gossip.log"
        await asyncio.to_thread(file.write_bytes, msgspec.json.encode(told))
        with log_file.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "membership.process", "--parent", "--silence-s", str(self._silence_s),
                "--settings", str(file),
                stdin=asyncio.subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        log.info("gossip.started", address=self._settings.gossip, pid=self._process.pid)
        pulsing = asyncio.create_task(self._pulse(self._process))
        try:
            code = await self._process.wait()
        finally:
            pulsing.cancel()
        log.warning("gossip.ended", code=code, reason=tail(log_file).strip()[-300:])

    async def _pulse(self, process: asyncio.subprocess.Process) -> None:
        """Say again and again that this loop runs."""
        while process.stdin and not process.stdin.is_closing():
            process.stdin.write(b".")
            await asyncio.sleep(self._pulse_s)
