"""A replica in one process without disk or network: the in-memory twin for other folders' tests."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from consensus.clock import Clock, SystemClock
from consensus.entry import Stamp, encode_entry
from consensus.errors import ConsensusError, MachineFailed, NotLeader, Unknown
from consensus.machine import StateMachine
from consensus.settings import Role

Answer = Callable[[Sequence[object] | None, ConsensusError | None], None]


class MemoryReplica:
    """A single voter that commits at once; the same interface as `Replica`, with switches to lose its leadership."""

    def __init__(self, machine: StateMachine, clock: Clock | None = None, node_id: str = "memory") -> None:
        self.machine = machine
        self.on_apply: Callable[[int, Sequence[object]], None] | None = None
        self.on_role: Callable[[Role], None] | None = None
        self.on_divergence: Callable[[int], None] | None = None
        self._clock = clock or SystemClock()
        self._stamp = Stamp(self._clock)
        self._node_id = node_id
        self._leader_id: str | None = node_id
        self._term = 1
        self._index = 2  # as in a real voter: 1 is the start of the log, 2 the leader's first entry
        self._snapshots = 0
        self._unknown = 0

    async def __aenter__(self) -> Self:
        self._tell_role()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leader_id = None

    def lose_leadership(self, to: str | None = None) -> None:
        """Behave as a follower of `to` until `become_leader`."""
        self._leader_id = to
        self._tell_role()

    def become_leader(self) -> None:
        """Lead again, in a new term."""
        self._term += 1
        self._index += 1
        self._leader_id = self._node_id
        self._tell_role()

    def answer_unknown(self, times: int = 1) -> None:
        """Apply the next proposals but tell their callers that the outcome is unknown."""
        self._unknown = times

    def propose_nowait(self, commands: Sequence[bytes], callback: Answer) -> None:
        """Commit and apply the commands; callback(outcomes, None) or callback(None, error) is called before return."""
        try:
            callback(self._commit(commands), None)
        except ConsensusError as error:
            callback(None, error)

    async def propose(self, commands: Sequence[bytes]) -> Sequence[object]:
        """Commit and apply the commands; return their outcomes in order."""
        await asyncio.sleep(0)
        return self._commit(commands)

    async def barrier(self) -> int:
        """Return an index such that a read of the state now is linearizable."""
        await asyncio.sleep(0)
        if not self.role().is_leader:
            raise NotLeader(self._leader_id)
        return self._index

    def role(self) -> Role:
        """Return what this replica is now."""
        return Role(
            node_id=self._node_id,
            leader_id=self._leader_id,
            term=self._term,
            is_leader=self._leader_id == self._node_id,
            commit_index=self._index,
            applied_index=self._index,
            last_log_index=self._index,
            age_ms=0,
            ready=self._leader_id is not None,
        )

    async def transfer_leadership(self, target: str | None = None) -> None:
        """Give the leadership away."""
        self.lose_leadership(target)

    async def snapshot_now(self) -> None:
        """Save the state and restore it at once, which proves that the machine can."""
        chunks = list(self.machine.snapshot())
        self.machine.restore(chunks)
        self._snapshots += 1

    def now_ms(self) -> int:
        """Return the time that an entry proposed now would have."""
        return self._stamp.now_ms()

    def metrics(self) -> dict[str, float]:
        """Return counters and gauges by name."""
        return {
            "term": self._term,
            "commit_index": self._index,
            "applied_index": self._index,
            "snapshots": self._snapshots,
            "divergences": 0,
        }

    def digests(self) -> dict[int, str]:
        """Return the digest of the state at the last index."""
        return {self._index: self.machine.digest().hex()}

    def _commit(self, commands: Sequence[bytes]) -> Sequence[object]:
        if self._leader_id != self._node_id:
            raise NotLeader(self._leader_id)
        outcomes = self.machine.apply(encode_entry(self._stamp.next_ms(), commands))
        if len(outcomes) != len(commands):
            raise MachineFailed(f"apply returned {len(outcomes)} outcomes for {len(commands)} commands")
        self._index += 1
        if self.on_apply is not None:
            self.on_apply(self._index, outcomes)
        if self._unknown:
            self._unknown -= 1
            raise Unknown
        return outcomes

    def _tell_role(self) -> None:
        if self.on_role is not None:
            self.on_role(self.role())
