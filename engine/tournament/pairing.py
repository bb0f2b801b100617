"""Who meets whom: fixed tables, and rounds that look at what was played so far.

Round robin: every line-up. Gauntlet: the first against each other entrant. Swiss: those with like scores, who have not
met. Information: the line-ups that narrow the ratings most, by the posterior of a joint fit (the gain in the
determinant of the Fisher information, as in D-optimal design; Fedorov 1972). Seats are filled with the second of a pair
when there are fewer entrants than seats.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from engine.rating.choices import Array
from engine.rating.fit import PRIOR_ELO, PRIOR_SPREAD, SCALE, fit
from engine.rating.games import RatedGame

Lineup = tuple[int, ...]
FORMATS = ("round_robin", "gauntlet", "swiss", "information")
ADAPTIVE = ("swiss", "information")
CANDIDATES_MAX = 2_000
STEPS_MAX = 20_000  # of looking for a round without repetitions


class Result(Protocol):
    """What pairing sees of a finished game: places in the list of entrants by seat, and their ranks."""

    @property
    def seats(self) -> tuple[int, ...]:
        """Entrants by seat."""

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks by seat, 1 the best."""


def lineups(form: str, entrants: int, players: int) -> list[Lineup]:
    """Return the table of a fixed format, or every line-up there is for the others; raises ValueError."""
    if form not in FORMATS:
        raise ValueError(f"format {form!r}: choose one of {', '.join(FORMATS)}")
    if entrants < 2:
        raise ValueError("a match needs two players or more")
    if form == "gauntlet":
        return [(0, *([other] * (players - 1))) for other in range(1, entrants)]
    if entrants >= players:
        return list(itertools.combinations(range(entrants), players))
    return [(a, *([b] * (players - 1))) for a, b in itertools.permutations(range(entrants), 2)]


def next_round(form: str, entrants: int, players: int, played: Sequence[Result], seed: int) -> list[Lineup]:
    """Return the line-ups of the next round; equal games and seeds give equal rounds."""
    table = lineups(form, entrants, players)
    if form == "swiss":
        return swiss(entrants, players, played, seed)
    if form == "information":
        return informative(table, entrants, players, played, seed)
    return table


# ---- Swiss


def standing(entrants: int, played: Sequence[Result], seed: int) -> list[int]:
    """Return the entrants by mean points a game, best first; drawn by lot where equal."""
    points, games = np.zeros(entrants), np.zeros(entrants)
    for game in played:
        first = game.ranks.count(1)
        for seat, rank in zip(game.seats, game.ranks, strict=True):
            points[seat] += 1 / first if rank == 1 else 0.0
            games[seat] += 1
    mean = points / np.maximum(1, games)
    lots = np.random.default_rng(seed).permutation(entrants)
    return sorted(range(entrants), key=lambda k: (-mean[k], lots[k]))


def met_counts(played: Sequence[Result]) -> Counter[tuple[int, int]]:
    """Return how many games each pair of entrants, the lower first, has had together."""
    met: Counter[tuple[int, int]] = Counter()
    for game in played:
        met.update(itertools.combinations(sorted(set(game.seats)), 2))
    return met


def swiss(entrants: int, players: int, played: Sequence[Result], seed: int) -> list[Lineup]:
    """Pair those with like scores who have met least; who is left over has sat out least."""
    table = min(players, entrants)
    order = standing(entrants, played, seed)
    games = Counter(seat for game in played for seat in set(game.seats))
    spare = entrants % table
    # The lowest of those who played most sit out.
    out = sorted(order, key=lambda k: (-games[k], -order.index(k)))[:spare]
    order = [k for k in order if k not in out]
    met = met_counts(played)
    groups = _pairs(order, met) if table == 2 else _groups(order, met, table)
    if entrants >= players:
        return groups
    return [(a, *([b] * (players - 1))) for group in groups for a, b in itertools.permutations(group, 2)]


