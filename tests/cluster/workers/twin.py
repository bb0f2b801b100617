"""A single voter in the test's process whose machine knows of workers: real front, stream, TLS, routes and client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.workers.memory import Job, MemoryVoters
from tests.unit.workqueue.twin import TwinMachine
from workqueue.machine.commands import (
    Claim,
    Complete,
    DeregisterWorker,
    DropHolder,
    Enqueue,
    Fail,
    QuarantineWorker,
    RegisterArtifact,
    RegisterWorker,
    Release,
    Renew,
)
from workqueue.machine.outcomes import Changed, Enqueued

if TYPE_CHECKING:
    from workqueue.machine.commands import AnyCommand
    from workqueue.machine.outcomes import AnyOutcome

_OURS = (Complete, DeregisterWorker, Fail, QuarantineWorker, RegisterWorker, Release, Renew)


class WorkerTwin(TwinMachine):
    """Jobs, leases and boots by the rules of `MemoryVoters`."""

    def __init__(self, tokens: list[dict[str, object]] | None = None) -> None:
        super().__init__(tokens)
        self.state = MemoryVoters()

    def _change(self, command: AnyCommand) -> AnyOutcome:
        self.claimable_version += 1
        match command:
            case Enqueue(jobs=jobs):
                for job in jobs:
                    self.state.jobs[job.id] = Job(job)
                return Enqueued(tuple(job.id for job in jobs))
            case Claim():
                return self.state._grant(command)
            case RegisterArtifact(artifact=ref):
                self.state.artifacts[ref.sha256] = b""
                return Changed((ref.sha256,))
            case DropHolder():
                return Changed()
            case _ if isinstance(command, _OURS):
                outcome: Any = self.state._apply(command)
                return outcome
            case _:
                return super()._change(command)
