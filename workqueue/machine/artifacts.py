"""The index of artifacts: who holds which bytes, who needs them, what may be forgotten."""

from __future__ import annotations

from workqueue.machine.commands import ArtifactRef, CollectArtifacts, DropHolder, RegisterArtifact, Revoke
from workqueue.machine.ledger import Ledger
from workqueue.machine.outcomes import Changed, Code, Outcome, Refused
from workqueue.machine.ratings import recompute
from workqueue.machine.state import Artifact
from workqueue.machine.transitions import State as JobState
from workqueue.machine.transitions import Trigger


def register(ledger: Ledger, ref: ArtifactRef, holders: tuple[str, ...], config: str) -> Artifact:
    """Enter an artifact, or add holders to one that is known."""
    artifact = ledger.state.artifacts.get(ref.sha256)
    if artifact is None:
        ledger.state.order += 1
        artifact = Artifact(ref.sha256, ref.size_bytes, ref.kind, config, order=ledger.state.order)
        artifact.at_ms = ledger.now_ms
        ledger.state.artifacts[ref.sha256] = artifact
        _count(ledger, artifact, 1)
        data_came(ledger)
    elif config and not artifact.config:
        _count(ledger, artifact, -1)
        artifact.config = config
        _count(ledger, artifact, 1)
        data_came(ledger)
    artifact.holders = tuple(sorted({*artifact.holders, *holders}))
    return artifact


def _count(ledger: Ledger, artifact: Artifact, change: int) -> None:
    if not artifact.revoked:
        ledger.artifact_counts[artifact.kind, artifact.config] += change


def add_reference(artifact: Artifact, reference: str) -> None:
    """Say who needs an artifact."""
    if reference not in artifact.refs:
        artifact.refs = tuple(sorted((*artifact.refs, reference)))


def data_came(ledger: Ledger) -> None:
    """Look at jobs that wait for data."""
    for name in sorted(ledger.conditional):
        job = ledger.jobs[name]
        ledger.wake_at(max(job.due_ms, ledger.now_ms), job.order, name)


def register_artifact(ledger: Ledger, command: RegisterArtifact) -> Outcome:
    """Handle RegisterArtifact."""
    if command.artifact.size_bytes < 0 or not command.artifact.sha256:
        return Refused(Code.INVALID, "an artifact needs a sha256 and a size")
    register(ledger, command.artifact, command.holders, command.config)
    return Changed((command.artifact.sha256,))


def drop_holder(ledger: Ledger, command: DropHolder) -> Outcome:
    """Handle DropHolder."""
    artifact = ledger.state.artifacts.get(command.sha256)
    if artifact is None or command.holder not in artifact.holders:
        return Changed()
    artifact.holders = tuple(holder for holder in artifact.holders if holder != command.holder)
    return Changed((command.sha256,))


def collect_artifacts(ledger: Ledger, command: CollectArtifacts) -> Outcome:
    """Handle CollectArtifacts: what somebody references, or a live job needs, stays."""
    gone = []
    for sha in dict.fromkeys(command.sha256):
        artifact = ledger.state.artifacts.get(sha)
        if artifact is not None and not artifact.refs and sha not in ledger.needed:
            _count(ledger, artifact, -1)
            del ledger.state.artifacts[sha]
            gone.append(sha)
    return Changed(tuple(gone))


def revoke(ledger: Ledger, command: Revoke) -> Outcome:
    """Handle Revoke: shards and matches of a worker or model are excluded, and ratings follow from what is left."""
    if not command.worker and not command.model and not command.shards:
        return Refused(Code.INVALID, "name the worker, the model or the shards whose data is to be revoked")
    changed = []
    for sha in sorted(ledger.state.artifacts):
        artifact = ledger.state.artifacts[sha]
        if command.worker:
            made = artifact.worker == command.worker
        else:
            made = artifact.model == command.model if command.model else sha in command.shards
        if made and artifact.kind == "shard" and artifact.at_ms >= command.since_ms and not artifact.revoked:
            _count(ledger, artifact, -1)
            artifact.revoked = command.reason or "revoked"
            changed.append(sha)
    touched = _revoke_matches(ledger, command) if command.worker or command.model else []
    if touched:
        ledger.state.ratings = recompute(ledger.matches)
    ledger.record("revoke", command.worker or command.model or ", ".join(command.shards), command.reason)
    return Changed((*changed, *touched))


def _revoke_matches(ledger: Ledger, command: Revoke) -> list[str]:
    touched = []
    for match in ledger.matches:
        played = (
            match.worker == command.worker
            if command.worker
            else any(seat.startswith(f"{command.model}:") for seat in match.seats)
        )
        if played and match.at_ms >= command.since_ms and not match.revoked:
            match.revoked = True
            touched.append(match.id)
    return touched


def settle_conditions(ledger: Ledger, name: str) -> bool:
    """Whether the data that a scheduled job waits for is there."""
    return all(
        ledger.artifact_counts.get((need.artifact_kind, need.config), 0) >= need.count
        for need in ledger.jobs[name].spec.conditions
    )


def release_scheduled(ledger: Ledger, name: str) -> bool:
    """Make a scheduled job available if nothing keeps it; returns whether it moved."""
    job = ledger.jobs[name]
    if job.state is not JobState.SCHEDULED or job.due_ms > ledger.now_ms:
        return False
    states = [ledger.jobs[dep].state if dep in ledger.jobs else JobState.COMPLETED for dep in job.spec.depends_on]
    if any(state in {JobState.FAILED, JobState.CANCELLED} for state in states):
        job.reason = "a job that it depends on did not complete"
        job.ended_ms = ledger.now_ms
        ledger.move(job, Trigger.GIVE_UP)
        return True
    if any(state is not JobState.COMPLETED for state in states) or not settle_conditions(ledger, name):
        return False
    job.available_ms = ledger.now_ms
    ledger.move(job, Trigger.DUE)
    return True
