"""Group commit: what callers propose gathers while entries are in flight, and travels in the next one.

A request is refused whole or taken whole, and its commands stay together and in order in one entry. Whoever was taken
is answered exactly once: with outcomes, with `Unknown` if nobody can tell, or with why it was never proposed.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from consensus.entry import Stamp, encode_entry
from consensus.errors import ConsensusError, Overloaded, Unknown
from consensus.ports import Answer, Done, Scheduler
from consensus.settings import ReplicaSettings

OVERLOAD_RETRY_MS = 100


class Proposals(Protocol):
    """The log as its leader writes it."""

    @property
    def is_leader(self) -> bool:
        """Whether entries may be proposed here."""
        ...

    @property
    def term(self) -> int:
        """The current term."""
        ...

    def propose(self, entry: bytes, done: Done) -> None:
        """Append an entry; done is called when it has been applied, or with None."""
        ...

    def times_ahead(self) -> Iterable[int]:
        """Yield the times of the entries that are in the log and not applied yet."""
        ...


class _Request:
    """Commands of one caller."""

    __slots__ = ("answer", "commands", "size")

    def __init__(self, commands: Sequence[bytes], answer: Answer) -> None:
        self.commands = commands
        self.answer = answer
        self.size = sum(map(len, commands))


class GroupCommit:
    """The requests of one voter on their way into the log; `pending` and `inflight` are for reading only."""

    def __init__(self, settings: ReplicaSettings, log: Proposals, stamp: Stamp, scheduler: Scheduler) -> None:
        self.pending: deque[_Request] = deque()
        self.pending_commands = 0
        self.inflight = 0  # entries proposed and not answered
        self.overloaded = 0  # requests refused for want of room
        self.unknown = 0  # requests of which nobody knows the outcome
        self._pending_bytes = 0
        self._stamped_term = 0
        self._settings = settings
        self._log = log
        self._stamp = stamp
        self._scheduler = scheduler

    def add(self, commands: Sequence[bytes], answer: Answer) -> Overloaded | None:
        """Take a request, or return why there is no room; ValueError if it is larger than any request may be."""
        settings, request = self._settings, _Request(commands, answer)
        if len(commands) > settings.max_request_commands or request.size > settings.max_request_bytes:
            raise ValueError(
                f"{len(commands)} commands of {request.size} bytes are more than one request may hold "
                f"({settings.max_request_commands} commands, {settings.max_request_bytes} bytes)"
            )
        over = self.pending_commands + len(commands) > settings.max_pending_commands
        if over or self._pending_bytes + request.size > settings.max_pending_bytes:
            self.overloaded += 1
            return Overloaded(OVERLOAD_RETRY_MS)
        self.pending.append(request)
        self.pending_commands += len(commands)
        self._pending_bytes += request.size
        return None

    def launch(self) -> None:
        """Propose what has gathered, as far as entries may be in flight."""
        log = self._log
        if self.pending and log.is_leader:
            self._see_stamps()
        while self.pending and self.inflight < self._settings.inflight and log.is_leader:
            batch = self._next_batch()
            commands = [c for request in batch for c in request.commands]
            self.inflight += 1
            entry = encode_entry(self._stamp.next_ms(), commands)
            log.propose(entry, lambda outcomes, batch=batch: self._committed(batch, outcomes))  # type: ignore[misc]

    def fail(self, error: ConsensusError) -> None:
        """Answer all that has gathered and was not proposed."""
        waiting, self.pending = self.pending, deque()
        self.pending_commands = self._pending_bytes = 0
        for request in waiting:
            self._answer(request, None, error)

    def _see_stamps(self) -> None:
        """Take note, once a leadership, of the times of entries that are in the log but not applied yet."""
        if self._stamped_term == self._log.term:
            return
        self._stamped_term = self._log.term
        for now_ms in self._log.times_ahead():
            self._stamp.seen(now_ms)

    def _next_batch(self) -> list[_Request]:
        batch: list[_Request] = []
        commands = size = 0
        while self.pending:
            request = self.pending[0]
            full = commands + len(request.commands) > self._settings.max_batch_commands
            if batch and (full or size + request.size > self._settings.max_batch_bytes):
                break
            batch.append(self.pending.popleft())
            commands += len(request.commands)
            size += request.size
        self.pending_commands -= commands
        self._pending_bytes -= size
        return batch

    def _committed(self, batch: list[_Request], outcomes: Sequence[object] | None) -> None:
        self.inflight -= 1
        if outcomes is None:
            self.unknown += len(batch)
            for request in batch:
                self._answer(request, None, Unknown())
            return
        at = 0
        for request in batch:
            self._answer(request, outcomes[at : at + len(request.commands)], None)
            at += len(request.commands)

    def _answer(self, request: _Request, outcomes: Sequence[object] | None, error: ConsensusError | None) -> None:
        """Tell a caller; its own mistakes must not reach Raft (defect 7), so callbacks run from the loop."""
        self._scheduler.call_soon(request.answer, outcomes, error)
