"""What the core needs of a replicated log and of a state machine; the consensus and machine packages provide both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from consensus.errors import ConsensusError
    from consensus.settings import Role


class CoreState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a voter's core stands; pushed to its front on every change and some times a second."""

    voter: str
    role: str  # "leader" or "follower"
    leader: str  # id, "" when none is known
    term: int
    commit_index: int
    applied_index: int
    age_ms: int  # since the leader (on the leader: a majority) was last heard
    ready: bool = False
    parked: int = 0  # claims that wait for a job
    due: bool = False  # time has something to do
    live: int = 0  # jobs that have not ended


def core_state(role: Role, parked: int, live: int, *, due: bool) -> CoreState:
    """Return the state that a replica's role is."""
    return CoreState(
        role.node_id,
        "leader" if role.is_leader else "follower",
        role.leader_id or "",
        role.term,
        role.commit_index,
        role.applied_index,
        role.age_ms,
        role.ready,
        parked,
        due,
        live,
    )


class Machine(Protocol):
    """The state machine, as far as the core looks at it."""

    @property
    def claimable_version(self) -> int:
        """Grow whenever something may have become claimable."""
        ...

    @property
    def next_due_ms(self) -> int:
        """Say when Tick has something to do, 0 = never."""
        ...

    @property
    def live(self) -> int:
        """Jobs that have not ended."""
        ...

    @property
    def last_seq(self) -> int:
        """Number of the newest event."""
        ...

    def query(self, name: str, args: dict[str, object]) -> object:
        """Return a view, or Refused."""
        ...

    def events_since(self, seq: int) -> Sequence[Any]:
        """Return the events after `seq` that are still kept."""
        ...


class Log(Protocol):
    """The replicated log (`consensus.Replica` or its in-memory twin), as far as the core uses it."""

    def propose_nowait(
        self, commands: Sequence[bytes], callback: Callable[[Sequence[object] | None, ConsensusError | None], None]
    ) -> None:
        """Commit and apply the commands; the callback gets their outcomes in order, or why there are none."""

    async def barrier(self) -> int:
        """Return an index such that a read of the state now is linearizable; raises NotLeader."""
        ...

    async def transfer_leadership(self, target: str | None = None) -> None:
        """Give the leadership away."""

    async def snapshot_now(self) -> None:
        """Take a snapshot."""

    def role(self) -> Role:
        """Return what this replica is now."""
        ...

    def now_ms(self) -> int:
        """Return the time that an entry proposed now would have."""
        ...

    def metrics(self) -> dict[str, float]:
        """Return counters and gauges by name."""
        ...

    def digests(self) -> dict[int, str]:
        """Return digests of the state at recent indices."""
        ...
