"""Raft on PySyncObj 0.3.17, hardened by subclass: no socket, no clock, no chance of its own.

The library keeps what it does right: terms, votes, candidacy, election deadlines, becoming leader, stepping down. The
rest is done here, because there it loses acknowledged writes; `docs/consensus.md` lists the defects that each override
closes, by number, and `tests/unit/consensus` shows each on the library unmodified. `docs/upstream` tells its authors.

Messages go out by `Outbox`; answers that promise durability wait in `_promises` until `flush` has synced the journal.
"""

import random
from collections.abc import Callable, Iterator, Sequence

from consensus import messages as m
from consensus.clock import Clock
from consensus.entry import entry_head
from consensus.errors import InvariantBroken, MachineFailed
from consensus.journal import Journal
from consensus.library import COMMAND, LEADER, StockRaft, voter
from consensus.log_matching import merge, retreat
from consensus.machine import StateMachine
from consensus.pace import Pace, RaftTimes
from consensus.ports import Confirmation, Done, Outbox, Snapshots
from consensus.replication import Encoded, Followers
from consensus.rounds import LeadershipChecks, PreVotes

COMMIT_NOTICE_S = 0.005  # followers hear of a small commit this late at the latest
LARGE_COMMIT_BYTES = 16 << 10  # they hear of this much at once
APPLY_SLICE = 512  # entries applied at most before messages are read again
APPLY_SLICE_S = 0.02


class Raft(StockRaft):
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
        self.node_id = node_id
        self.peers = sorted(peers)
        self.majority = (len(self.peers) + 1) // 2 + 1
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
        self._pre_votes = PreVotes(self.majority)
        self._checks = LeadershipChecks(self.majority)
        self._may_campaign = False
        self._heard_at = float("-inf")
        super().__init__(node_id, self.peers, journal, times, self.tell, self._state_changed)
        tables = (self._SyncObj__raftNextIndex, self._SyncObj__raftMatchIndex)
        self._followers = Followers(self.peers, journal, outbox, self._feed, *tables)

    # ---- what it is

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
            case m.Appended(term):
                if self._is_answer_to_me(term):
                    self.note_response(node_id)
                    self._followers.answered(node_id, message)
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
            case m.Confirmed(term, number):
                if self._is_answer_to_me(term):
                    self.note_response(node_id)
                    self._checks.answer(node_id, number, term)
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

    def times_ahead(self) -> Iterator[int]:
        """Yield the times of the entries that are in the log and not applied yet."""
        for index in range(self.applied_index + 1, self.journal.last_index + 1):
            command = self.journal.entry(index)[0]
            if command[:1] == COMMAND:
                yield entry_head(command[1:])[0]

    def confirm(self, done: Confirmation) -> None:
        """Ask a majority whether this still is the leader: done(ok=True) if it was when asked (Raft §6.4)."""
        if not self.leads_its_term:
            done(ok=False)
        elif not self.peers:
            done(ok=True)
        else:
            term = self.term
            question = m.Confirm(term, self._checks.begin(term, done))
            for peer in self.peers:
                self.tell(peer, question)

    def forget_leader(self) -> None:
        """Answer pre-votes as after an election timeout of silence."""
        self._heard_at = float("-inf")

    def expire(self) -> None:
        """End the wait for a leader now; the voter asks for pre-votes at its next tick."""
        self.forget_leader()
        self._SyncObj__raftElectionDeadline = 0.0

    def hand_over(self, target: str) -> bool:
        """Let a voter that has every entry start an election; False if it has not."""
        if not self.is_leader or not self._followers.has_all(target):
            return False
        return self.tell(target, m.TimeoutNow(self.term))

    def best_follower(self) -> str | None:
        """Return the linked voter that has most of the log."""
        return self._followers.best()

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
        self._followers.has(node_id, index)

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
        committed = self.commit_index
        verified = merge(self.journal, message, committed)
        if verified is None:
            back_to = retreat(self.journal, message.prev_index)
            self.tell(self.leader_id or "", m.Appended(self.term, back_to, success=False))
            return
        self.leader_commit = max(self.leader_commit, message.commit_index)
        commit = min(message.commit_index, verified)
        if commit > committed:
            self._SyncObj__raftCommitIndex = commit
        self.promise(node_id, verified)

    # ---- leaders: sending and counting (defects 6, 20, 21, 25)

    def _is_answer_to_me(self, term: int) -> bool:
        """Whether an answer belongs to this leadership; a newer term ends it."""
        if term > self.term:
            self._SyncObj__setCurrentTerm(term, None)
            self._SyncObj__setState(0)
            self._SyncObj__raftLeader = None
        return self.is_leader and term == self.term

    def can_commit(self) -> bool:
        """Whether a majority, counting itself, holds entries that are not committed yet."""
        return self._followers.held_by_majority() > self.commit_index

    def _advance_commit(self) -> None:
        """Commit what a majority holds durably, if it is of this term (Raft §5.4.2); the own copy is synced first.

        Followers learn of a small commit with the next entries. Of a large one they hear before the leader applies it,
        so that all apply at the same time instead of the followers while the leader waits for their next answers.
        """
        if not self.is_leader:
            return
        index = self._followers.held_by_majority()
        if index > self.commit_index and self.journal.term_at(index) == self.term:
            self.journal.sync()
            size = self.journal.size(self.commit_index + 1, index)
            self._SyncObj__raftCommitIndex = index
            if size >= LARGE_COMMIT_BYTES:
                self._SyncObj__sendAppendEntries()
            else:
                soon = self._clock.monotonic() + COMMIT_NOTICE_S
                self._SyncObj__newAppendEntriesTime = min(self._SyncObj__newAppendEntriesTime, soon)

    def _SyncObj__sendAppendEntries(self) -> None:
        now = self._clock.monotonic()
        self._SyncObj__newAppendEntriesTime = now + self._times.heartbeat
        term, commit_index, encoded = self.term, self.commit_index, Encoded()
        behind = [self._followers.send(peer, term, commit_index, encoded) for peer in self.peers]
        if any(behind):
            self._SyncObj__newAppendEntriesTime = now + 0.002

    def _feed(self, peer: str) -> None:
        """Send a follower that lags behind the log more of the snapshot, or at least a heartbeat."""
        if self.snapshots is None or not self.snapshots.feed(peer):
            self.tell(peer, m.Heartbeat(self.term))

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
        ask = m.PreVote(self.term + 1, self._pre_votes.begin(), self.journal.last_index, self.journal.last_term)
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
        if self.is_leader or not self._pre_votes.is_open(message.round):
            return
        if message.term > self.term:  # a candidacy in an older term would be ignored
            self._SyncObj__setCurrentTerm(message.term, None)
        if self._pre_votes.grant(node_id):
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
        if old != LEADER:
            return
        waiting, self._waiting = self._waiting, {}
        for index in sorted(waiting):
            waiting[index](None)
        self._checks.fail()
        self.on_lost()

    def abandon(self) -> None:
        """Tell all who wait that nobody will ever know; for a voter that stops."""
        self._state_changed(LEADER, 0)

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
