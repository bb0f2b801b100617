"""What a fit leaves over: workers whose games do not agree with everyone else's, and pairs that no scale can explain.

A worker's games are held against strengths fitted without them (Rao's score test): under honest play the score has
mean 0 and the variance of its games plus that of the strengths. Two statistics are looked at: the whole score
(chi-square) and its largest part, which finds a single favoured player sooner. P-values that would flag are confirmed
by simulating the worker's games, because near-certain games make the normal approximation too sharp. Several tests are
read together by Holm's rule (1979).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.rating.choices import Array, Choices, gradient, information, probabilities
from engine.rating.fit import Fitted, fit, stages
from engine.rating.games import RatedGame

Flags = NDArray[np.bool_]
LEVEL = 0.01  # of all tests of a kind together
GAMES_MIN = 20
SIMULATIONS, BLOCKS = 20_000, 200  # strengths are drawn anew for every block


class WorkerResidual(msgspec.Struct, frozen=True):
    """How well a worker's games agree with those of all others."""

    worker: str
    games: int
    chi_square: float
    degrees: int
    p: float
    flagged: bool
    player: str  # whose results are furthest from expected
    z: float  # of that player: above 0 it won more than it should have


class PairResidual(msgspec.Struct, frozen=True):
    """How well a pair's results agree with the scale: `first` came before `second` in `wins` of `games` comparisons."""

    first: str
    second: str
    games: float
    wins: float
    expected: float
    z: float
    p: float
    flagged: bool


