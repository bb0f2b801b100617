"""A majority counts once, in its own round, whatever the network repeats or delays."""

from __future__ import annotations

from consensus.rounds import LeadershipChecks, PreVotes


class Told:
    """What was heard of a check."""

    def __init__(self) -> None:
        self.answers: list[bool] = []

    def __call__(self, *, ok: bool) -> None:
        self.answers.append(ok)


def test_a_majority_of_pre_votes_ends_its_round() -> None:
    """Of five voters two others suffice, and two grants of one are one."""
    votes = PreVotes(majority=3)
    number = votes.begin()
    assert votes.is_open(number)
    assert not votes.grant("b")
    assert not votes.grant("b")
    assert votes.grant("c")
    assert not votes.is_open(number)


def test_a_new_round_of_pre_votes_forgets_the_last() -> None:
    votes = PreVotes(majority=3)
    first = votes.begin()
    votes.grant("b")
    second = votes.begin()
    assert not votes.is_open(first)
    assert votes.is_open(second)
    assert not votes.grant("c")


def test_a_check_is_confirmed_by_a_majority_once() -> None:
    """Checks that are under way together don't mix."""
    checks, first, second = LeadershipChecks(majority=3), Told(), Told()
    one, two = checks.begin(7, first), checks.begin(7, second)
    checks.answer("b", one, 7)
    checks.answer("b", one, 7)
    checks.answer("c", two, 7)
    assert (first.answers, second.answers) == ([], [])
    checks.answer("c", one, 7)
    checks.answer("d", one, 7)
    assert (first.answers, second.answers) == ([True], [])


def test_a_check_of_an_earlier_leadership_confirms_nothing() -> None:
    checks, told = LeadershipChecks(majority=2), Told()
    checks.answer("b", checks.begin(7, told), 9)
    assert told.answers == [False]


def test_a_lost_leadership_ends_all_checks() -> None:
    """What is answered afterwards is ignored."""
    checks, told = LeadershipChecks(majority=2), Told()
    number = checks.begin(7, told)
    checks.fail()
    checks.answer("b", number, 7)
    assert told.answers == [False]
