"""Strengths of players fitted jointly over a match log, with 95 % intervals.

Two players: Bradley-Terry (1952), a draw being half a win for each, or Davidson's model (1970) with a parameter for
ties. Three and four: Plackett-Luce (Luce 1959, Plackett 1975) over the whole ranking; seats that tie count for every
order of theirs in equal parts, of which the half win is the case of two. One prior for all, wide enough not to matter
after a few games, keeps the strength of a player without a loss finite. The random player is pinned, so that scales of
different days can be compared; how far the heuristic comes out is the second anchor.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.rating.choices import Array, Choices, probabilities, solve
from engine.rating.games import HEURISTIC, RANDOM, Disconnected, RatedGame, RatingError, config_of

SCALE = 400 / math.log(10)  # Elo points of one unit of log-odds
PINNED: Mapping[str, float] = {RANDOM: 400.0}
PRIOR_ELO, PRIOR_SPREAD = 1200.0, 1000.0
TIE_MEAN, TIE_SPREAD = -2.0, 3.0  # of the logarithm of Davidson's parameter
WHOLE = 24  # orders of four seats: every weight is a whole number of 24ths, so sums do not depend on their order
NORMAL_95 = 1.959964
Ties = Literal["half", "davidson"]


class Standing(msgspec.Struct, frozen=True):
    """A player's rating with its 95 % interval, in thousandths of an Elo point."""

    player: str
    elo_milli: int
    low_milli: int
    high_milli: int
    games: int


class Fitted:
    """Strengths of the players of one config."""

    def __init__(
        self, config: str, model: str, players: Sequence[str], games: Counter[str], pinned: Mapping[str, float],
        parameters: Array, covariance: Array, *, converged: bool,
    ) -> None:  # fmt: skip
        self.config, self.model, self.players, self.games = config, model, tuple(players), games
        self.pinned = {player: elo for player, elo in pinned.items() if player in games}
        self.parameters = parameters  # [players, and the tie parameter if the model has one]
        self.covariance = covariance  # of the same; 0 for those pinned
        self.converged = converged

    def place(self, player: str) -> int:
        """Return a player's place among the parameters; raises RatingError."""
        if player not in self.players:
            raise RatingError(f"{player} has no game in {self.config}")
        return self.players.index(player)

    def elo(self, player: str) -> float:
        """Return a player's rating."""
        return float(self.parameters[self.place(player)]) * SCALE

    def difference(self, first: str, second: str) -> tuple[float, float]:
        """Return how far the first is ahead, and the standard error of that; both in Elo points."""
        a, b, c = self.place(first), self.place(second), self.covariance
        variance = float(c[a, a] + c[b, b] - 2 * c[a, b])
        return self.elo(first) - self.elo(second), math.sqrt(max(0.0, variance)) * SCALE

    @property
    def tie(self) -> float | None:
        """Return Davidson's tie parameter, None for models without one."""
        return float(np.exp(self.parameters[-1])) if len(self.parameters) > len(self.players) else None

    def standing(self, player: str) -> Standing:
        """Return the rating of a player."""
        place = self.place(player)
        elo, half = self.elo(player), NORMAL_95 * math.sqrt(max(0.0, float(self.covariance[place, place]))) * SCALE
        low, high = round(1000 * (elo - half)), round(1000 * (elo + half))
        return Standing(player, round(1000 * elo), low, high, self.games[player])

    def standings(self) -> tuple[Standing, ...]:
        """Return all ratings, best first."""
        rows = [self.standing(player) for player in self.players]
        return tuple(sorted(rows, key=lambda row: (-row.elo_milli, row.player)))

    @property
    def second_anchor(self) -> Standing | None:
        """Return where the heuristic came out, None if it did not play."""
        return self.standing(HEURISTIC) if HEURISTIC in self.players else None


def orders(ranks: Sequence[int]) -> list[tuple[int, ...]]:
    """Return every order of the seats, best first, that agrees with their ranks."""
    groups = [[seat for seat, rank in enumerate(ranks) if rank == each] for each in sorted(set(ranks))]
    parts = itertools.product(*(itertools.permutations(group) for group in groups))
    return [tuple(itertools.chain.from_iterable(part)) for part in parts]


def stages(games: Iterable[RatedGame], place: Mapping[str, int]) -> Choices:
    """Return the choices of Plackett-Luce: the best of all seats, then the best of those left, and so on."""
    rows: dict[tuple[int, ...], Counter[int]] = {}
    for (seats, ranks), times in sorted(Counter((game.seats, game.ranks) for game in games).items()):
        ways = orders(ranks)
        for order in ways:
            left = [place[seats[seat]] for seat in order]
            while len(set(left)) > 1:  # a choice among one player's own seats says nothing
                rows.setdefault(tuple(sorted(left)), Counter())[left[0]] += times * WHOLE // len(ways)
                left = left[1:]
    width = max((len(row) for row in rows), default=2)
    index = np.zeros((len(rows), width, 1), np.int64)
    real, counts = np.zeros((len(rows), width), bool), np.zeros((len(rows), width))
    for k, row in enumerate(sorted(rows)):
        index[k, : len(row), 0] = np.array(row)
        real[k, : len(row)] = True
        for chosen, times in rows[row].items():
            counts[k, row.index(chosen)] = times / WHOLE
    return Choices(index, real[:, :, None].astype(float), real, counts)


