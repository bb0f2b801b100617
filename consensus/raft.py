"""Raft on PySyncObj 0.3.17, hardened by subclass: no socket, no clock, no chance of its own.

The library keeps what it does right: terms, votes, candidacy, election deadlines, becoming leader, stepping down. The
rest is done here, because there it loses acknowledged writes; `docs/consensus.md` lists the defects that each override
closes, by number, and `tests/unit/consensus` shows each on the library unmodified. `docs/upstream` tells its authors.

Messages go out by `Outbox`; answers that promise durability wait in `_promises` until `flush` has synced the journal.
"""

import functools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pysyncobj.syncobj as library
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from consensus import messages as m
from consensus.clock import Clock
from consensus.entry import entry_head
from consensus.errors import InvariantBroken, MachineFailed
from consensus.journal import Entry, Journal
from consensus.machine import StateMachine
from consensus.pace import Pace

LIBRARY_VERSION = "0.3.17"
# Its own clock is CLOCK_MONOTONIC_RAW, which drifts from the one that event loops and `SystemClock` read, by seconds a
# day: a leader would be late with its heartbeats by that much.
library.monotonicTime = time.monotonic
COMMAND, NO_OP = b"\x00", b"\x01"  # first byte of a log entry, as in the library
_LEADER = 2
MAX_MESSAGE_BYTES = 1 << 20  # of entries in one Append
MAX_BACKLOG_BYTES = 4 << 20  # unsent bytes after which a follower is given no more
MAX_MESSAGES = 8  # to one follower at one time
COMMIT_NOTICE_S = 0.005  # followers hear of a commit this late at the latest
APPLY_SLICE = 512  # entries applied at most before messages are read again
APPLY_SLICE_S = 0.02

Done = Callable[[Sequence[object] | None], None]  # outcomes, or None: the outcome is unknown


class Voter(Node):  # type: ignore[misc]
    """A voter as the library sees it, with a hash that is the same in every process."""

    def __init__(self, node_id: str) -> None:
        super().__init__(node_id)
        self._hash = hash_id(node_id)

    def __hash__(self) -> int:
        return self._hash


@functools.cache
def voter(node_id: str) -> Voter:
    """Return the one object for a voter: looking it up in the library's tables then costs no comparison of names."""
    return Voter(node_id)


def hash_id(name: str) -> int:
    """Return a hash of a node id that does not depend on the process."""
    return int.from_bytes(name.encode()[:7].ljust(7, b"\0"), "big")


class Outbox(Protocol):
    """Where messages go."""

    def send(self, node_id: str, data: bytes) -> bool:
        """Send to a voter; False if there is no link (a message may be lost even if True)."""
        ...

    def backlog(self, node_id: str) -> int | None:
        """Return the bytes waiting to be sent to a voter, or None if there is no link."""
        ...


class Snapshots(Protocol):
    """The leader's and the follower's side of snapshots, driven from the ticks of `Raft`."""

    def feed(self, node_id: str) -> bool:
        """Send a lagging voter more of the snapshot; False if there is nothing to send yet."""
        ...

    def forget(self, node_id: str) -> None:
        """Stop sending to this voter."""
        ...

    def tick(self) -> None:
        """Start, watch and publish snapshots of our own."""
        ...

    def chunk(self, node_id: str, message: m.SnapshotChunk) -> None:
        """Take a piece of the leader's snapshot."""
        ...

    def received(self, node_id: str, message: m.SnapshotReceived) -> None:
        """Take a follower's answer to a piece."""
        ...


class RaftTimes:
    """Timeouts in seconds."""

    def __init__(self, election: tuple[float, float], heartbeat: float) -> None:
        self.election = election
        self.heartbeat = heartbeat


class _Wire(Transport):  # type: ignore[misc]
    """The library's outgoing messages, turned into ours."""

    ready = True

    def __init__(self, raft: "Raft") -> None:
        super().__init__(None, None, None)
        self._raft = raft

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """Translate and send; the library itself sends votes and requests for them, and hands over leadership."""
        match message["type"]:
            case "request_vote":
                term, index = message["term"], message["last_log_index"]
                return self._raft.tell(node.id, m.RequestVote(term, index, message["last_log_term"]))
            case "response_vote":
                return self._raft.tell(node.id, m.Vote(message["term"]))
            case "timeout_now":
                return self._raft.tell(node.id, m.TimeoutNow(message["term"]))
            case other:
                raise InvariantBroken(f"the library sends a {other}, which is ours to send")


