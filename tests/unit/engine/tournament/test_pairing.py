"""Who meets whom: every format's promise, and a crosstable that adds up."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from engine.players.player import PlayerConfig, make
from engine.rules.geometry import geometry
from engine.threads import use
from engine.tournament.crosstable import crosstable, draw_crosstable, text_table
from engine.tournament.pairing import gain, met_counts, next_round, posterior
from engine.tournament.play import MatchSpec, play


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Threads wait for each other for ever where other programs keep the processors busy."""
    use(1)


class Game(NamedTuple):
    seats: tuple[int, ...]
    ranks: tuple[int, ...]


def played_out(form: str, entrants: int, players: int, rounds: int, seed: int = 1) -> list[Game]:
    """Play rounds in which the entrant of the lower number tends to win."""
    rng = np.random.default_rng(seed)
    games: list[Game] = []
    for _ in range(rounds):
        for lineup in next_round(form, entrants, players, games, seed):
            order = np.argsort([each * 0.8 + rng.gumbel() for each in lineup])
            ranks = np.empty(len(lineup), int)
            ranks[order] = np.arange(1, len(lineup) + 1)
            games.append(Game(lineup, tuple(int(r) for r in ranks)))
    return games


@pytest.mark.parametrize("entrants", [4, 7, 12])
def test_swiss_pairs_nobody_twice_and_lets_all_play(entrants: int) -> None:
    """In as many rounds as a Swiss tournament has, nobody meets anyone twice or sits out twice."""
    rounds = max(2, int(np.ceil(np.log2(entrants))))
    games = played_out("swiss", entrants, 2, rounds)
    assert max(met_counts(games).values()) == 1
    count = Counter(seat for game in games for seat in game.seats)
    assert set(count) == set(range(entrants))
    assert max(count.values()) - min(count.values()) <= 1


def test_swiss_pairs_like_with_like() -> None:
    """After the first rounds, scores of those who meet are closer than those of any two."""
    games = played_out("swiss", 16, 2, 4)
    points = Counter(dict.fromkeys(range(16), 0))
    for game in games:
        points[game.seats[game.ranks.index(1)]] += 1
    paired = [abs(points[a] - points[b]) for a, b in next_round("swiss", 16, 2, games, 1)]
    anyone = [abs(points[a] - points[b]) for a, b in itertools.combinations(range(16), 2)]
    assert np.mean(paired) < 0.5 * np.mean(anyone)


def test_swiss_goes_on_when_everyone_has_met() -> None:
    """More rounds than opponents: pairs repeat as little as they must."""
    games = played_out("swiss", 4, 2, 9)
    assert set(met_counts(games).values()) == {3}


@pytest.mark.parametrize("players", [3, 4])
def test_swiss_fills_tables(players: int) -> None:
    """Tables of three and four, everyone at most once a round; too few entrants fill the seats in both ways."""
    lineups = next_round("swiss", 10, players, [], 3)
    assert len(lineups) == 10 // players
    seated = [seat for lineup in lineups for seat in lineup]
    assert len(seated) == len(set(seated))
    assert sorted(next_round("swiss", 2, 3, [], 1)) == [(0, 1, 1), (1, 0, 0)]


def test_information_prefers_what_is_not_known() -> None:
    """Games between two whose strengths are known tell less than one with a newcomer, or between equals."""
    rng = np.random.default_rng(1)
    known = [Game((a, b), (1, 2) if rng.random() < 0.5 else (2, 1)) for a, b in [(0, 1), (1, 2), (0, 2)] * 40]
    mean, covariance = posterior(4, known)
    assert gain((2, 3), mean, covariance, 2)[0] > 5 * gain((0, 1), mean, covariance, 2)[0]
    assert all(3 in lineup for lineup in next_round("information", 4, 2, known, 1)[:1])
    lopsided = [*known, *(Game((0, 3), (1, 2)) for _ in range(60))]
    mean, covariance = posterior(4, lopsided)
    assert gain((0, 1), mean, np.eye(4), 2)[0] > gain((0, 3), mean, np.eye(4), 2)[0]


def test_information_narrows_more_than_round_robin() -> None:
    """With as many games, intervals of the strengths shrink at least as far, for two players and three."""
    for players in (2, 3):
        budget = 36
        adaptive = played_out("information", 7, players, budget // (7 // players) + 1)[:budget]
        fixed = played_out("round_robin", 7, players, 2)[:budget]
        left = [np.linalg.slogdet(posterior(7, games)[1])[1] for games in (adaptive, fixed)]
        assert left[0] < left[1]


def test_a_round_has_no_line_up_twice() -> None:
    """It would be the same opening twice: the same games."""
    for players in (2, 3):
        lineups = next_round("information", 8, players, [], 1)
        assert len(set(lineups)) == len(lineups) == 8 // players


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(ValueError, match="round_robin, gauntlet, swiss, information"):
        next_round("knockout", 4, 2, [], 1)
    with pytest.raises(ValueError, match="two players"):
        next_round("swiss", 1, 2, [], 1)


@pytest.mark.parametrize("form", ["round_robin", "swiss", "information"])
def test_tournaments_are_played_in_whole_sets(form: str) -> None:
    """Every opening is played by every seating of its line-up, ids are unique, and a replay is the same."""
    where = geometry("square8", 2)
    players = [make(PlayerConfig("random"), where) for _ in range(4)]
    spec = MatchSpec(board="square8", players=2, games=16, seed=5, format=form)
    games = play(spec, players, ["a", "b", "c", "d"])
    assert len(games) >= 16
    assert len({game.id for game in games}) == len(games)
    sets = Counter((game.opening, tuple(sorted(game.seats))) for game in games)
    assert set(sets.values()) == {2}
    assert [game.ranks for game in play(spec, players, ["a", "b", "c", "d"])] == [game.ranks for game in games]


def test_the_crosstable_adds_up(tmp_path: Path) -> None:
    """What one scores and the other scores against it are all of their games; best first; a picture on request."""
    games = played_out("round_robin", 5, 3, 4)
    table = crosstable([f"p{k}" for k in range(5)], games)
    assert np.allclose(table.score + table.score.T, table.games)
    assert table.points.sum() == len(games)
    shares = table.points / table.played
    assert list(shares) == sorted(shares, reverse=True)
    assert table.names[0] == "p0"
    assert text_table(table, ["1"] * 5).row_count == 5
    assert draw_crosstable(table, tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_the_crosstable_by_hand() -> None:
    """A tie is half a point for either and first place is shared; who wins more of fewer games stands higher."""
    games = [Game((0, 1, 2), (1, 1, 3)), Game((0, 1, 2), (2, 3, 1)), Game((2, 0), (2, 1)), Game((0, 1), (2, 1))]
    games += [Game((1, 2), (2, 1)), Game((3, 1), (1, 2))]
    table = crosstable(["a", "b", "c", "d"], games)
    assert table.names == ("d", "c", "a", "b")
    assert table.order == (3, 2, 0, 1)
    assert table.points == pytest.approx([1, 2, 1.5, 1.5])
    assert list(table.played) == [1, 4, 4, 5]
    assert table.score.tolist() == [[0, 0, 0, 1], [0, 0, 1, 2], [0, 2, 0, 1.5], [0, 1, 1.5, 0]]
    assert table.games.tolist() == [[0, 0, 0, 1], [0, 0, 3, 3], [0, 3, 0, 3], [1, 3, 3, 0]]
