"""A read is answered once a majority has confirmed the leadership and its index is applied, and not before."""

from __future__ import annotations

from collections.abc import Callable

from consensus import NotLeader
from consensus.barriers import ReadBarriers
from consensus.errors import ConsensusError
from consensus.ports import Confirmation
from tests.unit.consensus.soon import Soon


class Leader:
    """A leader whose checks end when the test says so."""

    def __init__(self) -> None:
        self.leads_its_term = True
        self.commit_index = 7
        self.applied_index = 5
        self.checks: list[Confirmation] = []

    def confirm(self, done: Confirmation) -> None:
        self.checks.append(done)


class Reads:
    """Which reads were told what."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int | None, bool]] = []

    def __call__(self, name: str) -> Callable[[int | None, ConsensusError | None], None]:
        return lambda index, error: self.told.append((name, index, isinstance(error, NotLeader)))


def made() -> tuple[ReadBarriers, Leader, Soon, Reads]:
    leader, soon = Leader(), Soon()
    return ReadBarriers(leader, soon, lambda: "b"), leader, soon, Reads()


def test_one_check_serves_all_that_gathered_before_it() -> None:
    """Who comes later needs a check of its own; all wait for the index from before their check."""
    barriers, leader, soon, reads = made()
    barriers.add(reads("first"))
    barriers.add(reads("second"))
    barriers.confirm()
    barriers.add(reads("late"))
    leader.commit_index = 9
    assert len(leader.checks) == 1
    leader.checks[0](ok=True)
    leader.applied_index = 6
    barriers.release()
    soon.run()
    assert reads.told == []
    leader.applied_index = 8
    barriers.release()
    soon.run()
    assert reads.told == [("first", 8, False), ("second", 8, False)]
    barriers.confirm()
    leader.checks[1](ok=True)
    soon.run()
    assert len(reads.told) == 2  # 9 is not applied yet
    assert [index for index, _ in barriers.applying] == [9]


def test_nothing_is_asked_before_the_leader_leads_its_term() -> None:
    barriers, leader, _, reads = made()
    barriers.add(reads("early"))
    leader.leads_its_term = False
    barriers.confirm()
    assert leader.checks == []
    leader.leads_its_term = True
    barriers.confirm()
    barriers.confirm()
    assert len(leader.checks) == 1


def test_a_check_that_fails_refuses_its_reads() -> None:
    barriers, leader, soon, reads = made()
    barriers.add(reads("a"))
    barriers.confirm()
    leader.checks[0](ok=False)
    soon.run()
    assert reads.told == [("a", None, True)]


def test_whoever_waits_hears_once_of_a_lost_leadership() -> None:
    """Those whose check is under way hear of it from that check."""
    barriers, leader, soon, reads = made()
    for name in ("applying", "asked", "gathered"):
        barriers.add(reads(name))
        if name != "gathered":
            barriers.confirm()
    leader.checks[0](ok=True)
    barriers.fail(NotLeader("b"))
    leader.checks[1](ok=False)
    barriers.fail(NotLeader("b"))
    soon.run()
    assert sorted(reads.told) == [("applying", None, True), ("asked", None, True), ("gathered", None, True)]