class Confirmation(Protocol):
    """Hears whether a leader still led when it was asked."""

    def __call__(self, *, ok: bool) -> None:
        """Take the answer."""


class _Log:
    """Our journal under the names that the library calls."""

    def __init__(self, raft: "Raft", journal: Journal) -> None:
        self._raft = raft
        self._journal = journal

    def __len__(self) -> int:
        return len(self._journal)

    def __getitem__(self, at: int | slice) -> Entry | list[Entry]:
        if isinstance(at, slice):
            return []  # the library would count and apply by itself: what it does not see is left to this class
        if at == -1:
            return b"", self._journal.last_index, self._journal.last_term
        if at == 0:
            return b"", self._journal.base_index, self._journal.base_term
        raise InvariantBroken("the library reads the log only at its ends")

    def add(self, command: bytes, index: int, term: int) -> None:
        self._journal.append(command, index, term)

    def setCurrentTerm(self, term: int, vote: str | None) -> None:
        self._journal.set_vote(term, vote)

    def setRaftCommitIndex(self, index: int) -> None:
        """Nothing to keep: the commit index is learned again from the leader, so that it can't exceed the log."""

    def onOneSecondTimer(self) -> None:
        """Nothing to do."""


class _NoPoller:
    """The library's own sockets are never opened."""

    def poll(self, _seconds: float) -> None:
        """Return at once."""


