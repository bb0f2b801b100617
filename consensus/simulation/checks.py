"""What must hold after every event: the properties of Raft's figure 3, and that no acknowledged write is lost."""

import zlib
from typing import TYPE_CHECKING

from consensus.entry import entry_head
from consensus.errors import ConsensusError, StorageFailed
from consensus.journal import Entry

if TYPE_CHECKING:
    from consensus.simulation.voter import SimulatedVoter


class Violation(AssertionError):
    """A safety or liveness property does not hold."""


class Checks:
    """The history of one world, and every property checked against it."""

    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}  # term -> leader
        self.entries: dict[tuple[int, int], tuple[int, int]] = {}  # (index, term) -> (checksum, previous term)
        self.committed: dict[int, int] = {}  # index -> term
        self.committed_in: dict[int, int] = {}  # index -> the term whose leader committed it
        self.last_committed = 0
        self.applied: dict[int, int] = {}  # index -> checksum
        self.digests: dict[int, bytes] = {}  # applied index -> digest of the state
        self.stamps: dict[int, int] = {}  # index -> time in the entry
        self._leading: dict[str, int] = {}  # voter -> the term of the leadership last checked

    def started(self, voter: "SimulatedVoter") -> None:
        """A voter begins with what its disk holds."""
        voter.seen_entry = voter.driver.raft.journal.entry(voter.driver.raft.journal.base_index)
        voter.seen_commit = voter.seen_applied = voter.driver.raft.applied_index
        self._check_digest(voter)
        self._check_log(voter)

    def after(self, voter: "SimulatedVoter") -> None:
        """Check a voter after an event."""
        driver = voter.driver
        if driver.failure is not None:
            self._check_failure(voter, driver.failure)
            return
        raft = driver.raft
        if raft.journal.entry(raft.journal.last_index) is not voter.seen_entry:
            self._check_log(voter)
        if raft.commit_index != voter.seen_commit:
            self._check_commit(voter)
        if raft.applied_index != voter.seen_applied:
            voter.seen_applied = raft.applied_index
            self._check_digest(voter)
        if raft.is_leader and self._leading.get(voter.name) != raft.term:
            self._check_leader(voter)

    def note_applied(self, voter: "SimulatedVoter", index: int, entry: bytes) -> None:
        """State-machine safety: no two voters apply different entries at one index."""
        checksum = zlib.crc32(entry)
        if self.applied.setdefault(index, checksum) != checksum:
            raise Violation(f"{voter.name} applied another entry at {index} than a voter before it")
        if index > voter.driver.raft.commit_index:
            raise Violation(f"{voter.name} applied {index}, beyond its commit index {voter.driver.raft.commit_index}")
        self.stamps[index] = entry_head(entry)[0]

    def _check_failure(self, voter: "SimulatedVoter", failure: ConsensusError) -> None:
        if not isinstance(failure, StorageFailed):
            raise Violation(f"{voter.name} stopped: {failure!r}") from failure

    def _check_leader(self, voter: "SimulatedVoter") -> None:
        """Election safety and leader completeness."""
        raft = voter.driver.raft
        self._leading[voter.name] = raft.term
        if self.leaders.setdefault(raft.term, voter.name) != voter.name:
            raise Violation(f"term {raft.term} has two leaders: {self.leaders[raft.term]} and {voter.name}")
        for index in range(raft.journal.base_index + 1, self.last_committed + 1):
            term = self.committed.get(index)
            # a vote that came late may still make somebody leader of a term before the one that committed
            if term is not None and self.committed_in[index] < raft.term and raft.journal.term_at(index) != term:
                raise Violation(f"{voter.name} leads term {raft.term} without the committed entry ({index}, {term})")

    def _check_log(self, voter: "SimulatedVoter") -> None:
        """Log matching: the same index and term mean the same entry after the same predecessor."""
        journal = voter.driver.raft.journal
        index = journal.last_index
        while index > journal.base_index:
            entry = journal.entry(index)
            if entry is voter.seen_entry:
                break
            before = journal.term_at(index - 1)
            self._check_entry(voter, entry, -1 if before is None else before)
            index -= 1
        voter.seen_entry = journal.entry(journal.last_index)

    def _check_entry(self, voter: "SimulatedVoter", entry: Entry, before: int) -> None:
        command, index, term = entry
        found = zlib.crc32(command), before
        known = self.entries.setdefault((index, term), found)
        if known != found:
            raise Violation(f"{voter.name} holds another entry ({index}, {term}) than a voter before it")

    def _check_commit(self, voter: "SimulatedVoter") -> None:
        raft = voter.driver.raft
        if raft.commit_index < voter.seen_commit:
            raise Violation(f"{voter.name} took its commit index back from {voter.seen_commit} to {raft.commit_index}")
        if raft.commit_index > raft.journal.last_index:
            raise Violation(f"{voter.name} commits {raft.commit_index}, beyond its log")
        for index in range(voter.seen_commit + 1, raft.commit_index + 1):
            term = raft.journal.term_at(index)
            if term is None:  # covered by a snapshot, whose digest is compared
                continue
            self.committed_in[index] = min(raft.term, self.committed_in.get(index, raft.term))
            if self.committed.setdefault(index, term) != term:
                raise Violation(f"two entries are committed at {index}: terms {self.committed[index]} and {term}")
        voter.seen_commit = raft.commit_index
        self.last_committed = max(self.last_committed, raft.commit_index)

    def _check_digest(self, voter: "SimulatedVoter") -> None:
        index, digest = voter.driver.raft.applied_index, voter.machine.digest()
        if self.digests.setdefault(index, digest) != digest:
            raise Violation(f"{voter.name} has another state at {index} than a voter before it")

    def check_stamps(self) -> None:
        """Time in the log never goes backwards, whatever the clocks did."""
        last = 0
        for index in sorted(self.stamps):
            if self.stamps[index] < last:
                raise Violation(f"time goes backwards at index {index}")
            last = self.stamps[index]
