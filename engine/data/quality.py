"""Whether games are fit to learn from: checks of lengths, outcomes, policies, duplicates and drift between nodes.

Each finding names what it is about and says "suspect" (a person should look) or "quarantine" (keep it out of training).
Nodes are compared with all others by their means, in standard errors of games, read together by Holm's rule; a
difference counts only when it is also large, so that much data does not make a trifle an alarm.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from engine.data.stats import GameFacts
from engine.rating.residuals import holm

OK, SUSPECT, QUARANTINE = "ok", "suspect", "quarantine"
VERDICTS = (OK, SUSPECT, QUARANTINE)


class Bounds(msgspec.Struct, frozen=True):
    """Where a finding begins. Pairs are suspect, quarantine."""

    games_min: int = 20  # fewer say nothing about shares
    plies_min: int = 10  # no game of any board ends sooner by play that means to win
    short_share: tuple[float, float] = (0.02, 0.2)
    seat_odds: tuple[float, float] = (4.0, 19.0)  # of a seat to win, over even odds; two seats: 80 %, 95 %
    tie_share: tuple[float, float] = (0.5, 0.9)
    entropy_min: tuple[float, float] = (0.05, 0.005)  # nats
    duplicate_share: tuple[float, float] = (0.05, 0.3)
    surprise: tuple[float, float] = (0.30, 0.40)  # mean squared error of chances; an even guess has 0.25 for two
    drift_level: float = 0.001
    drift_effect: tuple[float, float] = (0.5, 1.0)  # standard deviations of a game


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be."""

    subject: str  # "all", "shard <name>" or "node <name>"
    check: str
    value: float
    bound: float
    verdict: str
    text: str


class Quality(msgspec.Struct, frozen=True):
    """The verdict on a set of games, and why."""

    verdict: str
    games: int
    findings: tuple[Finding, ...]

    @property
    def quarantined(self) -> tuple[str, ...]:
        """Return the shards and nodes to keep out of training."""
        bad = [each.subject for each in self.findings if each.verdict == QUARANTINE and each.subject != "all"]
        return tuple(dict.fromkeys(bad))


def quality(
    games: Sequence[GameFacts], bounds: Bounds | None = None, broken: Sequence[tuple[str, str]] = ()
) -> Quality:
    """Check games of one config; `broken` are shards, with the reason, that could not be read or replayed."""
    limits = bounds or Bounds()
    found = [
        Finding(f"shard {name}", "rules", 1.0, 0.0, QUARANTINE, f"cannot be replayed: {reason}")
        for name, reason in broken
    ]
    found += _checks("all", games, limits)
    by_shard, by_node = defaultdict[str, list[GameFacts]](list), defaultdict[str, list[GameFacts]](list)
    for game in games:
        by_shard[game.shard].append(game)
        by_node[game.node].append(game)
    if len(by_shard) > 1:
        for name, own in sorted(by_shard.items()):
            found += _checks(f"shard {name}", own, limits)
    if len(by_node) > 1:
        found += drift(by_node, limits)
    worst = max((VERDICTS.index(each.verdict) for each in found), default=0)
    return Quality(VERDICTS[worst], len(games), tuple(found))


def _above(subject: str, check: str, value: float, limits: tuple[float, float], text: str) -> list[Finding]:
    """Return a finding when a value is above its bounds."""
    for verdict, bound in ((QUARANTINE, limits[1]), (SUSPECT, limits[0])):
        if value > bound:
            return [Finding(subject, check, round(value, 6), bound, verdict, text)]
    return []


def lower(share: float, n: int, z: float = 3.0) -> float:
    """Return the lower end of a share's interval at z standard errors (Wilson 1927); below 1."""
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n))


def _checks(subject: str, games: Sequence[GameFacts], limits: Bounds) -> list[Finding]:
    n = len(games)
    if n < limits.games_min:
        return []
    plies = np.array([game.plies for game in games])
    short = float((plies < limits.plies_min).mean())
    text = f"{100 * short:.1f} % of the games end within {limits.plies_min} plies"
    found = _above(subject, "length", short, limits.short_share, text)
    first = np.array([[rank == 1 for rank in game.ranks] for game in games], float)
    ties = float((first.sum(1) > 1).mean())
    found += _above(subject, "ties", ties, limits.tie_share, f"{100 * ties:.1f} % of the games have no single winner")
    shares = (first / first.sum(1, keepdims=True)).mean(0)
    even, most = 1 / first.shape[1], int(shares.argmax())
    surely = lower(float(shares[most]), n)
    odds = surely / (1 - surely) / (even / (1 - even))
    text = f"seat {most + 1} wins {100 * shares[most]:.1f} % of {n} games"
    found += _above(subject, "outcome", odds, limits.seat_odds, text)
    with_targets = [game.entropy for game in games if game.targets]
    if with_targets:
        entropy = float(np.mean(with_targets))
        found += _above(
            subject, "entropy", -entropy, (-limits.entropy_min[0], -limits.entropy_min[1]),
            f"policies have {entropy:.4f} nats: nearly every target is one move",
        )  # fmt: skip
    copies = 1 - len({game.digest for game in games}) / n
    found += _above(
        subject, "duplicates", copies, limits.duplicate_share, f"{100 * copies:.1f} % of the games are copies"
    )
    errors = [game.surprise for game in games if not math.isnan(game.surprise)]
    if len(errors) >= limits.games_min:
        error = float(np.mean(errors)) - 3 * float(np.std(errors)) / math.sqrt(len(errors))
        found += _above(
            subject, "surprise", error, limits.surprise,
            f"searched chances miss the results by {np.mean(errors):.3f}, more than an even guess would",
        )  # fmt: skip
    return found


MEASURES = ("plies", "first seat", "entropy", "surprise")


def _measure(game: GameFacts, name: str) -> float:
    match name:
        case "plies":
            return float(game.plies)
        case "first seat":
            return float(game.ranks[0] == 1)
        case "entropy":
            return game.entropy if game.targets else float("nan")
        case _:
            return game.surprise


def drift(by_node: dict[str, list[GameFacts]], limits: Bounds) -> list[Finding]:
    """Compare each node's games with those of all other nodes."""
    tests: list[tuple[float, float, str, str, str]] = []
    for node, own in sorted(by_node.items()):
        rest = [game for other, games in by_node.items() if other != node for game in games]
        for name in MEASURES:
            a = np.array([_measure(game, name) for game in own])
            b = np.array([_measure(game, name) for game in rest])
            a, b = a[~np.isnan(a)], b[~np.isnan(b)]
            if min(len(a), len(b)) < limits.games_min:
                continue
            spread = math.sqrt((a.var() * len(a) + b.var() * len(b)) / (len(a) + len(b)))
            if spread < 1e-12:
                continue
            effect = float(a.mean() - b.mean()) / spread
            z = effect / math.sqrt(1 / len(a) + 1 / len(b))
            text = f"{name} {a.mean():.3f} in {len(a)} games, {b.mean():.3f} elsewhere ({z:+.1f} standard errors)"
            tests.append((math.erfc(abs(z) / math.sqrt(2)), abs(effect), node, name, text))
    found = []
    for (_, effect, node, name, text), flagged in zip(
        tests, holm([test[0] for test in tests], limits.drift_level), strict=True
    ):
        if flagged:
            found += _above(f"node {node or '?'}", f"drift of {name}", effect, limits.drift_effect, text)
    return found
