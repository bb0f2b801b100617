"""A tiny state machine with the queue's interface, so that the service is tested apart from the real one."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from workqueue.machine.commands import (
    AnyCommand,
    Claim,
    Complete,
    Enqueue,
    PutToken,
    RegisterKind,
    RegisterWorker,
    Request,
    RevokeToken,
)
from workqueue.machine.outcomes import (
    AnyOutcome,
    Changed,
    Code,
    Completed,
    Empty,
    Enqueued,
    Granted,
    Lease,
    Refused,
    Registered,
    Settled,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_entry = msgspec.msgpack.Decoder(tuple[int, int, list[msgspec.Raw]])
_request = msgspec.msgpack.Decoder(Request)


class TwinEvent(msgspec.Struct, frozen=True):
    """An event as clients decode it."""

    seq: int
    at_ms: int
    name: str
    subject: str
    actor: str
    detail: dict[str, str | int] = {}


class TwinMachine:
    """Jobs that are available, running or completed; no time, no shares, no limits."""

    def __init__(self, tokens: list[dict[str, object]] | None = None) -> None:
        self.tokens = tokens or []
        self.kinds: list[dict[str, object]] = []
        self.available: OrderedDict[str, msgspec.Raw] = OrderedDict()
        self.running: dict[str, int] = {}
        self.kind_of: dict[str, str] = {}
        self.completed: set[str] = set()
        self.answers: dict[tuple[str, int], AnyOutcome] = {}
        self.applied: list[Request] = []
        self.events: list[TwinEvent] = []
        self.claimable_version = 0
        self.next_due_ms = 0

    @property
    def live(self) -> int:
        return len(self.available) + len(self.running)

    @property
    def last_seq(self) -> int:
        return len(self.events)

    def apply(self, entry: bytes) -> list[AnyOutcome]:
        _, now_ms, raws = _entry.decode(entry)
        return [self._answer(raw, now_ms) for raw in raws]

    def _answer(self, raw: msgspec.Raw, now_ms: int) -> AnyOutcome:
        try:
            request = _request.decode(raw)
        except msgspec.DecodeError as error:
            return Refused(Code.MALFORMED, str(error))
        key = (request.client, request.request_id)
        if key in self.answers:
            return self.answers[key]
        self.applied.append(request)
        outcome = self._change(request.command)
        if not isinstance(outcome, Empty):
            self.answers[key] = outcome
            name = type(request.command).__name__.lower()
            self.events.append(TwinEvent(len(self.events) + 1, now_ms, f"twin.{name}", "", request.actor))
        return outcome

    def _change(self, command: AnyCommand) -> AnyOutcome:
        match command:
            case Enqueue():
                for job in command.jobs:
                    self.available[job.id] = job.payload
                    self.kind_of[job.id] = job.kind
                self.claimable_version += len(command.jobs)
                return Enqueued(tuple(job.id for job in command.jobs))
            case Claim():
                leases = []
                while self.available and len(leases) < command.limit:
                    job, payload = self.available.popitem(last=False)
                    self.running[job] = 1
                    leases.append(Lease(job, 1, "twin", payload))
                return Granted(tuple(leases)) if leases else Empty()
            case Complete():
                return Completed(tuple(self._complete(each.job) for each in command.completions))
            case RegisterWorker():
                return Registered(command.worker, command.boot)
            case RegisterKind():
                schemas = {"payload_schema": command.payload_schema, "result_schema": command.result_schema}
                self.kinds.append({"name": command.name, **schemas})
                return Changed((command.name,))
            case PutToken():
                record = {"id": command.id, "role": command.role, "hash": command.hash, "label": command.label}
                self.tokens = [*self.tokens, record]
                return Changed((command.id,))
            case RevokeToken():
                if not any(token["id"] == command.id for token in self.tokens):
                    return Refused(Code.NOT_FOUND, f"there is no token {command.id}")
                self.tokens = [t | {"revoked": True} if t["id"] == command.id else t for t in self.tokens]
                return Changed((command.id,))
            case _:
                return Changed()

    def _complete(self, job: str) -> Settled | Refused:
        if self.running.pop(job, None) is None:
            return Refused(Code.STALE_ATTEMPT, f"{job} is not running")
        self.completed.add(job)
        return Settled(job, "completed")

    def query(self, name: str, args: dict[str, object]) -> object:
        match name:
            case "tokens":
                return self.tokens
            case "kinds":
                return self.kinds
            case "status":
                jobs = {"available": {"twin": len(self.available)}, "running": {"twin": len(self.running)}}
                return {"jobs": jobs, "available": len(self.available)}
            case "queue":
                return {
                    "available": len(self.available),
                    "running": len(self.running),
                    "completed": len(self.completed),
                }
            case "job":
                known = self.available.keys() | self.running.keys() | self.completed
                job = str(args.get("job", ""))
                return (
                    {"id": job, "kind": self.kind_of.get(job, "")}
                    if job in known
                    else Refused(Code.NOT_FOUND, f"there is no job {job}")
                )
            case _:
                return Refused(Code.INVALID, f"there is no view `{name}`")

    def events_since(self, seq: int) -> list[TwinEvent]:
        return self.events[seq:]

    def snapshot(self) -> Iterator[bytes]:
        yield b""

    def restore(self, chunks: Iterable[bytes]) -> None:
        del chunks

    def digest(self) -> bytes:
        return b""
