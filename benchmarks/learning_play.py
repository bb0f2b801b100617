"""The work of a learning run's processes, and what its matches came to: shares, intervals, jointly fitted ratings."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numba
import torch

from engine.players.player import PlayerConfig, make
from engine.rating.fit import Fitted, fit
from engine.rating.games import HEURISTIC, RANDOM, RatedGame
from engine.rules.geometry import geometry
from engine.selfplay import SelfplaySpec
from engine.selfplay import play as play_games
from engine.tournament.play import MatchSpec, points
from engine.tournament.play import play as play_match
from engine.training.train import TrainSpec, TrainSummary, train

ANCHORS = {"random": RANDOM, "heuristic": HEURISTIC}
T = TypeVar("T")


def wilson(won: float, games: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    p = won / games
    centre, spread = p + z * z / (2 * games), z * math.sqrt(p * (1 - p) / games + z * z / (4 * games * games))
    return (centre - spread) / (1 + z * z / games), (centre + spread) / (1 + z * z / games)


@dataclass
class Score:
    """Points of a player against others."""

    opponent: str
    won: float
    games: int
    share: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        self.share = self.won / self.games
        self.low, self.high = wilson(self.won, self.games)

    def __str__(self) -> str:
        return f"{self.opponent} {100 * self.share:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass(frozen=True)
class Result:
    """How often a seating ended with these ranks."""

    seats: tuple[str, ...]
    ranks: tuple[int, ...]
    games: int


@dataclass
class Played:
    """What a match came to."""

    score: Score
    results: list[Result]
    cpu_s: float


@dataclass
class Games:
    """What a generation's self-play came to."""

    shards: list[str] = field(default_factory=list)
    games: int = 0
    positions: int = 0
    entropy: float = 0.0
    seconds: float = 0.0
    cpu_s: float = 0.0


def summed(results: Sequence[Result]) -> list[Result]:
    """Return the results with equal ones added up."""
    counted: Counter[tuple[tuple[str, ...], tuple[int, ...]]] = Counter()
    for each in results:
        counted[each.seats, each.ranks] += each.games
    return [Result(seats, ranks, games) for (seats, ranks), games in sorted(counted.items())]


def rate(config: str, results: Sequence[Result]) -> Fitted:
    """Fit the strengths of everyone who played, random pinned."""
    games = []
    for each in results:
        seats = tuple(ANCHORS.get(name, name) for name in each.seats)
        games += [RatedGame(config, seats, each.ranks)] * each.games
    return fit(games)


def ratings(fitted: Fitted) -> dict[str, dict[str, float]]:
    """Return Elo with its 95 % interval by name, random being 0."""
    names = {key: name for name, key in ANCHORS.items()}
    zero = fitted.pinned[RANDOM]
    return {
        names.get(row.player, row.player): {
            "elo": row.elo_milli / 1000 - zero,
            "low": row.low_milli / 1000 - zero,
            "high": row.high_milli / 1000 - zero,
            "games": row.games,
        }
        for row in fitted.standings()
    }


def steps(fitted: Fitted, names: Sequence[str]) -> list[dict[str, float | str]]:
    """Return how far each is ahead of the one before it, and the last of the first, with 95 % intervals."""
    pairs = [(names[k + 1], names[k]) for k in range(len(names) - 1)]
    found: list[dict[str, float | str]] = []
    for first, second in [*pairs, *([(names[-1], names[0])] if len(names) > 2 else [])]:
        ahead, error = fitted.difference(first, second)
        found.append(
            {"of": first, "over": second, "elo": ahead, "low": ahead - 1.96 * error, "high": ahead + 1.96 * error}
        )
    return found


# ---- work of a process


def one_thread() -> None:
    """Leave the other cores to the other processes."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)


def timed(work: Callable[..., T], *arguments: Any) -> tuple[T, float]:
    """Return what work returns, and the processor time of this process that it took in seconds."""
    begun = time.process_time()
    return work(*arguments), time.process_time() - begun


def selfplay_part(spec: SelfplaySpec, folder: Path, weights: Path | None) -> Games:
    """Play games for training."""
    shards: list[str] = []
    done = play_games(spec, folder, weights=weights, on_shard=lambda path, _: shards.append(path.name))
    return Games(shards, done.games, done.positions, done.policy_entropy)


def train_part(spec: TrainSpec, shards: Sequence[Path], out: Path, parent: Path) -> TrainSummary:
    """Train a net on games."""
    return train(spec, shards, out, parent=parent)


def match_part(
    spec: MatchSpec, configs: Sequence[PlayerConfig], weights: Sequence[Path | None], names: Sequence[str]
) -> tuple[float, int, list[Result]]:
    """Play a match; returns the points and games of the first player, and all results."""
    where = geometry(spec.board, spec.players)
    players = [make(config, where, path) for config, path in zip(configs, weights, strict=True)]
    played = play_match(spec, players, [str(k) for k in range(len(players))])
    counted = Counter((tuple(names[seat] for seat in game.seats), game.ranks) for game in played)
    return *points(played, 0), [Result(seats, ranks, games) for (seats, ranks), games in sorted(counted.items())]
