"""One voter as callbacks: from its files to its failure, by turns, on any scheduler and clock.

`Replica` runs it on asyncio and TLS; the simulation runs the same object on a virtual clock. Every entry point is
guarded: whatever goes wrong inside stops the voter before it can acknowledge anything, and is kept in `failure`.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from consensus import messages as m
from consensus.barriers import ReadBarriers
from consensus.clock import Clock
from consensus.digests import DigestCheck
from consensus.entry import Stamp, entry_head
from consensus.errors import (
    ConsensusError,
    Diverged,
    InvariantBroken,
    NotLeader,
    StorageFailed,
    Unknown,
    WrongIdentity,
)
from consensus.group_commit import GroupCommit
from consensus.journal import FIRST_INDEX, Journal
from consensus.machine import StateMachine
from consensus.pace import RaftTimes
from consensus.ports import Answer, Outbox, ReadAnswer, Scheduler, Timer
from consensus.raft import Raft
from consensus.settings import ReplicaSettings, Role
from consensus.snapshot import SnapshotHead, Spawn, read_head, restore_snapshot
from consensus.storage import Storage
from consensus.streaming import SnapshotFlow, SnapshotPolicy

CHILD_POLL_S = 0.05


class Driver:
    """A voter's life from its files to its failure."""

    def __init__(
        self,
        settings: ReplicaSettings,
        machine: StateMachine,
        storage: Storage,
        outbox: Outbox,
        scheduler: Scheduler,
        clock: Clock,
        chance: random.Random,
        spawn: Spawn,
    ) -> None:
        self.settings = settings
        self.machine = machine
        self.failure: ConsensusError | None = None
        self.on_failure: Callable[[ConsensusError], None] = lambda _error: None
        self.on_apply: Callable[[int, Sequence[object]], None] | None = None
        self.on_role: Callable[[Role], None] | None = None
        self.on_restore: Callable[[int], None] | None = None
        self.on_divergence: Callable[[int], None] | None = None
        self._outbox = outbox
        self._scheduler = scheduler
        self._clock = clock
        self._stamp = Stamp(clock)
        self._snapshot_waiters: list[Callable[[bool], None]] = []
        self._kicked = False
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._told: tuple[str | None, int, bool] | None = None
        self._ready_at = None if settings.peers else 0
        self._counts = {"entries": 0, "commands": 0, "elections": 0, "divergences": 0}
        self._digests = DigestCheck(settings.node_id, len(settings.peers) + 1)
        self.raft, self.snapshots = self._load(storage, chance, spawn)
        self._commits = GroupCommit(settings, self.raft, self._stamp, scheduler)
        self._barriers = ReadBarriers(self.raft, scheduler, self._leader_hint)

    # ---- from files to a running voter

    def _load(self, storage: Storage, chance: random.Random, spawn: Spawn) -> tuple[Raft, SnapshotFlow]:
        settings = self.settings
        try:
            head = read_head(storage)
            if head is not None:
                self._check_head(head)
                restore_snapshot(storage, self.machine)
                self._stamp.seen(head.now_ms)
            base = (head.index, head.term) if head else (FIRST_INDEX, 0)
            journal = Journal(storage, base, preallocate_bytes=settings.preallocate_bytes)
        except OSError as error:
            raise StorageFailed(f"the data folder cannot be read: {error}") from error
        low, high = settings.election_ms
        times = RaftTimes((low / 1000, high / 1000), settings.heartbeat_ms / 1000)
        peers = sorted(settings.peers)
        raft = Raft(settings.node_id, peers, journal, self.machine, self._outbox, self._clock, chance, times)
        rank = sorted([*peers, settings.node_id]).index(settings.node_id)
        stagger = 1 + 0.1 * rank  # so that not all voters fork at once
        policy = SnapshotPolicy(
            int(settings.snapshot_entries * stagger),
            int(settings.snapshot_bytes * stagger),
            settings.trailing_entries,
            settings.snapshot_timeout_s,
        )
        flow = SnapshotFlow(raft, storage, self.machine, spawn, self._clock, policy, self._head)
        flow.on_restored = self._restored
        flow.on_finished = self._snapshot_finished
        raft.snapshots = flow
        raft.on_applied = self._applied
        raft.on_lost = self._lost_leadership
        return raft, flow

    def _check_head(self, head: SnapshotHead) -> None:
        if head.cluster_id != self.settings.cluster_id:
            raise WrongIdentity(
                f"the snapshot is of cluster {head.cluster_id}, but {self.settings.cluster_id} is configured"
            )

    def _head(self) -> SnapshotHead:
        index = self.raft.applied_index
        term = self.raft.journal.term_at(index)
        if term is None:
            raise InvariantBroken(f"the applied entry {index} is not in the log")
        return SnapshotHead(
            index=index,
            term=term,
            cluster_id=self.settings.cluster_id,
            voters=dict(sorted({**self.settings.peers, self.settings.node_id: self.settings.address}.items())),
            now_ms=self._stamp.last_ms,
            digest=self.machine.digest(),
        )

    def start(self) -> None:
        """Begin to take part."""
        self._guard(self._turn)

    def close(self) -> None:
        """Stop without failure; what is buffered was never acknowledged."""
        if self.failure is None:
            self._stop(Unknown("the voter was stopped"))

    # ---- what callers ask

    def propose_nowait(self, commands: Sequence[bytes], callback: Answer) -> None:
        """Commit commands as part of the next entry; the callback comes later, from the loop, or at once if refused."""
        if self.failure is not None or not self.raft.is_leader:
            callback(None, NotLeader(self._leader_hint()))
            return
        refusal = self._commits.add(commands, callback)
        if refusal is not None:
            callback(None, refusal)
            return
        self.kick()

    def barrier_nowait(self, callback: ReadAnswer) -> None:
        """Call back with an index once a local read is linearizable: all that was committed before is applied."""
        if self.failure is not None or not self.raft.is_leader:
            callback(None, NotLeader(self._leader_hint()))
            return
        self._barriers.add(callback)
        self.kick()

    def transfer(self, target: str | None) -> bool:
        """Hand the leadership to a voter that has all entries; False if none could be asked."""
        choice = target or self.raft.best_follower()
        return choice is not None and bool(self._guard(lambda: self.raft.hand_over(choice)))

    def snapshot_nowait(self, callback: Callable[[bool], None]) -> None:
        """Take a snapshot and call back with whether it succeeded."""
        self._snapshot_waiters.append(callback)
        self.snapshots.force()
        self.kick()

    def role(self) -> Role:
        """Return what this voter is now."""
        raft = self.raft
        alive = self.failure is None
        return Role(
            node_id=self.settings.node_id,
            leader_id=self._leader_hint(),
            term=raft.term,
            is_leader=alive and raft.is_leader,
            commit_index=raft.commit_index,
            applied_index=raft.applied_index,
            last_log_index=raft.journal.last_index,
            age_ms=int(min(raft.heard_seconds_ago(), 1e9) * 1000),
            ready=alive and self._is_ready(),
        )

    def now_ms(self) -> int:
        """Return the time that an entry made now would have."""
        return self._stamp.now_ms()

    def metrics(self) -> dict[str, float]:
        """Return counters and gauges by name."""
        raft = self.raft
        return {
            **self._counts,
            "term": raft.term,
            "is_leader": float(raft.is_leader),
            "commit_index": raft.commit_index,
            "applied_index": raft.applied_index,
            "last_log_index": raft.journal.last_index,
            "log_entries": len(raft.journal) - 1,
            "journal_syncs": raft.journal.syncs,
            "journal_bytes": raft.journal.total_bytes,
            "overloaded": self._commits.overloaded,
            "unknown": self._commits.unknown,
            "pending_commands": self._commits.pending_commands,
            "inflight_entries": self._commits.inflight,
            "snapshots_taken": self.snapshots.taken,
            "snapshots_installed": self.snapshots.installed,
        }

    def digests(self) -> dict[int, str]:
        """Return the digests of this voter's state at recent indices that all voters compare, in hexadecimal."""
        return self._digests.own()

    # ---- what the network says

    def connected(self, node_id: str) -> None:
        """A link to a voter is up."""
        self._guard(lambda: self.raft.connected(node_id))
        self.kick()

    def disconnected(self, node_id: str) -> None:
        """A link to a voter is down."""
        self._guard(lambda: self.raft.disconnected(node_id))
        self.kick()

    def receive(self, node_id: str, message: m.Message) -> None:
        """Act on a message of another voter."""
        if isinstance(message, m.StateDigest):
            self._guard(lambda: self._compare(node_id, message.index, message.digest))
        else:
            self._guard(lambda: self.raft.receive(node_id, message))
            if isinstance(message, m.Appended) and self.raft.is_leader and not self.raft.can_commit():
                return  # nothing to do yet: most answers only tell what a majority has answered already
        self.kick()

    def settle(self) -> None:
        """Do now what was to be done after the loop's next look at its sockets: a link has no more messages."""
        if self._kicked:
            self._kicked_turn()

    # ---- turning

    def kick(self) -> None:
        """Turn soon."""
        if not self._kicked and self.failure is None:
            self._kicked = True
            self._scheduler.call_soon(self._kicked_turn)

    def _kicked_turn(self) -> None:
        if self._kicked:
            self._kicked = False
            self._guard(self._turn)

    def _timed_turn(self) -> None:
        self._timer = None
        self._guard(self._turn)

    def _turn(self) -> None:
        raft, commits = self.raft, self._commits
        commits.launch()
        self._barriers.confirm()
        raft.flush()  # before applying: the leader waits for the answer, nobody waits for a follower's state
        raft.tick()
        raft.flush()
        self._tell_role()
        if raft.has_more_to_apply or (commits.pending and commits.inflight < self.settings.inflight):
            self.kick()
        self._arm()

    def _arm(self) -> None:
        now = self._clock.monotonic()
        wake = self.raft.wake_at()
        if self.snapshots.busy:
            wake = min(wake, now + CHILD_POLL_S)
        wake = max(wake, now + 0.001)
        if self._timer is not None:
            if self._timer_at <= wake:
                return
            self._timer.cancel()
        self._timer_at = wake
        self._timer = self._scheduler.call_later(wake - now, self._timed_turn)

    def _guard(self, work: Callable[[], Any]) -> Any:
        """Run a piece of work; whatever it raises stops the voter."""
        if self.failure is not None:
            return None
        try:
            return work()
        except ConsensusError as error:
            self._stop(error)
        except OSError as error:
            self._stop(StorageFailed(f"the disk failed: {error}; free or repair it and start this voter again"))
        except Exception as error:  # noqa: BLE001 - the top of the voter: it must not go on half way through a step
            self._stop(InvariantBroken(f"{type(error).__name__}: {error}"), error)
        return None

    def _stop(self, failure: ConsensusError, cause: BaseException | None = None) -> None:
        failure.__cause__ = cause
        self.failure = failure
        if self._timer is not None:
            self._timer.cancel()
        self.snapshots.close()
        self.raft.journal.close()
        self._lost_leadership()
        self.raft.abandon()
        self.on_failure(failure)

    # ---- after an entry is applied

    def _applied(self, index: int, entry: bytes, outcomes: Sequence[object]) -> None:
        now_ms, count = entry_head(entry)
        self._stamp.seen(now_ms)
        self._counts["entries"] += 1
        self._counts["commands"] += count
        if self._barriers.applying:
            self._barriers.release()
        every = self.settings.digest_every
        if every and self.settings.peers and index % every == 0:
            self._exchange_digest(index)
        if self.on_apply is not None:
            self._scheduler.call_soon(self.on_apply, index, outcomes)

    def _exchange_digest(self, index: int) -> None:
        digest = self.machine.digest()
        for peer in self.settings.peers:
            self.raft.tell(peer, m.StateDigest(index, digest))
        self._compare(self.settings.node_id, index, digest)

    def _compare(self, node_id: str, index: int, digest: bytes) -> None:
        wrong, others = self._digests.note(node_id, index, digest)
        self._counts["divergences"] += len(others)
        if others and self.on_divergence is not None:
            self._scheduler.call_soon(self.on_divergence, index)
        if wrong:
            raise Diverged(index)

    def _restored(self, head: SnapshotHead) -> None:
        self._stamp.seen(head.now_ms)
        if self.on_restore is not None:
            self._scheduler.call_soon(self.on_restore, head.index)

    def _snapshot_finished(self, ok: bool) -> None:  # noqa: FBT001
        waiters, self._snapshot_waiters = self._snapshot_waiters, []
        for waiter in waiters:
            self._scheduler.call_soon(waiter, ok)

    # ---- role

    def _lost_leadership(self) -> None:
        error = NotLeader(self._leader_hint())
        self._commits.fail(error)
        self._barriers.fail(error)

    def _leader_hint(self) -> str | None:
        return None if self.failure is not None else self.raft.leader_id

    def _is_ready(self) -> bool:
        if self.raft.is_leader:
            return self.raft.leads_its_term
        if self._ready_at is None and self.raft.leader_id is not None and self.raft.leader_commit:
            self._ready_at = self.raft.leader_commit
        return self._ready_at is not None and self.raft.applied_index >= self._ready_at

    def _tell_role(self) -> None:
        raft = self.raft
        now = (raft.leader_id, raft.term, self._is_ready())
        if now == self._told:
            return
        if self._told is not None and now[1] != self._told[1]:
            self._counts["elections"] += 1
        self._told = now
        if self.on_role is not None:
            self._scheduler.call_soon(self.on_role, self.role())