def chi_square_tail(x: float, degrees: int) -> float:
    """Return the chance that a chi-square variable exceeds x: the regularised upper incomplete gamma function.

    By its series below the mean and Lentz's continued fraction above it (Press et al., Numerical Recipes, §6.2).
    """
    a, x = degrees / 2, x / 2
    if x <= 0 or degrees == 0:
        return 1.0
    front = math.exp(-x + a * math.log(x) - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        k = a
        while abs(term) > abs(total) * 1e-15:
            k += 1
            term *= x / k
            total += term
        return max(0.0, 1 - total * front)
    b, c = x + 1 - a, 1e300
    d = 1 / b
    h = d
    for i in range(1, 10_000):
        b += 2
        an = -i * (i - a)
        d, c = 1 / (an * d + b), b + an / c
        h *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return front * h


def holm(ps: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Return which of the hypotheses are rejected so that any false rejection has at most the chance `level`."""
    flagged = [False] * len(ps)
    for done, k in enumerate(sorted(range(len(ps)), key=lambda k: ps[k])):
        if ps[k] > level / (len(ps) - done):
            break
        flagged[k] = True
    return flagged


def contamination(games: Sequence[RatedGame], *, level: float = LEVEL) -> tuple[WorkerResidual, ...]:
    """Test every worker with enough games against all others, most suspicious first.

    One at a time: the worst is set aside and the rest tested again without its games, which would make honest workers
    look wrong.
    """
    trusted, aside = list(games), list[WorkerResidual]()
    while True:
        counted = Counter(game.worker for game in trusted if game.worker)
        due = [worker for worker, n in sorted(counted.items()) if GAMES_MIN <= n < len(trusted)]
        rows = [_worker(worker, trusted, level / len(due)) for worker in due]
        rows.sort(key=lambda each: (each.p, -abs(each.z)))
        if not rows or rows[0].p > level / len(rows):
            return tuple(sorted(aside, key=lambda each: each.p)) + tuple(rows)
        worst = rows[0]
        aside.append(msgspec.structs.replace(worst, flagged=True))
        trusted = [game for game in trusted if game.worker != worst.worker]


def _worker(worker: str, games: Sequence[RatedGame], confirm_below: float) -> WorkerResidual:
    own = [game for game in games if game.worker == worker]
    others = fit([game for game in games if game.worker != worker])
    known = set(others.players)
    own = [game for game in own if known.issuperset(game.seats)]
    place = {player: k for k, player in enumerate(others.players)}
    choices = stages(own, place)
    free = np.array([player not in others.pinned for player in others.players])
    score = gradient(choices, others.parameters)[free]
    inner = information(choices, others.parameters)[np.ix_(free, free)]
    spread = inner + inner @ others.covariance[np.ix_(free, free)] @ inner
    inverse, degrees = _inverse(spread)
    statistic = float(score @ inverse @ score)
    error = np.sqrt(np.maximum(np.diag(spread), 1e-12))
    z = score / error
    names = [player for player, each in zip(others.players, free, strict=True) if each]
    worst = int(np.argmax(np.abs(z))) if len(z) else 0
    tails = (chi_square_tail(statistic, degrees), len(z) * math.erfc(float(np.abs(z).max(initial=0.0)) / math.sqrt(2)))
    if 2 * min(tails) <= confirm_below:
        tails = _simulated(choices, others, free, inverse, error, statistic, float(np.abs(z).max()))
    p = min(1.0, 2 * min(tails))
    return WorkerResidual(
        worker, len(own), round(statistic, 4), degrees, p, flagged=False,
        player=names[worst] if names else "", z=round(float(z[worst]), 3) if names else 0.0,
    )  # fmt: skip


def _inverse(matrix: Array) -> tuple[Array, int]:
    """Return the pseudo-inverse of a covariance and its rank."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > max(1e-9, 1e-9 * float(values.max(initial=0.0)))
    inverse: Array = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T
    return inverse, int(kept.sum())


def _simulated(
    choices: Choices, others: Fitted, free: Flags, inverse: Array, error: Array, statistic: float, largest: float
) -> tuple[float, float]:
    """Return the p-values of a worker's statistics by playing its games again, strengths drawn as fitted."""
    rng = np.random.default_rng(len(choices.counts))
    times = np.rint(choices.counts.sum(1)).astype(np.int64)
    cells, size = choices.counts.size, len(others.parameters)
    root = np.linalg.cholesky(others.covariance + 1e-12 * np.eye(size))
    # The score is linear in the counts: [rows x alternatives, parameters].
    linear = np.zeros((cells, size))
    np.add.at(
        linear, (np.arange(cells)[:, None], choices.places.reshape(cells, -1)), choices.coefficient.reshape(cells, -1)
    )
    linear = linear[:, free]
    mean = (times[:, None] * probabilities(choices, others.parameters)).reshape(-1) @ linear
    above = np.zeros(2)
    for _ in range(BLOCKS):
        drawn = others.parameters + root @ rng.standard_normal(size)
        counts = rng.multinomial(times, probabilities(choices, drawn), size=(SIMULATIONS // BLOCKS, len(times)))
        score = counts.reshape(len(counts), -1) @ linear - mean
        above[0] += (np.einsum("ni,ij,nj->n", score, inverse, score) >= statistic * (1 - 1e-12)).sum()
        above[1] += (np.abs(score / error).max(1) >= largest * (1 - 1e-12)).sum()
    first, second = (1 + above) / (1 + SIMULATIONS)
    return float(first), float(second)


def intransitivity(games: Sequence[RatedGame], fitted: Fitted, *, level: float = LEVEL) -> tuple[PairResidual, ...]:
    """Test every pair's results against what the one scale expects, most surprising first.

    Under Plackett-Luce the chance that one seat ranks before another depends on these two alone, so pairs can be read
    apart also in games of three and four. A pair that alone ties its players to the rest explains itself: left out.
    """
    wins: dict[tuple[str, str], list[float]] = {}
    for game in games:
        for pair, (points, weight) in _comparisons(game).items():
            entry = wins.setdefault(pair, [0.0, 0.0])
            entry[0] += points
            entry[1] += weight
    found = []
    for (first, second), (points, times) in sorted(wins.items()):
        ahead, error = fitted.difference(first, second)
        chance = 1 / (1 + 10 ** (-ahead / 400))
        variance = times * chance * (1 - chance)
        left = variance * (1 - variance * (error * math.log(10) / 400) ** 2)
        if left < 0.5:
            continue
        z = (points - times * chance) / math.sqrt(left)
        p = math.erfc(abs(z) / math.sqrt(2))
        found.append(PairResidual(first, second, times, points, times * chance, round(z, 3), p, flagged=False))
    flags = holm([each.p for each in found], level)
    marked = [msgspec.structs.replace(each, flagged=flag) for each, flag in zip(found, flags, strict=True)]
    return tuple(sorted(marked, key=lambda each: (each.p, each.first, each.second)))


def _comparisons(game: RatedGame) -> dict[tuple[str, str], tuple[float, float]]:
    """Return for each pair of different players of a game the mean score of the first, and its weight."""
    scores: dict[tuple[str, str], list[float]] = {}
    for a, player in enumerate(game.seats):
        for b, other in enumerate(game.seats):
            if player < other:
                score = 1.0 if game.ranks[a] < game.ranks[b] else 0.0 if game.ranks[a] > game.ranks[b] else 0.5
                scores.setdefault((player, other), []).append(score)
    return {pair: (sum(each) / len(each), 1.0) for pair, each in scores.items()}
