"""Fitted ratings: against an independent library, against known strengths, and whatever order the log has."""

from __future__ import annotations

import random

import choix
import numpy as np
import pytest

from engine.rating.fit import SCALE, fit, orders, win_chances
from engine.rating.games import HEURISTIC, RANDOM, Disconnected, MixedConfigs, RatedGame, RatingError, rated
from tests.unit.engine.rating.leagues import league, names

ELOS = [400, 1000, 1150, 1300, 1500, 1520, 1700]


def centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()


def test_two_players_agree_with_an_independent_library() -> None:
    """Bradley-Terry by Newton here and by choix's iterative spectral ranking give the same strengths."""
    games = league(ELOS, 3000, 2, seed=1)
    place = {name: k for k, name in enumerate(names(len(ELOS)))}
    won = [tuple(place[s] for s in (g.seats if g.ranks[0] == 1 else g.seats[::-1])) for g in games]
    theirs = choix.ilsr_pairwise(len(ELOS), won)
    ours = fit(games, prior=False)
    mine = np.array([ours.parameters[ours.place(name)] for name in place])
    assert np.abs(centred(mine) - centred(theirs)).max() < 1e-6
    assert ours.model == "bradley-terry"


@pytest.mark.parametrize("seats", [3, 4])
def test_rankings_agree_with_an_independent_library(seats: int) -> None:
    """Plackett-Luce by Newton here and by choix's minorisation give the same strengths."""
    games = league(ELOS, 800, seats, seed=2)
    place = {name: k for k, name in enumerate(names(len(ELOS)))}
    rankings = [tuple(place[s] for _, s in sorted(zip(g.ranks, g.seats, strict=True))) for g in games]
    theirs = choix.mm_rankings(len(ELOS), rankings, max_iter=100_000, tol=1e-10)
    ours = fit(games, prior=False)
    mine = np.array([ours.parameters[ours.place(name)] for name in place])
    assert np.abs(centred(mine) - centred(theirs)).max() < 1e-5
    assert ours.model == "plackett-luce"


@pytest.mark.parametrize(("seats", "ties"), [(2, 0.0), (2, 0.2), (3, 0.0), (4, 0.1)])
def test_intervals_hold_the_true_strengths(seats: int, ties: float) -> None:
    """Over many leagues the 95 % intervals hold the known strengths in about 95 % of the cases."""
    held = total = 0
    flat = [400, *([700.0] * 3), *([850.0] * 3)] if ties else [400, 600, 700, 800, 900, 950, 1000]
    for seed in range(40):
        fitted = fit(league(flat, 500, seats, seed, ties=0.0))
        for name, elo in zip(names(len(flat)), flat, strict=True):
            row = fitted.standing(name)
            if name == RANDOM:
                assert (row.elo_milli, row.low_milli, row.high_milli) == (400_000, 400_000, 400_000)
                continue
            held += row.low_milli <= 1000 * elo <= row.high_milli
            total += 1
    assert 0.90 < held / total < 0.985, f"{held} of {total}"


def test_a_draw_is_half_a_win_for_each() -> None:
    """Two draws leave the same strengths as one win for each side."""
    a, b = RANDOM, HEURISTIC
    base = league(ELOS, 400, 2, seed=3)
    drawn = [RatedGame("square8_2p", (a, b), (1, 1), id=f"d{k}") for k in range(10)]
    decided = [RatedGame("square8_2p", (a, b), (1 + k % 2, 2 - k % 2), id=f"e{k}") for k in range(10)]
    left, right = fit(base + drawn), fit(base + decided)
    assert [row.elo_milli for row in left.standings()] == [row.elo_milli for row in right.standings()]


