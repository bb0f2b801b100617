"""A voter in memory with the client's interface, and faults on demand: agents are tested without a cluster."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from membership.api import Metadata
from workqueue.errors import CorruptArtifact, Rejected, Unavailable
from workqueue.machine.commands import (
    ArtifactRef,
    Claim,
    Complete,
    DeregisterWorker,
    Fail,
    Fault,
    JobSpec,
    QuarantineWorker,
    RegisterWorker,
    Release,
    Renew,
)
from workqueue.machine.outcomes import (
    Changed,
    Code,
    Completed,
    Empty,
    Granted,
    Lease,
    LeaseState,
    Refused,
    Registered,
    Renewed,
    Settled,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NIL = msgspec.Raw(b"\xc0")


@dataclass
class Job:
    spec: JobSpec
    state: str = "available"
    attempt: int = 0
    worker: str = ""
    expires_s: float = 0.0
    cursor: msgspec.Raw = field(default_factory=lambda: NIL)
    progress: msgspec.Raw = field(default_factory=lambda: NIL)
    result: msgspec.Raw = field(default_factory=lambda: NIL)
    ended: list[Any] = field(default_factory=list)
    device: int = -1


class MemoryVoters:
    """One state for all clients made with `client()`; `down` makes every call fail as without a quorum."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.artifacts: dict[str, bytes] = {}
        self.boots: dict[str, str] = {}
        self.draining: set[str] = set()
        self.quarantined: set[str] = set()
        self.cancelled: set[str] = set()
        self.down = False
        self.refusing = ""  # code that uploads are refused with
        self.answered: Counter[str] = Counter()
        self.metadata: dict[str, Any] = {}
        self.commands: list[Any] = []
        self.transfers: list[tuple[str, str]] = []  # (which way, job)
        self._changed = asyncio.Event()

    def enqueue(self, name: str, payload: dict[str, Any] | None = None, **fields: Any) -> Job:
        spec = JobSpec(name, "fake", msgspec.Raw(msgspec.msgpack.encode(payload or {})), **fields)
        self.jobs[name] = Job(spec)
        self.touch()
        return self.jobs[name]

    def touch(self) -> None:
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    def tick(self) -> None:
        for job in self.jobs.values():
            if job.state == "running" and not self.down and time.monotonic() > job.expires_s:
                job.state = "available"

    async def until(self, done: Callable[[], bool], timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not done():
                await asyncio.sleep(0.005)

    async def finished(self, *names: str, timeout_s: float = 20.0) -> None:
        ends = {"completed", "failed", "cancelled"}
        await self.until(lambda: all(self.jobs[name].state in ends for name in names), timeout_s)

    # ---- the client's interface

    async def submit(self, *commands: Any) -> list[Any]:
        self._up()
        await asyncio.sleep(0)
        self.commands += commands
        return [self._apply(command) for command in commands]

    async def claim(self, command: Claim, wait_ms: int) -> Granted | Empty | Refused:
        deadline = time.monotonic() + wait_ms / 1000
        while True:
            self._up()
            answer = self._grant(command)
            left = deadline - time.monotonic()
            if not isinstance(answer, Empty) or left <= 0:
                return answer
            changed = self._changed
            try:
                async with asyncio.timeout(min(left, 0.2)):
                    await changed.wait()
            except TimeoutError:
                pass

    async def beat(self, worker: str, boot: str, seq: int, metadata: dict[str, object]) -> None:
        self._up()
        self.metadata[worker] = (boot, seq, msgspec.convert(metadata, Metadata))  # as the stream takes it

    async def put_artifact(
        self, path: Path, *, kind: str, config: str = "", job: str = "", sha256: str = ""
    ) -> ArtifactRef:
        self._up()
        if self.refusing:
            raise Rejected(self.refusing, "the quota of this configuration is used up")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptArtifact(sha256)
        self.artifacts[sha256] = data
        self.transfers.append(("put", job))
        return ArtifactRef(sha256, len(data), kind)

    async def get_artifact(self, sha256: str, path: Path, *, job: str = "") -> None:
        self._up()
        self.transfers.append(("get", job))
        if sha256 not in self.artifacts:
            raise Rejected("not_found", f"no voter holds artifact {sha256}")
        path.write_bytes(self.artifacts[sha256])

    def _up(self) -> None:
        if self.down:
            raise Unavailable(["memory"])

    # ---- the state machine, as far as workers see it

    def _grant(self, command: Claim) -> Granted | Empty | Refused:
        if self.boots.get(command.worker) != command.boot:
            return Refused(Code.NOT_FOUND, "register first")
        if command.worker in self.quarantined:
            return Refused(Code.QUARANTINED, "this worker is quarantined", 1000)
        self.tick()
        leases = []
        devices = list(command.free.devices)
        for job in self.jobs.values():
            if job.state == "available" and len(leases) < command.limit and command.worker not in self.draining:
                if job.spec.requires.device and not devices:
                    continue
                job.device = devices.pop(0) if job.spec.requires.device else -1
                job.state, job.worker, job.attempt = "running", command.worker, job.attempt + 1
                job.expires_s = time.monotonic() + job.spec.lease_ms / 1000
                spec = job.spec
                leases.append(
                    Lease(
                        spec.id, job.attempt, spec.kind, spec.payload, spec.config, spec.lease_ms, spec.total_ms_max,
                        job.cursor, job.device,
                    )
                )  # fmt: skip
        return Granted(tuple(leases)) if leases else Empty(50)

    def _apply(self, command: Any) -> Any:
        self.tick()
        self.answered[type(command).__name__] += 1
        match command:
            case RegisterWorker(worker=worker, boot=boot):
                if self.boots.get(worker, boot) != boot:
                    return Refused(Code.EXISTS, f"another worker is named {worker}; choose another --id")
                self.boots[worker] = boot
                return Registered(worker, boot, worker in self.draining, worker in self.quarantined)
            case DeregisterWorker(worker=worker, boot=boot):
                if self.boots.get(worker) == boot:
                    del self.boots[worker]
                    for job in self.jobs.values():
                        if job.state == "running" and job.worker == worker:
                            job.state = "available"
                    self.touch()
                return Changed()
            case QuarantineWorker(worker=worker):
                self.quarantined.add(worker)
                return Changed()
            case Renew():
                return self._renew(command)
            case Complete(completions=completions):
                return Completed(tuple(self._complete(item) for item in completions))
            case Fail() | Release():
                return self._end(command)
            case _:
                raise AssertionError(command)

    def _renew(self, command: Renew) -> Renewed:
        states = []
        for lease in command.leases:
            job = self.jobs[lease.job]
            if job.attempt != lease.attempt or job.state != "running":
                states.append(LeaseState(lease.job, lease.attempt, "lost"))
                continue
            job.expires_s = time.monotonic() + job.spec.lease_ms / 1000
            job.progress, job.cursor = lease.progress, lease.cursor
            states.append(LeaseState(lease.job, lease.attempt, "cancel" if lease.job in self.cancelled else "ok"))
        worker = command.worker
        known = self.boots.get(worker) == command.boot
        return Renewed(tuple(states), worker in self.draining, worker in self.quarantined, known)

    def _complete(self, item: Any) -> Settled | Refused:
        job = self.jobs[item.job]
        if job.attempt != item.attempt or job.state != "running":
            return Refused(Code.STALE_ATTEMPT, "the lease is another's now")
        if any(ref.sha256 not in self.artifacts for ref in item.artifacts):
            return Refused(Code.ARTIFACT_MISSING, "store it first", 100)
        job.state, job.result = "completed", item.result
        job.ended.append(item)
        return Settled(item.job, job.state)

    def _end(self, command: Fail | Release) -> Settled | Refused:
        job = self.jobs[command.job]
        if job.attempt != command.attempt or job.state != "running":
            return Refused(Code.STALE_ATTEMPT, "the lease is another's now")
        job.ended.append(command)
        job.cursor = command.cursor
        burned = sum(isinstance(end, Fail) and end.fault is Fault.PAYLOAD for end in job.ended)
        job.state = "failed" if burned >= job.spec.retry.max_attempts else "available"
        if command.job in self.cancelled:
            job.state = "cancelled"
        self.touch()
        return Settled(command.job, job.state)
