"""The test that promotes: its error rates by simulation, its algebra, and what it counts."""

from __future__ import annotations

import math

import pytest

from benchmarks.sequential import ALPHA, BETA, ELO0, ELO1, WORLDS, World, label, measure, sets_of
from workqueue.sequential import SETS_MIN, Observed, judge, log_likelihood, points_of, share


@pytest.mark.parametrize("world", [WORLDS[0], WORLDS[4], WORLDS[5]], ids=label)
def test_wrong_verdicts_stay_within_their_bounds(world: World) -> None:
    """Over 1,000 matches, half of them at each hypothesis, wrong verdicts are not more frequent than was asked for."""
    kept = measure(world, ELO0, 500, seed=3)
    passed = measure(world, ELO1, 500, seed=3)
    assert kept["low"] <= ALPHA, f"type I: {kept}"
    assert 1 - passed["high"] <= BETA, f"type II: {passed}"
    assert kept["undecided"] == passed["undecided"] == 0
    assert kept["accepted"] < 0.5 < passed["accepted"]


def test_the_simulated_matches_have_the_points_they_should() -> None:
    """Without strength a player gets its share, and all candidate's seats count."""
    import numpy as np

    for world in WORLDS:
        points = sets_of(world, 0.0, 40_000, np.random.default_rng(1))
        assert points.shape == (40_000, world.players)
        assert points.mean() == pytest.approx(1 / world.players, abs=0.005)


def played(points: list[tuple[float, ...]]) -> list[Observed]:
    return [Observed(str(k), each) for k, row in enumerate(points) for each in row]


def test_stops_early_both_ways() -> None:
    """Clear wins accept, clear losses reject, even games decide nothing; few sets decide nothing either."""
    assert judge(played([(1.0, 1.0)] * 40), 2).verdict == "accept"
    assert judge(played([(0.0, 0.0)] * 40), 2).verdict == "reject"
    assert judge(played([(1.0, 0.0)] * 6), 2).verdict == "undecided"
    assert judge(played([(1.0, 1.0)] * (SETS_MIN - 1)), 2, elo1=400).verdict == "undecided"
    assert judge([], 2).verdict == "undecided"


def test_half_played_sets_do_not_count() -> None:
    """The luck of a seat would not cancel."""
    games = played([(1.0, 0.0)] * 10)
    assert judge([*games, Observed("x", 1.0)], 2) == judge(games, 2)


def test_the_likelihood_is_that_of_the_tilted_distribution() -> None:
    """At the observed mean nothing is tilted; two scores have a distribution that can be written down."""
    assert log_likelihood({0.0: 3.0, 0.5: 4.0, 1.0: 3.0}, 0.5) == pytest.approx(0.0, abs=1e-9)
    found = log_likelihood({0.0: 6.0, 1.0: 4.0}, 0.5)
    assert found == pytest.approx(6 * math.log(0.5 / 0.6) + 4 * math.log(0.5 / 0.4))


def test_points_and_shares() -> None:
    """First place is shared by those who tie; equal players expect equal parts."""
    assert points_of("a", ("a", "b"), (1, 1)) == 0.5
    assert points_of("a", ("b", "a", "b"), (1, 1, 2)) == 0.5
    assert share(0, 3) == pytest.approx(1 / 3)
    assert share(400, 2) == pytest.approx(10 / 11)
