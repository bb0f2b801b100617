"""The replicated state machine: entries in, outcomes out, the same on every voter.

`apply` never raises: what cannot be understood is refused like anything else that cannot be done. It reads no clock and
rolls no dice; time is the largest stamp that an entry carried. A request whose (client, request_id) was seen before is
answered with the first outcome and changes nothing.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from workqueue.machine import artifacts, jobs, leases, models, nesting, queries, settings, snapshot, workers
from workqueue.machine import commands as c
from workqueue.machine.ledger import Ledger
from workqueue.machine.outcomes import AnyOutcome, Code, Empty, Outcome, Refused
from workqueue.machine.state import Answer, Event

ANSWERS_MAX = 100_000
ENTRY_BYTES_MAX = 64 << 20
CLOCK_JUMP_MS_MAX = 10 * 365 * 86_400_000

_entry = msgspec.msgpack.Decoder(tuple[int, int, list[c.Request]])
_int = msgspec.msgpack.Decoder(int)
_request = msgspec.msgpack.Decoder(c.Request)
_outcome = msgspec.msgpack.Decoder(AnyOutcome)
_encode = msgspec.msgpack.Encoder().encode

HANDLERS: dict[type[c.Command], Callable[[Ledger, Any], Outcome]] = {
    c.Enqueue: jobs.enqueue,
    c.Cancel: jobs.cancel,
    c.Retry: jobs.retry,
    c.Hold: jobs.hold,
    c.Unhold: jobs.unhold,
    c.Archive: jobs.archive,
    c.Claim: leases.claim,
    c.Renew: leases.renew,
    c.Complete: leases.complete,
    c.Fail: leases.fail,
    c.Release: leases.release,
    c.Tick: lambda ledger, _: leases.tick(ledger),
    c.BeginTerm: leases.begin_term,
    c.EndBoot: leases.end_boot,
    c.RegisterWorker: workers.register_worker,
    c.DeregisterWorker: workers.deregister_worker,
    c.DrainWorker: workers.drain_worker,
    c.QuarantineWorker: workers.quarantine_worker,
    c.ForgetWorkers: workers.forget_workers,
    c.Acquire: workers.acquire,
    c.RenewLock: workers.renew_lock,
    c.Unlock: workers.unlock,
    c.BreakLock: workers.break_lock,
    c.RegisterArtifact: artifacts.register_artifact,
    c.DropHolder: artifacts.drop_holder,
    c.CollectArtifacts: artifacts.collect_artifacts,
    c.Revoke: artifacts.revoke,
    c.RegisterModel: models.register_model,
    c.SetAlias: models.set_alias,
    c.Rollback: models.rollback,
    c.RejectModel: models.reject_model,
    c.PutSettings: settings.put_settings,
    c.Halt: settings.halt,
    c.Resume: settings.resume,
    c.RegisterKind: settings.register_kind,
    c.PutToken: settings.put_token,
    c.RevokeToken: settings.revoke_token,
    c.SetAlert: settings.set_alert,
    c.SilenceAlert: settings.silence_alert,
}
_DEEP = Refused(Code.MALFORMED, "the request is nested too deep; keep it below 64 levels")
# Harmless to repeat, or without effect: not worth a place among the remembered answers.
FORGETTABLE = frozenset({c.Renew, c.Tick})


class Machine:
    """The state and the one way to change it."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._answers: OrderedDict[tuple[str, int], AnyOutcome] = OrderedDict()

    # ---- changing

    def apply(self, entry: bytes) -> list[Outcome]:
        """Apply one log entry; returns one outcome a request, in order."""
        state = self.ledger.state
        state.entries += 1
        try:
            version, now_ms, requests = _entry.decode(entry)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            outcomes = self._apply_loosely(entry)
        else:
            if version == c.VERSION:
                self._advance(now_ms)
                outcomes = [self._answer(request) for request in requests]
            else:
                outcomes = [_wrong_version(version) for _ in requests]
        state.chain = hashlib.blake2b(state.chain + _encode(outcomes), digest_size=16).digest()
        return outcomes

    def _apply_loosely(self, entry: bytes) -> list[Outcome]:
        """One request that cannot be read must not take the others of its batch with it."""
        try:
            head, time, *raws = nesting.split(entry)
            version, now_ms = _int.decode(head), _int.decode(time)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, IndexError):
            return [Refused(Code.MALFORMED, "the entry is not [version, now_ms, [request, …]]")]
        if version != c.VERSION:
            return [_wrong_version(version) for _ in raws]
        self._advance(now_ms)
        return [self._read_and_answer(raw) for raw in raws]

    def _read_and_answer(self, raw: bytes) -> Outcome:
        if nesting.is_deep(raw, nesting.REQUEST_DEPTH_MAX):
            return _DEEP
        try:
            request = _request.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return Refused(Code.MALFORMED, f"the request cannot be read: {error}")
        return self._answer(request)

    def _advance(self, now_ms: int) -> None:
        state = self.ledger.state
        if state.now_ms < now_ms <= max(state.now_ms, 1 << 42) + CLOCK_JUMP_MS_MAX:
            state.now_ms = now_ms

    def _answer(self, request: c.Request) -> Outcome:
        command = request.command
        if nesting.keeps_deep(command):
            return _DEEP
        key = (request.client, request.request_id)
        known = self._answers.get(key)
        if known is not None:
            return known
        self.ledger.actor = request.actor
        outcome = HANDLERS[type(command)](self.ledger, command)
        if type(outcome) is not Empty and type(command) not in FORGETTABLE:
            self._answers[key] = outcome  # type: ignore[assignment]  # every outcome is one of AnyOutcome
            if len(self._answers) > ANSWERS_MAX:
                self._answers.popitem(last=False)
        return outcome

    # ---- reading

    @property
    def claimable_version(self) -> int:
        """Grows whenever something may have become claimable."""
        return self.ledger.claimable_version

    @property
    def next_due_ms(self) -> int:
        """When Tick has something to do, 0 = never."""
        return self.ledger.due[0][0] if self.ledger.due else 0

    @property
    def live(self) -> int:
        """Jobs that have not ended."""
        return self.ledger.live

    @property
    def last_seq(self) -> int:
        """Number of the newest event."""
        return self.ledger.state.event_seq

    def events_since(self, seq: int) -> list[Event]:
        """Return the events after `seq` that are still kept."""
        events = self.ledger.state.events
        missing = self.ledger.state.event_seq - seq
        return events[-missing:] if 0 < missing < len(events) else [] if missing <= 0 else list(events)

    def query(self, name: str, args: dict[str, object]) -> object:
        """Return a view, or Refused."""
        return queries.answer(self.ledger, name, args)

    def digest(self) -> bytes:
        """Return a digest of every outcome so far and of where the state stands; cheap."""
        state = self.ledger.state
        parts = (state.chain, state.now_ms, state.order, state.entries, state.event_seq, len(self.ledger.jobs))
        return hashlib.blake2b(_encode(parts), digest_size=16).digest()

    # ---- snapshots

    def snapshot(self) -> Iterator[bytes]:
        """Return the state in chunks."""
        answers = (Answer(client, number, _raw(outcome)) for (client, number), outcome in self._answers.items())
        return snapshot.write(self.ledger, answers)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state; raises ValueError for what is not a snapshot of a version that this code knows."""
        ledger, answers = snapshot.read(chunks)
        self._answers = OrderedDict(
            ((answer.client, answer.request_id), _outcome.decode(answer.outcome)) for answer in answers
        )
        self.ledger = ledger


def _raw(outcome: Outcome) -> msgspec.Raw:
    return msgspec.Raw(_encode(outcome))


def _wrong_version(version: int) -> Refused:
    return Refused(Code.VERSION, f"entries of version {version} are not known here; update this voter")
