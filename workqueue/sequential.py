"""The sequential test of a candidate against the champion, on sets of games that share an opening.

Every seating of an opening is played, and the mean of the candidate's points over the set is one observation: the luck
of opening and seat cancels within it (for pairs this is the pentanomial model of chess engine testing). The generalised
sequential probability ratio test compares the hypotheses that the candidate is `elo0` or `elo1` stronger by the
likelihood ratio of the most likely distributions with these means (Van den Bergh, GSPRT; Wald 1945 for the bounds). The
normal approximation of it rejects too often with four players, where scores are skewed (`benchmarks/sequential.py`).
Computed where decisions are made, never in the state machine, which only checks what was decided.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

SETS_MIN = 8  # below that the distribution is a guess
UNSEEN = 0.001  # sets that every possible score counts for from the start: no score is ever held impossible
HALVINGS = 40
ERROR = 0.05  # chance of a wrong promotion, and of a wrong rejection; the error rates shown by simulation are for this


class Verdict(msgspec.Struct, frozen=True):
    """Where the test stands: "accept", "reject" or "undecided"."""

    verdict: str
    llr: float
    lower: float
    upper: float
    sets: int
    mean: float


class Observed(msgspec.Struct, frozen=True):
    """One finished game as the test sees it."""

    opening: str
    points: float  # of the candidate: 1 for winning, shared when first place is shared


def points_of(candidate: str, seats: Sequence[str], ranks: Sequence[int]) -> float:
    """Return the candidate's share of first place."""
    first = [seat for seat, rank in zip(seats, ranks, strict=True) if rank == 1]
    return first.count(candidate) / len(first)


def share(elo: float, players: int) -> float:
    """Return the points that one player `elo` above its equal opponents expects (Plackett-Luce for the first place)."""
    strength = 10 ** (elo / 400)
    return strength / (strength + players - 1)


def log_likelihood(counts: Mapping[float, float], mean: float) -> float:
    """Return the log-likelihood of scores, up to a constant, under the most likely distribution with a mean.

    That gives a score `a` the share p/(1 + t(a - mean)) of its observed share p, with the t at which the mean is right
    (Owen 1988, empirical likelihood); it is found by halving.
    """
    away = [(score - mean, count) for score, count in counts.items()]
    low, high = -1 / max(each for each, _ in away), -1 / min(each for each, _ in away)
    tilt = 0.0
    for _ in range(HALVINGS):
        if sum(count * each / (1 + tilt * each) for each, count in away) > 0:
            low = tilt
        else:
            high = tilt
        tilt = (low + high) / 2
    return -sum(count * math.log1p(tilt * each) for each, count in away)


def judge(
    games: Iterable[Observed],
    players: int,
    *,
    elo0: float = 0.0,
    elo1: float = 50.0,
    alpha: float = ERROR,
    beta: float = ERROR,
) -> Verdict:
    """Return the verdict of the complete sets among `games`."""
    sets: dict[str, list[float]] = defaultdict(list)
    for game in games:
        sets[game.opening].append(game.points)
    scores = [sum(points) / players for points in sets.values() if len(points) == players]
    lower, upper = math.log(beta / (1 - alpha)), math.log((1 - beta) / alpha)
    n = len(scores)
    if n == 0:
        return Verdict("undecided", 0.0, lower, upper, 0, 0.0)
    mean = sum(scores) / n
    counts = Counter({score / (2 * players): UNSEEN for score in range(2 * players + 1)})
    counts.update(scores)
    s0, s1 = share(elo0, players), share(elo1, players)
    llr = log_likelihood(counts, s1) - log_likelihood(counts, s0)
    if n < SETS_MIN:
        verdict = "undecided"
    else:
        verdict = "accept" if llr >= upper else "reject" if llr <= lower else "undecided"
    return Verdict(verdict, llr, lower, upper, n, mean)
