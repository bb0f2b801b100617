"""Deliberate bugs, each a small change of the product's code; the simulation must notice every one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from consensus import messages as m
from consensus.journal import Journal
from consensus.ledger import Command, Ledger
from consensus.library import Voter
from consensus.raft import Raft
from consensus.simulation.disk import SimulatedDisk, SimulatedFile
from consensus.snapshot import INCOMING, publish, read_head, restore_snapshot
from consensus.streaming import SnapshotFlow

Patch = contextlib.AbstractContextManager[Any]


def no_fsync() -> Patch:
    """The journal writes but never waits for the disk."""
    return mock.patch.object(SimulatedFile, "sync", return_value=None)


def no_vote_persistence() -> Patch:
    """Term and vote are remembered in memory only."""

    def set_vote(self: Journal, term: int, vote: str | None) -> None:
        self.term, self.vote = term, vote

    return mock.patch.object(Journal, "set_vote", set_vote)


def forgotten_vote() -> Patch:
    """The term is kept, the vote is not: a voter that restarts votes again."""
    inner = Journal.set_vote

    def set_vote(self: Journal, term: int, vote: str | None) -> None:
        inner(self, term, None)
        self.vote = vote

    return mock.patch.object(Journal, "set_vote", set_vote)


def early_ack() -> Patch:
    """A follower promises before it has synced."""

    def promise(self: Raft, node_id: str, index: int) -> None:
        self.tell(node_id, m.Appended(self.term, index + 1, success=True))

    return mock.patch.object(Raft, "promise", promise)


def leader_counts_itself_early() -> Patch:
    """The leader counts its own copy before it is on disk."""

    def advance(self: Any) -> None:
        if self.is_leader:
            held = sorted((self._SyncObj__raftMatchIndex[Voter(p)] for p in self.peers), reverse=True)
            index = held[self.majority - 2]
            if index > self.commit_index and self.journal.term_at(index) == self.term:
                self._SyncObj__raftCommitIndex = index

    @contextlib.contextmanager
    def both() -> Iterator[None]:
        with mock.patch.object(Raft, "_advance_commit", advance), mock.patch.object(Raft, "flush", lazy_flush):
            yield

    inner = Raft.flush

    def lazy_flush(self: Raft) -> None:
        if not self.is_leader:
            inner(self)

    return both()


def commits_old_terms() -> Patch:
    """The leader commits whatever a majority holds, of any term (Raft figure 8)."""

    def advance(self: Any) -> None:
        if not self.is_leader:
            return
        held = sorted((self._SyncObj__raftMatchIndex[Voter(p)] for p in self.peers), reverse=True)
        index = held[self.majority - 2]
        if index > self.commit_index:
            self.journal.sync()
            self._SyncObj__raftCommitIndex = index

    return mock.patch.object(Raft, "_advance_commit", advance)


def unfenced_apply() -> Patch:
    """Entries are applied when they are in the log, committed or not."""
    inner = Raft.tick

    def tick(self: Any) -> None:
        inner(self)
        if not self.is_leader and self.applied_index < self.journal.last_index:
            index = self.applied_index + 1
            self._apply(index, self.journal.entry(index)[0])

    return mock.patch.object(Raft, "tick", tick)


def commit_beyond_verified() -> Patch:
    """A follower takes the leader's commit index for its own log, verified or not."""
    inner = Raft._on_append

    def on_append(self: Any, node_id: str, message: Any) -> None:
        inner(self, node_id, message)
        if message.term == self.term:
            commit = min(message.commit_index, self.journal.last_index)
            self._SyncObj__raftCommitIndex = max(self.commit_index, commit)

    return mock.patch.object(Raft, "_on_append", on_append)


def votes_counted_twice() -> Patch:
    """A vote that the network repeats counts twice."""

    def on_vote(self: Any, node_id: str, term: int) -> None:
        if term == self.term:
            self._SyncObj__onMessageReceived(Voter(node_id), {"type": "response_vote", "term": term})

    return mock.patch.object(Raft, "_on_vote", on_vote)


def reads_without_confirmation() -> Patch:
    """A leader answers reads without asking whether it still is one."""

    def confirm(self: Raft, done: Any) -> None:
        done(ok=self.is_leader)

    return mock.patch.object(Raft, "confirm", confirm)


def retries_applied_again() -> Patch:
    """The state machine does not recognise a repeated request."""
    inner = Ledger._one

    def one(self: Ledger, command: Command) -> bytes | None:
        self.answered.pop(command.client, None)
        return inner(self, command)

    return mock.patch.object(Ledger, "_one", one)


def snapshot_before_it_is_whole() -> Patch:
    """A received snapshot moves the log before its bytes are published."""

    def install(self: Any, node_id: str, incoming: Any) -> bool:
        self._incoming = None
        head = read_head(self._storage, INCOMING)
        restore_snapshot(self._storage, self._machine, INCOMING)
        self._abort_child()
        self._raft.installed(head.index, head.term, node_id)
        self._raft.flush()
        publish(self._storage, INCOMING)
        self._last_index = head.index
        self.on_restored(head)
        return True

    return mock.patch.object(SnapshotFlow, "_install", install)


def names_not_synced() -> Patch:
    """Renames are not waited for."""
    return mock.patch.object(SimulatedDisk, "sync_names", return_value=None)


def truncation_into_the_segment_before() -> Patch:
    """Dropping a whole segment cuts the one before it as well."""
    inner = Journal.truncate

    def truncate(self: Journal, start: int) -> None:
        segments = self._segments
        at = start - self.base_index
        cuts = len(segments) > 1 and segments[-1].first == start and at < len(self._offsets)
        offset = self._offsets[at] if cuts else 0
        inner(self, start)
        if cuts:
            segment = self._segments[-1]
            segment.size = self._written = self._synced = offset
            segment.file.truncate(offset)
            segment.file.sync()

    return mock.patch.object(Journal, "truncate", truncate)


MUTANTS: list[Callable[[], Patch]] = [
    no_fsync,
    no_vote_persistence,
    forgotten_vote,
    early_ack,
    leader_counts_itself_early,
    commits_old_terms,
    unfenced_apply,
    commit_beyond_verified,
    votes_counted_twice,
    reads_without_confirmation,
    retries_applied_again,
    snapshot_before_it_is_whole,
    names_not_synced,
    truncation_into_the_segment_before,
]