def _pairs(order: list[int], met: Counter[tuple[int, int]]) -> list[Lineup]:
    """Pair neighbours in `order`, with as few repetitions as there must be."""
    for allowed in sorted({0, *met.values()}):
        budget = [STEPS_MAX]
        found = _match(order, met, allowed, budget)
        if found is not None:
            return found
    return [(a, b) for a, b in zip(order[::2], order[1::2], strict=True)]


def _match(order: list[int], met: Counter[tuple[int, int]], allowed: int, budget: list[int]) -> list[Lineup] | None:
    if not order:
        return []
    budget[0] -= 1
    first, rest = order[0], order[1:]
    for k, other in enumerate(rest):
        if budget[0] < 0:
            return None
        if met[min(first, other), max(first, other)] <= allowed:
            others = _match(rest[:k] + rest[k + 1 :], met, allowed, budget)
            if others is not None:
                return [(first, other), *others]
    return None


def _groups(order: list[int], met: Counter[tuple[int, int]], size: int) -> list[Lineup]:
    """Fill tables from the top: each seat goes to whom the table has met least, then to the nearest."""
    left, found = list(order), []
    while left:
        group = [left.pop(0)]
        while len(group) < size:
            chosen = min(left, key=lambda k: (sum(met[min(k, g), max(k, g)] for g in group), order.index(k)))
            left.remove(chosen)
            group.append(chosen)
        found.append(tuple(group))
    return found


# ---- expected information


def posterior(entrants: int, played: Sequence[Result]) -> tuple[Array, Array]:
    """Return means and covariance of the strengths, in log-odds, by a joint fit of the games so far."""
    mean = np.full(entrants, PRIOR_ELO / SCALE)
    covariance = np.eye(entrants) * (PRIOR_SPREAD / SCALE) ** 2
    games = [
        RatedGame("tournament", tuple(f"{seat:04d}" for seat in game.seats), game.ranks, id=str(k))
        for k, game in enumerate(played)
    ]
    if games:
        fitted = fit(games, pinned={})
        seen = np.array([int(player) for player in fitted.players])
        mean[seen] = fitted.parameters
        covariance[np.ix_(seen, seen)] = fitted.covariance
    return mean, covariance


def gain(lineup: Lineup, mean: Array, covariance: Array, games: int) -> tuple[float, Array, list[int]]:
    """Return the information of `games` games of a line-up in nats, its Fisher information, and whose it is.

    Counted is who comes first: what follows in a ranking adds to every line-up alike.
    """
    who = sorted(set(lineup))
    strength = np.exp(mean[list(lineup)] - mean[list(lineup)].max())
    chances = np.zeros(len(who))
    for player, each in zip(lineup, strength / strength.sum(), strict=True):
        chances[who.index(player)] += each
    fisher = games * (np.diag(chances) - np.outer(chances, chances))
    inner = np.eye(len(who)) + covariance[np.ix_(who, who)] @ fisher
    return float(np.linalg.slogdet(inner)[1]) / 2, fisher, who


def informative(table: list[Lineup], entrants: int, players: int, played: Sequence[Result], seed: int) -> list[Lineup]:
    """Choose the line-ups of a round one after another, each given what those before it will tell."""
    if len(table) > CANDIDATES_MAX:
        chosen = np.random.default_rng([seed, len(played)]).choice(len(table), CANDIDATES_MAX, replace=False)
        table = [table[k] for k in sorted(chosen)]
    mean, covariance = posterior(entrants, played)
    found: list[Lineup] = []
    for _ in range(max(1, entrants // players)):
        left = [lineup for lineup in table if lineup not in found]  # twice in a round would be the same opening twice
        best = max(left, key=lambda lineup: (gain(lineup, mean, covariance, players)[0], lineup))
        _, fisher, who = gain(best, mean, covariance, players)
        found.append(best)
        # (C^-1 + F)^-1 by Woodbury: only the rows of those who play change the rest.
        block = covariance[np.ix_(who, who)]
        change = fisher @ np.linalg.inv(np.eye(len(who)) + block @ fisher)
        covariance = covariance - covariance[:, who] @ change @ covariance[who, :]
    return found
