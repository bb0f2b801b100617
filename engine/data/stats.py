"""What shards hold, in numbers: lengths, outcomes, policies, searched chances, ends of games, nodes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.data.shards import Shard, replay
from engine.rules import layout as lay
from engine.rules.game import REASONS

BINS = 10


class GameFacts(msgspec.Struct, frozen=True):
    """One game as checks and statistics see it."""

    shard: str
    node: str
    plies: int
    ranks: tuple[int, ...]
    digest: str  # of its moves
    targets: int
    entropy: float  # nats, mean over its targets
    surprise: float  # mean squared error of the searched chances of the mover, NaN when nothing was searched


class Stats(msgspec.Struct, frozen=True):
    """Statistics of a set of shards of one config."""

    config: str
    shards: int
    games: int
    positions: int
    plies: int
    plies_median: float
    plies_p10: float
    plies_p90: float
    wins: tuple[float, ...]  # by seat, shared where first place is
    ties: int  # games whose first place is shared
    duplicates: int  # games with the moves of an earlier one
    policy_entropy: float  # nats
    policy_entries: float  # mean entries of a target
    searched: float  # share of targets with a searched chance
    brier: float  # mean squared error of searched chances, NaN without any
    players: dict[str, int]  # games by the key of the player
    nodes: dict[str, int]
    reasons: dict[str, int]  # games by how they ended; only where games were replayed


def entropies(shard: Shard) -> NDArray[np.float64]:
    """Return the entropy of each target in nats [targets]."""
    if not len(shard.targets_count):
        return np.zeros(0)
    probs = shard.targets_prob.astype(np.float64)
    parts = -probs * np.log(np.maximum(probs, 1e-12))
    starts = np.concatenate([[0], np.cumsum(shard.targets_count)])[:-1].astype(np.int64)
    found: NDArray[np.float64] = np.add.reduceat(parts, starts)
    return found


def movers(shard: Shard) -> NDArray[np.int32]:
    """Return the player to move at each target [targets]; raises ShardError."""
    states, _ = replay(shard)
    found: NDArray[np.int32] = states[:, lay.PLAYER]
    return found


def first_places(shard: Shard) -> NDArray[np.float64]:
    """Return each seat's share of the first place [games, players]."""
    first = shard.ranks == 1
    shares: NDArray[np.float64] = first / first.sum(1, keepdims=True)
    return shares


def facts(name: str, shard: Shard, node: str = "", *, replayed: bool = True) -> list[GameFacts]:
    """Return the games of a shard; where they are replayed searched chances are held against results.

    Raises ShardError for games against the rules.
    """
    ends = np.cumsum(shard.plies)
    starts = ends - shard.plies
    game = np.searchsorted(ends, shard.targets_ply, side="right")
    entropy = entropies(shard)
    value = shard.targets_value.astype(np.float64)
    error = np.full(len(value), np.nan)
    if replayed:
        won = first_places(shard)[game, movers(shard) - 1]
        error = np.where(value >= 0, (value - won) ** 2, np.nan)
    found = []
    for k in range(shard.meta.games):
        mine = game == k
        known = error[mine][~np.isnan(error[mine])]
        codes = np.ascontiguousarray(shard.codes[starts[k] : ends[k]], np.int32)
        found.append(
            GameFacts(
                name, node or shard.meta.node, int(shard.plies[k]), tuple(int(r) for r in shard.ranks[k]),
                hashlib.sha256(codes.tobytes()).hexdigest()[:16], int(mine.sum()),
                float(entropy[mine].mean()) if mine.any() else 0.0, float(known.mean()) if len(known) else float("nan"),
            )
        )  # fmt: skip
    return found


def end_reasons(shard: Shard) -> Counter[str]:
    """Return how the games of a shard ended; raises ShardError."""
    _, finals = replay(shard)
    return Counter(REASONS[int(state[lay.REASON])] for state in finals)


def stats_of(
    shards: Mapping[str, Shard], nodes: Mapping[str, str] | None = None, *, replayed: bool = True
) -> tuple[Stats, list[GameFacts]]:
    """Return statistics of shards by name and the games they were made from.

    `nodes` names the node of a shard where its own meta does not. Raises ValueError without shards or for several
    configs, ShardError for games against the rules.
    """
    configs = sorted({f"{shard.meta.board}_{shard.meta.players}p" for shard in shards.values()})
    if len(configs) != 1:
        raise ValueError(f"name shards of one config, not of {', '.join(configs) or 'none'}")
    games: list[GameFacts] = []
    reasons: Counter[str] = Counter()
    players: Counter[str] = Counter()
    value: list[NDArray[np.float16]] = []
    entropy: list[NDArray[np.float64]] = []
    for name, shard in shards.items():
        games += facts(name, shard, (nodes or {}).get(name, ""), replayed=replayed)
        players[shard.meta.player] += shard.meta.games
        value.append(shard.targets_value)
        entropy.append(entropies(shard))
        if replayed:
            reasons += end_reasons(shard)
    plies = np.array([game.plies for game in games])
    first = np.array([[rank == 1 for rank in game.ranks] for game in games], float)
    every, chances = np.concatenate(entropy), np.concatenate(value)
    errors = np.array([game.surprise for game in games])
    targets = sum(shard.meta.positions for shard in shards.values())
    return Stats(
        configs[0], len(shards), len(games), targets, int(plies.sum()), float(np.median(plies)),
        float(np.quantile(plies, 0.1)), float(np.quantile(plies, 0.9)),
        tuple(float(each) for each in (first / first.sum(1, keepdims=True)).sum(0)), int((first.sum(1) > 1).sum()),
        len(games) - len({game.digest for game in games}), float(every.mean()) if len(every) else 0.0,
        sum(len(shard.targets_code) for shard in shards.values()) / max(1, targets),
        float((chances >= 0).mean()) if len(chances) else 0.0,
        float(np.nanmean(errors)) if (~np.isnan(errors)).any() else float("nan"), dict(players),
        dict(Counter(game.node or "?" for game in games)), dict(reasons),
    ), games  # fmt: skip


def calibration(shards: Iterable[Shard]) -> list[tuple[float, float, int]]:
    """Return for each tenth of the searched chances their mean, the share that was won, and how many."""
    chances: list[NDArray[np.float64]] = []
    results: list[NDArray[np.float64]] = []
    for shard in shards:
        value = shard.targets_value.astype(np.float64)
        known = value >= 0
        if known.any():
            game = np.searchsorted(np.cumsum(shard.plies), shard.targets_ply, side="right")
            chances.append(value[known])
            results.append(first_places(shard)[game, movers(shard) - 1][known])
    if not chances:
        return []
    every, won = np.concatenate(chances), np.concatenate(results)
    place = np.minimum(BINS - 1, (every * BINS).astype(int))
    return [
        (float(every[place == k].mean()), float(won[place == k].mean()), int((place == k).sum()))
        for k in range(BINS)
        if (place == k).any()
    ]


def shard_files(paths: Sequence[Path]) -> list[Path]:
    """Return the shards among files and folders; raises ValueError when there is none."""
    found = [path for each in paths for path in (sorted(each.glob("*.npz")) if each.is_dir() else [each])]
    missing = [path for path in found if not path.is_file()]
    if missing or not found:
        raise ValueError(f"there is no shard {missing[0]}" if missing else "there is no shard here")
    return found