class Raft(SyncObj):  # type: ignore[misc]
    """One voter's Raft; `receive` and `tick` drive it, `flush` must follow both before control returns to the loop."""

    _SyncObj__newAppendEntriesTime: float
    _SyncObj__raftElectionDeadline: float

    def __init__(
        self,
        node_id: str,
        peers: Sequence[str],
        journal: Journal,
        machine: StateMachine,
        outbox: Outbox,
        clock: Clock,
        chance: random.Random,
        times: RaftTimes,
    ) -> None:
        if library.VERSION != LIBRARY_VERSION:
            raise InvariantBroken(f"made for pysyncobj {LIBRARY_VERSION}, not {library.VERSION}")
        self.node_id = node_id
        self.peers = sorted(peers)
        self.journal = journal
        self.machine = machine
        self.snapshots: Snapshots | None = None
        self.on_applied: Callable[[int, bytes, Sequence[object]], None] = lambda _i, _e, _o: None
        self.on_lost: Callable[[], None] = lambda: None
        self.leader_commit = 0  # the highest commit index heard of
        self._outbox = outbox
        self._clock = clock
        self._chance = chance
        self._times = times
        self._pace = Pace(times.election)
        self._leader_link_lost_at: float | None = None
        self._ticked_at = clock.monotonic()
        self._silence_at = self._ticked_at
        self._waiting: dict[int, Done] = {}
        self._promises: list[tuple[str, m.Appended]] = []
        self._votes: set[str] = set()
        self._pre_round = 0
        self._pre_votes: set[str] = set()
        self._may_campaign = False
        self._heard_at = float("-inf")
        self._read_round = 0
        self._reads: dict[int, tuple[set[str], int, Confirmation]] = {}
        low, high = times.election
        conf = SyncObjConf(
            autoTick=False,
            raftMinTimeout=low,
            raftMaxTimeout=high,
            appendEntriesPeriod=times.heartbeat,
            leaderFallbackTimeout=high,
            connectionTimeout=max(3.5, high),
            onStateChanged=self._state_changed,
        )
        super().__init__(voter(node_id), [voter(p) for p in self.peers], conf, nodeClass=Voter, transport=_Wire(self))
        self._adopt_journal()

    def _adopt_journal(self) -> None:
        """Begin from what is on disk (the library was started with an empty journal in memory)."""
        self._poller = _NoPoller()
        self._SyncObj__raftLog = _Log(self, self.journal)
        self._SyncObj__raftCurrentTerm = self.journal.term
        self._SyncObj__votedForNodeId = self.journal.vote
        self._SyncObj__raftCommitIndex = self.journal.base_index
        self._SyncObj__raftLastApplied = self.journal.base_index
        self._SyncObj__needLoadDumpFile = False

    # ---- what it is

    @property
    def is_leader(self) -> bool:
        """Whether it believes to lead; another may have been elected since."""
        return bool(self._SyncObj__raftState == _LEADER)

    @property
    def leader_id(self) -> str | None:
        """The last known leader."""
        leader: Node | None = self._SyncObj__raftLeader
        return None if leader is None else str(leader.id)

    @property
    def term(self) -> int:
        """The current term."""
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def commit_index(self) -> int:
        """The highest index known to be committed."""
        return int(self._SyncObj__raftCommitIndex)

    @property
    def applied_index(self) -> int:
        """The highest index applied to the state machine."""
        return int(self._SyncObj__raftLastApplied)

    @property
    def majority(self) -> int:
        """How many voters are a majority."""
        return (len(self.peers) + 1) // 2 + 1

    @property
    def leads_its_term(self) -> bool:
        """Whether it leads and has applied an entry of its own term, so that its state holds all committed entries."""
        return self.is_leader and self.applied_index >= (self._SyncObj__noopIDx or 0)

    def heard_seconds_ago(self) -> float:
        """Return how long ago a leader (or, leading, a majority) was last heard."""
        now = self._clock.monotonic()
        if not self.is_leader:
            return now - self._heard_at
        heard = sorted((self._SyncObj__lastResponseTime[voter(p)] for p in self.peers), reverse=True)
        return float(now - min([now, *heard[: self.majority - 1]]))

    def wake_at(self) -> float:
        """Return the time at which a tick is next needed, if nothing happens before."""
        if self.is_leader:
            return float(self._SyncObj__newAppendEntriesTime)
        return float(self._SyncObj__raftElectionDeadline)

    @property
    def has_more_to_apply(self) -> bool:
        """Whether committed entries are still to be applied."""
        return self.applied_index < self.commit_index

    # ---- what happens to it

    def tell(self, node_id: str, message: m.Message) -> bool:
        """Send a message that promises nothing about the journal."""
        return self._outbox.send(node_id, m.encode(message))

    def connected(self, node_id: str) -> None:
        """A link to a voter is up."""
        self._SyncObj__connectedNodes.add(voter(node_id))

    def disconnected(self, node_id: str) -> None:
        """A link to a voter is down; if it leads, it may have died, which need not wait for a timeout to be asked."""
        self._SyncObj__connectedNodes.discard(voter(node_id))
        if node_id == self.leader_id and not self.is_leader:
            self._leader_link_lost_at = self._clock.monotonic()
            soon = self._leader_link_lost_at + self._turn_to_ask()
            self._SyncObj__raftElectionDeadline = min(self._SyncObj__raftElectionDeadline, soon)
        if self.snapshots is not None:
            self.snapshots.forget(node_id)

    def receive(self, node_id: str, message: m.Message) -> None:  # noqa: C901  one case a message
        """Act on a message of another voter."""
        match message:
            case m.Append():
                self._on_append(node_id, message)
            case m.Appended():
                self._on_appended(node_id, message)
            case m.RequestVote(term, index, last_term):
                request = {"type": "request_vote", "term": term, "last_log_index": index, "last_log_term": last_term}
                self._SyncObj__onMessageReceived(voter(node_id), request)
            case m.Vote(term):
                self._on_vote(node_id, term)
            case m.PreVote():
                self._on_pre_vote(node_id, message)
            case m.PreVoteGranted():
                self._on_pre_vote_granted(node_id, message)
            case m.Heartbeat(term):
                self._on_heartbeat(node_id, term)
            case m.SnapshotChunk():
                if self._on_heartbeat(node_id, message.term) and self.snapshots is not None:
                    self.snapshots.chunk(node_id, message)
            case m.SnapshotReceived():
                if self._is_answer_to_me(message.term) and self.snapshots is not None:
                    self.note_response(node_id)
                    self.snapshots.received(node_id, message)
            case m.Confirm(term, number):
                if self._on_heartbeat(node_id, term):
                    self.tell(node_id, m.Confirmed(term, number))
            case m.Confirmed():
                self._on_confirmed(node_id, message)
            case m.TimeoutNow(term):
                self._on_timeout_now(node_id, term)
            case m.StateDigest():
                raise InvariantBroken("digests are compared elsewhere")

    def tick(self) -> None:
        """Do whatever is due: elections, commits, applying, sending."""
        self._mind_the_pace()
        self._advance_commit()
        self.doTick(0.0)
        if self.snapshots is not None:
            self.snapshots.tick()

    def flush(self) -> None:
        """Make the journal durable and then send the answers that say it is; one sync for all of them.

        A leader with several entries under way waits with its own copy until the others' answers make it count: by then
        one sync serves for more of them. With one under way, the sync runs beside theirs.
        """
        if not self._promises and (not self.journal.dirty or (self.is_leader and len(self._waiting) > 1)):
            return
        promises, self._promises = self._promises, []
        self.journal.sync()
        for node_id, promise in promises:
            self.tell(node_id, promise)

    def propose(self, entry: bytes, done: Done) -> None:
        """Append an entry as the leader and send it; done is called when it has been applied, or with None."""
        index = self.journal.last_index + 1
        self.journal.append(COMMAND + entry, index, self.term)
        self._waiting[index] = done
        self._SyncObj__sendAppendEntries()

    def stamp_at(self, index: int) -> int | None:
        """Return the time in an entry of the log, or None if it is a no-op."""
        command = self.journal.entry(index)[0]
        return entry_head(command[1:])[0] if command[:1] == COMMAND else None

    def confirm(self, done: Confirmation) -> None:
        """Ask a majority whether this still is the leader: done(ok=True) if it was when asked (Raft §6.4)."""
        if not self.leads_its_term:
            done(ok=False)
        elif not self.peers:
            done(ok=True)
        else:
            self._read_round += 1
            self._reads[self._read_round] = (set(), self.term, done)
            for peer in self.peers:
                self.tell(peer, m.Confirm(self.term, self._read_round))

    def forget_leader(self) -> None:
        """Answer pre-votes as after an election timeout of silence."""
        self._heard_at = float("-inf")

    def expire(self) -> None:
        """End the wait for a leader now; the voter asks for pre-votes at its next tick."""
        self.forget_leader()
        self._SyncObj__raftElectionDeadline = 0.0

    def hand_over(self, target: str) -> bool:
        """Let a voter that has every entry start an election; False if it has not."""
        if not self.is_leader or self._SyncObj__raftMatchIndex.get(voter(target), 0) != self.journal.last_index:
            return False
        return self.tell(target, m.TimeoutNow(self.term))

    def best_follower(self) -> str | None:
        """Return the linked voter that has most of the log."""
        match = self._SyncObj__raftMatchIndex
        linked = [p for p in self.peers if self._outbox.backlog(p) is not None]
        return max(linked, key=lambda p: (match.get(voter(p), 0), p), default=None)

    def installed(self, index: int, term: int, leader: str | None) -> None:
        """The machine now holds the snapshot at (index, term), which is durable: fit the log to it (Raft §7)."""
        if self.journal.term_at(index) == term:
            self.journal.compact(index)
        else:
            self.journal.reset(index, term)
        self._SyncObj__raftLastApplied = index
        self._SyncObj__raftCommitIndex = max(self.commit_index, index)
        if leader is not None:
            self.promise(leader, index)

    def promise(self, node_id: str, index: int) -> None:
        """Answer, once the journal is synced, that the log matches the leader's up to index."""
        self._promises.append((node_id, m.Appended(self.term, index + 1, success=True)))

    def follower_has(self, node_id: str, index: int) -> None:
        """A follower has everything up to index, by a snapshot."""
        node = voter(node_id)
        self._SyncObj__raftNextIndex[node] = max(self._SyncObj__raftNextIndex[node], index + 1)

    def note_response(self, node_id: str) -> None:
        """The leader heard from a follower."""
        now = self._clock.monotonic()
        if now >= self._silence_at:
            self._silence_at = now + self._times.heartbeat / 2
            self._pace.silence(self.heard_seconds_ago(), now)
        self._SyncObj__lastResponseTime[voter(node_id)] = now

    # ---- followers: appending (defects 3, 5, 6, 15, 23, 24)

    def _on_heartbeat(self, node_id: str, term: int) -> bool:
        """Let the library take note of a leader: term, state, deadline. It sees no entries and no commit index."""
        if term < self.term:
            return False
        if term == self.term and self.is_leader:
            raise InvariantBroken(f"{node_id} leads term {term} as well")
        self._note_silence(node_id, term)
        beat = {"type": "append_entries", "term": term, "commit_index": 0}
        self._SyncObj__onMessageReceived(voter(node_id), beat)
        return True

    def _note_silence(self, node_id: str, term: int) -> None:
        now = self._clock.monotonic()
        if node_id == self.leader_id and term == self.term:  # the same leader lived all the while
            self._pace.silence(now - self._heard_at, now)
        self._heard_at = now
        self._leader_link_lost_at = None

    def _on_append(self, node_id: str, message: m.Append) -> None:
        if not self._on_heartbeat(node_id, message.term):
            self.tell(node_id, m.Appended(self.term, 0, success=False))  # it must learn the newer term
            return
        verified = self._merge(message)
        if verified is None:
            return
        self.leader_commit = max(self.leader_commit, message.commit_index)
        commit = min(message.commit_index, verified)
        if commit > self.commit_index:
            self._SyncObj__raftCommitIndex = commit
        self.promise(node_id, verified)

    def _merge(self, message: m.Append) -> int | None:
        """Merge entries by log matching; return the last index known to equal the leader's, or None if refused."""
        journal = self.journal
        prev_index, prev_term, entries = message.prev_index, message.prev_term, message.entries
        if prev_index < journal.base_index:  # what a snapshot holds is committed, so it matches
            drop = min(journal.base_index - prev_index, len(entries))
            prev_index, entries = prev_index + drop, entries[drop:]
            if prev_index < journal.base_index:
                return prev_index
            prev_term = journal.base_term
        have = journal.term_at(prev_index)
        if have != prev_term:
            self._refuse(prev_index, have)
            return None
        known = 0
        while known < len(entries) and journal.term_at(prev_index + 1 + known) == entries[known][2]:
            known += 1
        if known < len(entries) and journal.last_index > prev_index + known:
            self._truncate(prev_index + known + 1)
        for command, index, term in entries[known:]:
            journal.append(command, index, term)
        return prev_index + len(entries)

    def _refuse(self, prev_index: int, have: int | None) -> None:
        """Send the leader back: to our end, or over the whole of the conflicting term."""
        journal = self.journal
        back_to = min(prev_index, journal.last_index + 1)
        if have is not None:
            while back_to > journal.base_index + 1 and journal.term_at(back_to - 1) == have:
                back_to -= 1
        self.tell(self.leader_id or "", m.Appended(self.term, back_to, success=False))

    def _truncate(self, start: int) -> None:
        if start <= self.commit_index:
            raise InvariantBroken(f"the leader conflicts with the committed entry {start} (commit {self.commit_index})")
        self.journal.truncate(start)

    # ---- leaders: sending and counting (defects 6, 20, 21, 25)

    def _is_answer_to_me(self, term: int) -> bool:
        """Whether an answer belongs to this leadership; a newer term ends it."""
        if term > self.term:
            self._SyncObj__setCurrentTerm(term, None)
            self._SyncObj__setState(0)
            self._SyncObj__raftLeader = None
        return self.is_leader and term == self.term

    def _on_appended(self, node_id: str, message: m.Appended) -> None:
        if not self._is_answer_to_me(message.term):
            return
        self.note_response(node_id)
        node, following = voter(node_id), self._SyncObj__raftNextIndex
        match = self._SyncObj__raftMatchIndex
        if message.success:
            match[node] = max(match[node], message.next_index - 1)
            following[node] = max(following[node], message.next_index)
        else:  # never forward, and never behind what is proven
            following[node] = max(match[node] + 1, min(following[node], message.next_index), 1)

    def can_commit(self) -> bool:
        """Whether a majority, counting itself, holds entries that are not committed yet."""
        return self._held_by_majority() > self.commit_index

    def _held_by_majority(self) -> int:
        if not self.peers:
            return self.journal.last_index
        match = self._SyncObj__raftMatchIndex
        return int(sorted([match[voter(p)] for p in self.peers], reverse=True)[self.majority - 2])

    def _advance_commit(self) -> None:
        """Commit what a majority holds durably, if it is of this term (Raft §5.4.2); the own copy is synced first."""
        if not self.is_leader:
            return
        index = self._held_by_majority()
        if index > self.commit_index and self.journal.term_at(index) == self.term:
            self.journal.sync()
            self._SyncObj__raftCommitIndex = index
            soon = self._clock.monotonic() + COMMIT_NOTICE_S
            self._SyncObj__newAppendEntriesTime = min(self._SyncObj__newAppendEntriesTime, soon)

    def _SyncObj__sendAppendEntries(self) -> None:
        now = self._clock.monotonic()
        self._SyncObj__newAppendEntriesTime = now + self._times.heartbeat
        cache: dict[int, tuple[bytes, int]] = {}
        behind = [self._send_to(peer, cache) for peer in self.peers]
        if any(behind):
            self._SyncObj__newAppendEntriesTime = now + 0.002

    def _send_to(self, peer: str, cache: dict[int, tuple[bytes, int]]) -> bool:
        """Send what a follower lacks as far as its link takes it; return whether there is more that could go soon."""
        backlog = self._outbox.backlog(peer)
        if backlog is None:
            return False
        node, following, journal = voter(peer), self._SyncObj__raftNextIndex, self.journal
        for sent in range(MAX_MESSAGES):
            start = following[node]
            if start <= journal.base_index:
                if self.snapshots is None or not self.snapshots.feed(peer):
                    self.tell(peer, m.Heartbeat(self.term))
                return False
            if sent and start > journal.last_index:
                return False
            if sent and backlog > MAX_BACKLOG_BYTES:
                return True
            if start not in cache:
                entries = journal.slice(start, MAX_MESSAGE_BYTES)
                prev_term = journal.term_at(start - 1)
                if prev_term is None:
                    raise InvariantBroken(f"the leader's log has no entry {start - 1}")
                append = m.Append(self.term, self.commit_index, start - 1, prev_term, entries)
                cache[start] = m.encode(append), start + len(entries)
            data, following[node] = cache[start]
            self._outbox.send(peer, data)
            backlog += len(data)
        return bool(following[node] <= journal.last_index)

    # ---- elections (defect 12; a vote repeated by the network counts once)

    def _SyncObj__generateRaftTimeout(self) -> float:
        now = self._clock.monotonic()
        low, high = self._pace.low(now), self._pace.high(now)
        return low + (high - low) * self._chance.random()

    def _patience(self) -> float:
        """Return after how many seconds to ask again for votes: soon while others may still notice what we noticed."""
        now, lost_at = self._clock.monotonic(), self._leader_link_lost_at
        if lost_at is not None and now - lost_at < self._pace.low(now):
            return self._times.heartbeat + self._turn_to_ask()
        return self._SyncObj__generateRaftTimeout()

    def _turn_to_ask(self) -> float:
        """Return after how many seconds to ask for votes once the leader's link is lost, one voter after the other."""
        rest = sorted({self.node_id, *self.peers} - {self.leader_id})
        stretch = self._pace.stretch(self._clock.monotonic())
        return (0.2 + 0.5 * rest.index(self.node_id)) * self._times.heartbeat * stretch

    def _mind_the_pace(self) -> None:
        """Note how long a majority was silent; a leader that itself stood still must not blame the others for it."""
        now = self._clock.monotonic()
        stood_still = now - self._ticked_at - self._times.heartbeat
        self._ticked_at = now
        if not (self.is_leader and self.peers):
            return
        if stood_still > self._times.heartbeat:
            heard = self._SyncObj__lastResponseTime
            for peer in self.peers:
                heard[voter(peer)] += stood_still
            self._pace.silence(stood_still, now)
        self._SyncObj__conf.leaderFallbackTimeout = self._pace.high(now)

    def _SyncObj__connectedToAnyone(self) -> bool:
        """The library's last question before it campaigns: only after a majority said that it would vote for us."""
        if self._may_campaign or not self.peers:
            self._may_campaign = False
            self._votes = set()
            return True
        self._SyncObj__raftElectionDeadline = self._clock.monotonic() + self._patience()
        self._pre_round += 1
        self._pre_votes = set()
        ask = m.PreVote(self.term + 1, self._pre_round, self.journal.last_index, self.journal.last_term)
        for peer in self.peers:
            self.tell(peer, ask)
        return False

    def _on_pre_vote(self, node_id: str, message: m.PreVote) -> None:
        journal = self.journal
        now = self._clock.monotonic()
        hears_a_leader = self._leader_link_lost_at is None and now - self._heard_at < self._pace.low(now)
        if self.is_leader or hears_a_leader:
            return
        if (message.last_term, message.last_index) >= (journal.last_term, journal.last_index):
            self.tell(node_id, m.PreVoteGranted(self.term, message.round))

    def _on_pre_vote_granted(self, node_id: str, message: m.PreVoteGranted) -> None:
        if message.round != self._pre_round or self.is_leader:
            return
        if message.term > self.term:  # a candidacy in an older term would be ignored
            self._SyncObj__setCurrentTerm(message.term, None)
        self._pre_votes.add(node_id)
        if len(self._pre_votes) + 1 >= self.majority:
            self._pre_round += 1  # later grants of this round mean nothing
            self._campaign_now()

    def _on_vote(self, node_id: str, term: int) -> None:
        if term == self.term and node_id not in self._votes:
            self._votes.add(node_id)
            self._SyncObj__onMessageReceived(voter(node_id), {"type": "response_vote", "term": term})

    def _on_timeout_now(self, node_id: str, term: int) -> None:
        if term == self.term and self.leader_id == node_id and not self.is_leader:
            self._campaign_now()
            self._SyncObj__transferInProgress = True

    def _campaign_now(self) -> None:
        self._may_campaign = True
        self._SyncObj__raftElectionDeadline = 0.0

    def _state_changed(self, old: int, _new: int) -> None:
        """Nobody else would ever answer those who wait for a leader that is none any more (defect 10)."""
        if old != _LEADER:
            return
        waiting, self._waiting = self._waiting, {}
        for index in sorted(waiting):
            waiting[index](None)
        reads, self._reads = self._reads, {}
        for _, _, done in reads.values():
            done(ok=False)
        self.on_lost()

    def abandon(self) -> None:
        """Tell all who wait that nobody will ever know; for a voter that stops."""
        self._state_changed(_LEADER, 0)

    # ---- reads (defect 14)

    def _on_confirmed(self, node_id: str, message: m.Confirmed) -> None:
        if not self._is_answer_to_me(message.term):
            return
        self.note_response(node_id)
        read = self._reads.get(message.round)
        if read is None:
            return
        answered, term, done = read
        answered.add(node_id)
        if len(answered) + 1 >= self.majority:
            del self._reads[message.round]
            done(ok=term == self.term)

    # ---- applying (defects 7, 8, 10, 15, 18)

    def _SyncObj__applyLogEntries(self) -> bool:
        until = self._clock.monotonic() + APPLY_SLICE_S
        for _ in range(min(APPLY_SLICE, self.commit_index - self.applied_index)):
            index = self.applied_index + 1
            self._apply(index, self.journal.entry(index)[0])
            if self._clock.monotonic() > until:
                break
        return False

    def _apply(self, index: int, command: bytes) -> None:
        outcomes: Sequence[object] = ()
        if command[:1] == COMMAND:
            entry = command[1:]
            outcomes = self._outcomes(index, entry)
            self._SyncObj__raftLastApplied = index
            self.on_applied(index, entry, outcomes)
        else:
            self._SyncObj__raftLastApplied = index
        done = self._waiting.pop(index, None)  # not earlier: who waits is answered even if the machine raises
        if done is not None:
            done(outcomes)

    def _outcomes(self, index: int, entry: bytes) -> Sequence[object]:
        try:
            outcomes = self.machine.apply(entry)
        except Exception as error:
            raise MachineFailed(f"the state machine raised at index {index}: {error!r}") from error
        count = entry_head(entry)[1]
        if len(outcomes) != count:
            raise MachineFailed(f"the state machine gave {len(outcomes)} outcomes for {count} commands at {index}")
        return outcomes

    # ---- parts of the library that are never used (defects 11, 15, 18, 22)

    def _checkCommandsToApply(self) -> None:
        """Proposals enter by `propose` only."""

    def _SyncObj__tryLogCompaction(self) -> None:
        """Snapshots are taken by `Snapshots`."""

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:  # noqa: FBT001, N803
        raise InvariantBroken("the library must not load a dump")

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:
        raise InvariantBroken("the library must not apply")

    def _SyncObj__parseChangeClusterRequest(self, command: bytes) -> None:
        """Nothing in the log changes the voters."""
