"""Read barriers: one leadership check for all reads that have gathered, each answered once its index is applied.

The index is the commit index from before the check. A majority that confirms the leadership afterwards shows that
nothing committed by another leader is missing from it (Raft §6.4).
"""

from collections.abc import Callable
from typing import Protocol

from consensus.errors import ConsensusError, NotLeader
from consensus.ports import Confirmation, ReadAnswer, Scheduler


class Leadership(Protocol):
    """What a leader knows of itself."""

    @property
    def leads_its_term(self) -> bool:
        """Whether its state holds all entries that were committed before its term."""
        ...

    @property
    def commit_index(self) -> int:
        """The highest index known to be committed."""
        ...

    @property
    def applied_index(self) -> int:
        """The highest index applied to the state machine."""
        ...

    def confirm(self, done: Confirmation) -> None:
        """Ask a majority whether this still is the leader."""
        ...


class ReadBarriers:
    """The reads of one voter that wait to be linearizable; `applying` is for reading only."""

    def __init__(self, raft: Leadership, scheduler: Scheduler, leader_hint: Callable[[], str | None]) -> None:
        self.applying: list[tuple[int, ReadAnswer]] = []  # confirmed, and waiting for an index to be applied
        self._gathered: list[ReadAnswer] = []
        self.add = self._gathered.append  # a read is added without a call of ours
        self._raft = raft
        self._scheduler = scheduler
        self._leader_hint = leader_hint

    def confirm(self) -> None:
        """Ask once for all barriers that have gathered."""
        if not self._gathered or not self._raft.leads_its_term:
            return
        barriers = self._gathered[:]
        self._gathered.clear()
        index = self._raft.commit_index
        self._raft.confirm(lambda *, ok: self._confirmed(barriers, index, ok=ok))

    def release(self) -> None:
        """Answer the barriers whose index has been applied."""
        applied = self._raft.applied_index
        ready = [b for index, b in self.applying if index <= applied]
        if ready:
            self.applying = [(i, b) for i, b in self.applying if i > applied]
            for barrier in ready:
                self._scheduler.call_soon(barrier, applied, None)

    def fail(self, error: ConsensusError) -> None:
        """Answer all that wait, except those whose check is under way, which hear of it from Raft."""
        barriers = [*self._gathered, *(b for _, b in self.applying)]
        self._gathered.clear()
        self.applying.clear()
        for barrier in barriers:
            self._scheduler.call_soon(barrier, None, error)

    def _confirmed(self, barriers: list[ReadAnswer], index: int, *, ok: bool) -> None:
        if not ok:
            for barrier in barriers:
                self._scheduler.call_soon(barrier, None, NotLeader(self._leader_hint()))
        else:
            self.applying += [(index, b) for b in barriers]
            self.release()
