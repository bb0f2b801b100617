"""PySyncObj 0.3.17 as Raft stands on it: the one file of a voter that imports it.

`StockRaft` starts the library on our journal and our messages, says what the library knows, and closes those parts of
it that are never used. What is overridden to make it safe is in `Raft`.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import pysyncobj.syncobj as library
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from consensus import messages as m
from consensus.errors import InvariantBroken
from consensus.journal import Entry, Journal
from consensus.pace import RaftTimes

LIBRARY_VERSION = "0.3.17"
# Its own clock is CLOCK_MONOTONIC_RAW, which drifts from the one that event loops and `SystemClock` read, by seconds a
# day: a leader would be late with its heartbeats by that much.
library.monotonicTime = time.monotonic
COMMAND, NO_OP = b"\x00", b"\x01"  # first byte of a log entry, as in the library
LEADER = 2  # of the library's states

Tell = Callable[[str, m.Message], bool]  # send a message to a voter; False if there is no link


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


class Wire(Transport):  # type: ignore[misc]
    """The library's outgoing messages, turned into ours."""

    ready = True

    def __init__(self, tell: Tell) -> None:
        super().__init__(None, None, None)
        self._tell = tell

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        """Translate and send; the library itself sends votes and requests for them, and hands over leadership."""
        match message["type"]:
            case "request_vote":
                term, index = message["term"], message["last_log_index"]
                return self._tell(node.id, m.RequestVote(term, index, message["last_log_term"]))
            case "response_vote":
                return self._tell(node.id, m.Vote(message["term"]))
            case "timeout_now":
                return self._tell(node.id, m.TimeoutNow(message["term"]))
            case other:
                raise InvariantBroken(f"the library sends a {other}, which is ours to send")


class Log:
    """Our journal under the names that the library calls."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __len__(self) -> int:
        return len(self._journal)

    def __getitem__(self, at: int | slice) -> Entry | list[Entry]:
        if isinstance(at, slice):
            return []  # the library would count and apply by itself: what it does not see is left to `Raft`
        if at == -1:
            return b"", self._journal.last_index, self._journal.last_term
        if at == 0:
            return b"", self._journal.base_index, self._journal.base_term
        raise InvariantBroken("the library reads the log only at its ends")

    def add(self, command: bytes, index: int, term: int) -> None:
        """Append an entry."""
        self._journal.append(command, index, term)

    def setCurrentTerm(self, term: int, vote: str | None) -> None:
        """Keep term and vote."""
        self._journal.set_vote(term, vote)

    def setRaftCommitIndex(self, index: int) -> None:
        """Nothing to keep: the commit index is learned again from the leader, so that it can't exceed the log."""

    def onOneSecondTimer(self) -> None:
        """Nothing to do."""


class _NoPoller:
    """The library's own sockets are never opened."""

    def poll(self, _seconds: float) -> None:
        """Return at once."""


class StockRaft(SyncObj):  # type: ignore[misc]
    """The library, begun from what is on disk; its overrides of the election must work before it is made."""

    def __init__(
        self,
        node_id: str,
        peers: Sequence[str],
        journal: Journal,
        times: RaftTimes,
        tell: Tell,
        state_changed: Callable[[int, int], None],
    ) -> None:
        if library.VERSION != LIBRARY_VERSION:
            raise InvariantBroken(f"made for pysyncobj {LIBRARY_VERSION}, not {library.VERSION}")
        low, high = times.election
        conf = SyncObjConf(
            autoTick=False,
            raftMinTimeout=low,
            raftMaxTimeout=high,
            appendEntriesPeriod=times.heartbeat,
            leaderFallbackTimeout=high,
            connectionTimeout=max(3.5, high),
            onStateChanged=state_changed,
        )
        super().__init__(voter(node_id), [voter(p) for p in peers], conf, nodeClass=Voter, transport=Wire(tell))
        # the library was started with an empty journal in memory
        self._poller = _NoPoller()
        self._SyncObj__raftLog = Log(journal)
        self._SyncObj__raftCurrentTerm = journal.term
        self._SyncObj__votedForNodeId = journal.vote
        self._SyncObj__raftCommitIndex = journal.base_index
        self._SyncObj__raftLastApplied = journal.base_index
        self._SyncObj__needLoadDumpFile = False

    # ---- what it knows

    @property
    def is_leader(self) -> bool:
        """Whether it believes to lead; another may have been elected since."""
        return bool(self._SyncObj__raftState == LEADER)

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

    # ---- parts that are never used (defects 11, 15, 18, 22)

    def _checkCommandsToApply(self) -> None:
        """Proposals enter by `Raft.propose` only."""

    def _SyncObj__tryLogCompaction(self) -> None:
        """Snapshots are taken by `Snapshots`."""

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:  # noqa: FBT001, N803
        raise InvariantBroken("the library must not load a dump")

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:
        raise InvariantBroken("the library must not apply")

    def _SyncObj__parseChangeClusterRequest(self, command: bytes) -> None:
        """Nothing in the log changes the voters."""
