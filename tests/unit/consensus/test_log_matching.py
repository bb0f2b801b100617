"""A follower's log after a message of the leader, for every way in which the two may differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.errors import InvariantBroken
from consensus.journal import Journal
from consensus.log_matching import merge, retreat
from consensus.messages import Append
from consensus.storage import DiskStorage


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Entries 11..16 of the terms 1 1 2 2 2 3 behind a snapshot of (10, 1)."""
    made = Journal(DiskStorage(tmp_path))
    made.reset(10, 1)
    for index, term in enumerate((1, 1, 2, 2, 2, 3), 11):
        made.append(b"old", index, term)
    return made


def append(prev: tuple[int, int], *terms: int) -> Append:
    entries = [(b"new", prev[0] + 1 + at, term) for at, term in enumerate(terms)]
    return Append(4, 0, prev[0], prev[1], entries)


def terms(journal: Journal) -> list[int | None]:
    return [journal.term_at(index) for index in range(11, journal.last_index + 1)]


@pytest.mark.parametrize(
    ("message", "verified", "after"),
    [
        (append((16, 3), 4, 4), 18, [1, 1, 2, 2, 2, 3, 4, 4]),  # goes on where ours ends
        (append((12, 1), 2), 13, [1, 1, 2, 2, 2, 3]),  # late: what follows is neither removed nor vouched for
        (append((12, 1)), 12, [1, 1, 2, 2, 2, 3]),  # a heartbeat in the middle
        (append((13, 2), 2, 4), 15, [1, 1, 2, 2, 4]),  # conflicts with 15: cut off from there
        (append((8, 0), 1, 1, 1, 1, 2, 2), 14, [1, 1, 2, 2, 2, 3]),  # begins inside the snapshot
        (append((7, 1), 1), 8, [1, 1, 2, 2, 2, 3]),  # ends inside the snapshot
        (append((17, 3), 4), None, [1, 1, 2, 2, 2, 3]),  # leaves a gap
        (append((15, 3), 4), None, [1, 1, 2, 2, 2, 3]),  # of another term
    ],
)
def test_logs_are_merged_by_matching(journal: Journal, message: Append, verified: int | None, after: list[int]) -> None:
    assert merge(journal, message, 12) == verified
    assert terms(journal) == after
    assert journal.entry(12)[0] == b"old"  # what matched was not written again


def test_a_committed_entry_is_never_cut_off(journal: Journal) -> None:
    """Such a leader breaks Raft; the last entry behind the commit index may still go."""
    with pytest.raises(InvariantBroken, match="committed entry 15"):
        merge(journal, append((13, 2), 2, 4), 15)
    assert terms(journal) == [1, 1, 2, 2, 2, 3]
    assert merge(journal, append((13, 2), 2, 4), 14) == 15


@pytest.mark.parametrize(("prev_index", "back_to"), [(30, 17), (17, 17), (16, 16), (15, 13), (14, 13), (12, 11)])
def test_a_leader_goes_back_over_a_whole_term(journal: Journal, prev_index: int, back_to: int) -> None:
    """To our end if we have less, else before the term that conflicts, never into the snapshot."""
    assert retreat(journal, prev_index) == back_to