def davidson(games: Iterable[RatedGame], place: Mapping[str, int]) -> Choices:
    """Return the choices of Davidson's model: the first wins, the second wins, or they tie (two players)."""
    pairs: dict[tuple[int, int], list[int]] = {}
    for game in games:
        (a, b), (rank_a, rank_b) = (place[seat] for seat in game.seats), game.ranks
        if a != b:
            kind = 2 if rank_a == rank_b else int((rank_b < rank_a) != (b < a))
            pairs.setdefault((min(a, b), max(a, b)), [0, 0, 0])[kind] += 1
    tie, n = len(place), len(pairs)
    index, coefficient = np.zeros((n, 3, 3), np.int64), np.zeros((n, 3, 3))
    for k, (a, b) in enumerate(sorted(pairs)):
        index[k] = np.array([[a, 0, 0], [b, 0, 0], [a, b, tie]])
        coefficient[k] = np.array([[1.0, 0, 0], [1, 0, 0], [0.5, 0.5, 1]])
    counts = np.array([pairs[pair] for pair in sorted(pairs)], float).reshape(n, 3)
    return Choices(index, coefficient, np.ones((n, 3), bool), counts)


def choices_of(games: Sequence[RatedGame], place: Mapping[str, int], ties: Ties) -> Choices:
    """Return the games as choices of the model."""
    return davidson(games, place) if ties == "davidson" else stages(games, place)


def fit(
    games: Sequence[RatedGame],
    *,
    pinned: Mapping[str, float] = PINNED,
    ties: Ties = "half",
    prior: bool = True,
) -> Fitted:
    """Fit the strengths of all players of one config.

    Raises MixedConfigs for games of several, RatingError without games, and Disconnected when there is no prior and
    some players' results do not tie them to the others (Ford 1957).
    """
    config = config_of(games)
    seats = {len(game.seats) for game in games}
    if ties == "davidson" and seats != {2}:
        raise RatingError("Davidson's model is for two players: leave ties at 'half'")
    counted = Counter(player for game in games for player in set(game.seats))
    players = sorted(counted)
    place = {player: k for k, player in enumerate(players)}
    choices = choices_of(games, place, ties)
    if not prior:
        require_connected(choices, players)
    size = len(players) + (ties == "davidson")
    mean, weight = np.full(size, PRIOR_ELO / SCALE), np.full(size, (SCALE / PRIOR_SPREAD) ** 2 if prior else 0.0)
    if ties == "davidson":
        mean[-1], weight[-1] = TIE_MEAN, 1 / TIE_SPREAD**2
    free = np.ones(size, bool)
    start = mean.copy()
    for player in pinned.keys() & place.keys():
        start[place[player]], free[place[player]] = pinned[player] / SCALE, False
        weight[place[player]] = 0.0
    if not prior and free[: len(players)].all():  # without an anchor or a prior the scale is free: fix its first player
        free[0] = False
    solution = solve(choices, start, free, mean, weight)
    covariance = np.zeros((size, size))
    covariance[np.ix_(free, free)] = np.linalg.inv(solution.information[np.ix_(free, free)])
    name = "davidson" if ties == "davidson" else "bradley-terry" if seats == {2} else "plackett-luce"
    return Fitted(config, name, players, counted, pinned, solution.parameters, covariance, converged=solution.converged)


def require_connected(choices: Choices, players: Sequence[str]) -> None:
    """Raise Disconnected unless everyone is tied to everyone by a chain of being chosen before another."""
    n = len(players)
    beats: NDArray[np.bool_] = np.eye(n, dtype=bool)
    for row in range(len(choices.places)):
        members = {int(choices.places[row, k, 0]) for k in np.flatnonzero(choices.real[row])} - {n}
        for k in np.flatnonzero(choices.counts[row]):
            winners = [int(i) for i, c in zip(choices.places[row, k], choices.coefficient[row, k], strict=True) if c]
            for winner in set(winners) - {n}:
                beats[winner, list(members)] = True
    for middle in range(n):
        beats |= np.outer(beats[:, middle], beats[middle])
    alone = [player for k, player in enumerate(players) if not (beats[0, k] and beats[k, 0])]
    if alone:
        raise Disconnected(
            f"no chain of wins and losses ties {', '.join(alone[:5])} to {players[0]}: play more, or fit with a prior"
        )


def win_chances(fitted: Fitted, seats: Sequence[str]) -> Array:
    """Return the chance of each seat to come first (Plackett-Luce)."""
    places = np.array([[[fitted.place(player)] for player in seats]])
    ones = np.ones(places.shape)
    chances: Array = probabilities(Choices(places, ones, ones[:, :, 0] > 0, ones[:, :, 0]), fitted.parameters)[0]
    return chances
