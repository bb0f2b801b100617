"""Residual tests: honest leagues pass, invented results and cycles are found."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scipy.stats import chi2

from engine.rating.fit import fit
from engine.rating.games import RatedGame
from engine.rating.residuals import chi_square_tail, contamination, holm, intransitivity
from tests.unit.engine.rating.leagues import league, names

ELOS = [400, 1000, 1200, 1300, 1400, 1450]


def test_the_tail_is_that_of_chi_square() -> None:
    """Against scipy, from the middle to far out."""
    for degrees in (1, 2, 5, 30):
        for x in (0.1, 1.0, 5.0, 20.0, 90.0):
            assert chi_square_tail(x, degrees) == pytest.approx(chi2.sf(x, degrees), rel=1e-9)


def test_holm_rejects_step_by_step() -> None:
    """The smallest is held against level/n, the next against level/(n-1)."""
    assert holm([0.2, 0.001, 0.0034, 0.04], 0.01) == [False, True, False, False]
    assert holm([0.2, 0.001, 0.0033, 0.04], 0.01) == [False, True, True, False]
    assert holm([]) == []


@pytest.mark.parametrize("seats", [2, 3])
def test_honest_workers_are_rarely_flagged(seats: int) -> None:
    """At a level of 1 % for all workers together, a few of 40 leagues at most."""
    alarms = 0
    for seed in range(40):
        games = league(ELOS, 400, seats, seed, workers=5)
        alarms += any(each.flagged for each in contamination(games))
    assert alarms <= 3


@pytest.mark.parametrize("seats", [2, 3])
def test_a_worker_that_invents_results_is_found(seats: int) -> None:
    """One of five workers lets one player win most of the games it should not: it is flagged, no other is."""
    rng = np.random.default_rng(1)
    friend = names(len(ELOS))[2]
    games = []
    for game in league(ELOS, 1500, seats, 7, workers=5):
        if game.worker == "w3" and friend in game.seats and rng.random() < 0.8:
            seat = game.seats.index(friend)
            swapped = list(game.ranks)
            first = swapped.index(1)
            swapped[seat], swapped[first] = 1, game.ranks[seat]
            game = msgspec.structs.replace(game, ranks=tuple(swapped))
        games.append(game)
    found = contamination(games)
    assert [each.worker for each in found if each.flagged] == ["w3"]
    assert found[0].player == friend
    assert found[0].z > 3


def test_near_certain_games_do_not_raise_alarms() -> None:
    """A lucky win against a far stronger player is rare but no proof: small expectations are simulated."""
    alarms = 0
    for seed in range(40):
        games = league([400, 1100, 1150, 1200], 300, 2, 100 + seed, workers=6)
        alarms += any(each.flagged for each in contamination(games))
    assert alarms <= 3


def test_a_cycle_is_found_and_a_scale_is_not() -> None:
    """Rock, scissors, paper cannot be put on one scale; a league that can gives no alarm."""
    rng = np.random.default_rng(2)
    games = []
    for k in range(600):
        a, b = [("a", "b"), ("b", "c"), ("c", "a")][k % 3]
        win = rng.random() < 0.75
        games.append(RatedGame("c", (a, b), (1, 2) if win else (2, 1), id=str(k)))
    found = intransitivity(games, fit(games))
    assert sum(each.flagged for each in found) == 3
    alarms = 0
    for seed in range(40):
        honest = league(ELOS, 600, 2 + seed % 2, seed)
        alarms += any(each.flagged for each in intransitivity(honest, fit(honest)))
    assert alarms <= 3
