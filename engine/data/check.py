"""Whether a shard holds what it claims: every game replayed by the rules, every target a policy over legal moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from engine.data.shards import Shard, ShardError, load_shard, replay
from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.geometry import Tables
from engine.rules.kernels import legal

PROBABILITY_SLACK = 0.02  # targets are kept in half precision
GAMES_AT_ONCE = 64


class Verified(msgspec.Struct, frozen=True):
    """What was checked and what is wrong; an empty detail means that nothing is."""

    games: int
    positions: int
    detail: str = ""


@kernel
def first_illegal(states: Words, g: Tables, starts: Words, counts: Words, codes: Words) -> int:
    """Return the first target that names a code that is not legal in its position, -1 for none."""
    out = np.empty(g.max_legal, np.int32)
    for k in range(len(states)):
        n = legal(states[k], g, out)
        for j in range(starts[k], starts[k] + counts[k]):
            known = False
            for i in range(n):
                known = known or out[i] == codes[j]
            if not known:
                return k
    return -1


def part_of(shard: Shard, first: int, last: int) -> Shard:
    """Return games `first` to `last` (excluded) of a shard as one of its own."""
    ends = np.concatenate([[0], np.cumsum(shard.plies)]).astype(np.int64)
    a, b = int(ends[first]), int(ends[last])
    chosen = np.flatnonzero((shard.targets_ply >= a) & (shard.targets_ply < b))
    starts = np.concatenate([[0], np.cumsum(shard.targets_count)]).astype(np.int64)
    entries = np.concatenate([np.arange(starts[k], starts[k + 1]) for k in chosen] or [np.zeros(0, np.int64)])
    return Shard(
        msgspec.structs.replace(shard.meta, games=last - first, positions=len(chosen)),
        shard.plies[first:last],
        shard.codes[a:b],
        shard.ranks[first:last],
        shard.targets_ply[chosen] - a,
        shard.targets_count[chosen],
        shard.targets_code[entries],
        shard.targets_prob[entries],
        shard.targets_value[chosen],
        shard.seeds[first:last],
    )


def verify(path: Path, progress: Callable[[dict[str, object]], None] = lambda _: None) -> Verified:
    """Check a shard, some games at a time; a finding is an answer, not an error."""
    try:
        shard = load_shard(path)
    except (ShardError, OSError, ValueError) as error:
        return Verified(0, 0, str(error))
    games = positions = 0
    while games < shard.meta.games:
        last = min(shard.meta.games, games + GAMES_AT_ONCE)
        part = part_of(shard, games, last)
        detail = _wrong(part, games)
        if detail:
            return Verified(games, positions, detail)
        games, positions = last, positions + part.meta.positions
        progress({"done": games, "total": shard.meta.games})
    return Verified(games, positions)


def _wrong(part: Shard, first: int) -> str:
    """Return what is wrong with games of which the first has this number in its shard, empty for nothing."""
    where = f"of games {first} to {first + part.meta.games - 1}: "
    try:
        states, _ = replay(part)
    except ShardError as error:
        return f"{where}{error}"
    if not len(states):
        return ""
    starts = np.concatenate([[0], np.cumsum(part.targets_count)])
    if (part.targets_count < 1).any():
        return f"{where}a target is empty"
    sums = np.add.reduceat(part.targets_prob.astype(np.float64), starts[:-1].astype(np.int64))
    odd = np.flatnonzero(np.abs(sums - 1) > PROBABILITY_SLACK)
    if len(odd):
        return f"{where}target {odd[0]} is no policy: it sums to {sums[odd[0]]:.3f}"
    illegal = first_illegal(
        states, part.where.tables, starts[:-1].astype(np.int32), part.targets_count.astype(np.int32),
        part.targets_code.astype(np.int32),
    )  # fmt: skip
    if illegal >= 0:
        return f"{where}target {illegal} names a move that is not legal"
    value = part.targets_value
    if ((value != -1) & ((value < 0) | (value > 1))).any():
        return f"{where}a searched chance is not between 0 and 1"
    return ""