def test_davidson_finds_how_often_players_tie() -> None:
    """From games drawn by the model with tie parameter 1: a third of even games are draws."""
    rng = np.random.default_rng(4)
    games = []
    for k in range(2000):
        edge = 200 / SCALE / 2
        chances = np.exp([edge, -edge, 0.0])
        kind = rng.choice(3, p=chances / chances.sum())
        ranks = [(1, 2), (2, 1), (1, 1)][kind]
        seats = (HEURISTIC, RANDOM) if k % 2 else (RANDOM, HEURISTIC)
        games.append(RatedGame("c", seats, ranks if k % 2 else ranks[::-1], id=str(k)))
    fitted = fit(games, ties="davidson")
    assert fitted.tie == pytest.approx(1.0, abs=0.12)
    row = fitted.standing(HEURISTIC)
    assert row.low_milli < 600_000 < row.high_milli
    with pytest.raises(RatingError, match="two players"):
        fit(league(ELOS, 20, 3, seed=1), ties="davidson")


def test_the_log_in_any_order_gives_the_same_numbers() -> None:
    """To the last digit: the sums are of whole numbers."""
    games = league(ELOS, 600, 3, seed=5, ties=0.3)
    shuffled = games.copy()
    random.Random(1).shuffle(shuffled)
    assert fit(games).standings() == fit(shuffled).standings()


def test_configs_cannot_mix() -> None:
    """Ratings of two configs are on different scales: the fit refuses by type, and names both."""
    games = [RatedGame("square8_2p", ("a", "b"), (1, 2), id="1"), RatedGame("hex8_2p", ("a", "b"), (1, 2), id="2")]
    with pytest.raises(MixedConfigs, match=r"hex8_2p, square8_2p"):
        fit(games)
    with pytest.raises(RatingError, match="no games"):
        fit([])


def test_a_player_without_a_loss_needs_the_prior() -> None:
    """Without one its strength has no maximum; with one it is finite and its interval says how little is known."""
    games = [RatedGame("c", ("a", "b"), (1, 2), id=str(k)) for k in range(3)]
    with pytest.raises(Disconnected, match="play more"):
        fit(games, prior=False)
    fitted = fit(games)
    first = fitted.standing("a")
    assert fitted.elo("a") > fitted.elo("b")
    assert first.high_milli - first.low_milli > 1_000_000


def test_seats_shared_by_one_player() -> None:
    """A line-up of one against two of the same: chances of the seats add to one, and a fit finds the strength."""
    rng = np.random.default_rng(6)
    share = 10 ** (200 / 400) / (10 ** (200 / 400) + 2)
    games = []
    for k in range(3000):
        seats = [RANDOM, RANDOM]
        seats.insert(k % 3, HEURISTIC)
        winner = k % 3 if rng.random() < share else (k + 1 + int(rng.integers(2))) % 3
        games.append(RatedGame("c", tuple(seats), tuple(1 if s == winner else 2 for s in range(3)), id=str(k)))
    fitted = fit(games)
    chances = win_chances(fitted, (HEURISTIC, RANDOM, RANDOM))
    assert chances.sum() == pytest.approx(1)
    assert chances[0] > 0.45


def test_orders_agree_with_ranks() -> None:
    """Ties stand for all of their orders."""
    assert orders((2, 1)) == [(1, 0)]
    assert len(orders((1, 2, 2, 2))) == 6
    assert orders((1, 1, 3)) == [(0, 1, 2), (1, 0, 2)]


def test_a_match_log_is_read_once_without_what_was_revoked() -> None:
    """The same id counts once; revoked games and other configs do not; what is no match is refused by its place."""
    entry = {"id": "1", "config": "c", "seats": ["a", "b"], "ranks": [1, 2], "worker": "w"}
    log = [entry, entry, entry | {"id": "2", "revoked": True}, entry | {"id": "3", "config": "d"}]
    assert [game.id for game in rated(log, "c")] == ["1"]
    with pytest.raises(RatingError, match="entry 1"):
        rated([entry, {"id": "x", "config": "c", "seats": ["a"], "ranks": [1]}])
