"""What may enter from a client's stream: requests judged by role, bounded by size and rate, their actor put right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from config.removed import explain
from workqueue.bounds import check_bounds
from workqueue.machine.commands import (
    AnyCommand,
    Enqueue,
    JobSpec,
    PutSettings,
    QuarantineWorker,
    RegisterKind,
    SetAlert,
)
from workqueue.machine.jobs import FULL_RETRY_MS
from workqueue.machine.outcomes import Code
from workqueue.open_kinds import SchemaMismatch, check, check_schema, plain, with_schema
from workqueue.schema import KINDS
from workqueue.security import Identity, may_propose
from workqueue.stream import UNREADABLE, StreamError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A request whose command is left encoded."""

    client: str
    request_id: int
    actor: str
    command: msgspec.Raw


class _Tag(msgspec.Struct, frozen=True):
    type: str


class _Job(msgspec.Struct, frozen=True):
    kind: str
    payload: msgspec.Raw = msgspec.Raw(b"\x80")


class _Jobs(msgspec.Struct, frozen=True):
    jobs: tuple[_Job, ...]


_tag = msgspec.msgpack.Decoder(_Tag).decode
_command = msgspec.msgpack.Decoder(AnyCommand).decode
_jobs = msgspec.msgpack.Decoder(_Jobs).decode
_encode = msgspec.msgpack.Encoder().encode
envelopes = msgspec.msgpack.Decoder(list[Envelope])
_TYPE = b"\xa4type"
TEST_ALERT = "test"  # by which people try whether alerts arrive


def command_type(command: msgspec.Raw | bytes) -> str:
    """Return the tag of an encoded command; raises StreamError("malformed")."""
    head = bytes(memoryview(command)[:64])
    # The encoder writes the tag first; a fixmap and a fixstr make it readable without a decoder.
    if len(head) > 7 and 0x80 <= head[0] <= 0x8F and head[1:6] == _TYPE and 0xA0 <= head[6] <= 0xBF:
        return head[7 : 7 + head[6] - 0xA0].decode("ascii", "replace")
    try:
        return _tag(command).type
    except UNREADABLE as error:
        raise StreamError("malformed", f"a command must be a map with a `type`: {error}") from error


def actor_of(identity: Identity, claimed: str) -> str:
    """Return who acts: the identity, and whom it says it acts for."""
    if claimed == identity.actor or claimed.startswith(identity.actor + "/"):
        return claimed[:200]
    return f"{identity.actor}/{claimed}"[:200] if claimed else identity.actor


def admit(identity: Identity, request: Envelope, kinds: Sequence[Mapping[str, Any]] = ()) -> Envelope:
    """Return the request as it may go on, the same object when nothing had to change; raises StreamError.

    `kinds` are the open kinds, by whose schemas payloads are checked.
    """
    name = command_type(request.command)
    if not may_propose(identity.role, name) and not _tries_alerts(identity, name, request.command):
        raise StreamError("forbidden", f"the role `{identity.role}` may not propose {name}")
    if identity.role == "worker" and name in {"Enqueue", "QuarantineWorker"}:
        _admit_worker(_decoded(request.command))
    if name == "PutSettings":
        _admit_settings(_decoded(request.command))
    try:
        if name == "Enqueue" and (kinds or identity.role != "worker"):
            check_jobs(kinds, _jobs_of(request.command))
        elif name == "RegisterKind":
            check_kind(_decoded(request.command))
    except SchemaMismatch as error:
        raise StreamError("invalid", str(error)) from error
    actor = actor_of(identity, request.actor)
    if actor == request.actor:
        return request
    return Envelope(request.client, request.request_id, actor, request.command)


def admit_command(identity: Identity, command: AnyCommand) -> None:
    """Judge a command that is decoded already; raises StreamError("forbidden") or StreamError("invalid")."""
    name = type(command).__name__
    if not may_propose(identity.role, name):
        raise StreamError("forbidden", f"the role `{identity.role}` may not propose {name}")
    if identity.role == "worker":
        _admit_worker(command)
    _admit_settings(command)


def _admit_settings(command: AnyCommand) -> None:
    """Refuse removed keys here, because the state machine must take them as logs hold them."""
    if isinstance(command, PutSettings):
        for key in command.values:
            if sentence := explain(key):
                raise StreamError("invalid", sentence)


def _tries_alerts(identity: Identity, name: str, command: msgspec.Raw) -> bool:
    """Whether it is an admin's `rift alerts test`; all other alerts are raised by the leader's duty alone."""
    if identity.role != "admin" or name != "SetAlert":
        return False
    alert = _decoded(command)
    return isinstance(alert, SetAlert) and alert.name == TEST_ALERT and not alert.sent


def check_room(command: str, live: int, queue_max: int) -> None:
    """Refuse more jobs when this voter knows of as many live ones as it allows; raises StreamError("queue_full")."""
    if command == "Enqueue" and live >= queue_max:
        text = f"the queue holds {live} jobs, limits.queue_max allows {queue_max}; try again later"
        raise StreamError(Code.QUEUE_FULL.value, text, FULL_RETRY_MS)


def check_kind(command: AnyCommand) -> None:
    """Refuse a kind whose schemas are none; raises SchemaMismatch."""
    if isinstance(command, RegisterKind):
        check_schema(command.payload_schema)
        check_schema(command.result_schema)


def check_jobs(kinds: Sequence[Mapping[str, Any]], jobs: Iterable[_Job | JobSpec]) -> None:
    """Refuse the first job whose payload no worker could do anything with; raises SchemaMismatch."""
    schemas = with_schema(kinds, "payload_schema")
    for job in jobs:
        if job.kind in KINDS:
            check_bounds(job.kind, job.payload)
        elif job.kind in schemas:
            what = f"the payload of a `{job.kind}` job"
            check(schemas[job.kind], plain(job.payload, what), what)


def _decoded(command: msgspec.Raw) -> AnyCommand:
    try:
        decoded: AnyCommand = _command(command)
    except UNREADABLE as error:
        raise StreamError("malformed", f"the command is not understood: {error}") from error
    return decoded


def _admit_worker(command: AnyCommand) -> None:
    """A worker feeds kinds that were registered by name, never the loop's own, and lifts no quarantine."""
    if isinstance(command, QuarantineWorker) and not command.on:
        raise StreamError("forbidden", "the role `worker` may quarantine a worker but not lift that")
    for job in command.jobs if isinstance(command, Enqueue) else ():
        if job.kind in KINDS:
            raise StreamError("forbidden", f"the role `worker` may not enqueue jobs of the built-in kind `{job.kind}`")


def _jobs_of(command: msgspec.Raw) -> tuple[_Job, ...]:
    try:
        return _jobs(command).jobs
    except UNREADABLE as error:
        raise StreamError("malformed", f"the jobs to enqueue are not understood: {error}") from error


class Bucket:
    """A token bucket: `rate` a second, and as many at once."""

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._level = float(rate)
        self._at = now

    def take(self, count: int, now: float) -> int:
        """Take `count`; returns 0, or the ms after which there will be enough."""
        self._level = min(self._rate, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level > 0:
            self._level -= count  # may go below zero: a large batch is let in and paid off before the next
            return 0
        return max(1, int((count - self._level) * 1000 / self._rate))
