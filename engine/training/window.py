"""Positions to learn from: games of a window of shards, replayed and verified, turned by symmetries at batch time."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.data.shards import Shard, ShardError, load_shard, replay
from engine.nets.encoder import PLANES, SCALARS, Floats, encode_rows, frame_of_cell
from engine.players.player import legal_of
from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.geometry import Geometry
from engine.rules.symmetry import code_permutation, exact_symmetries, symmetries


class Batch(NamedTuple):
    """Inputs and targets of a batch."""

    planes: Floats  # [batch, 29, size, size]
    scalars: Floats  # [batch, 34]
    codes: Words  # [batch, width] legal codes, turned as the planes
    legal: NDArray[np.bool_]  # [batch, width]
    policy: Floats  # [batch, width]
    winner: NDArray[np.int64]  # [batch] relative seat of the winner
    rank: Floats  # [batch, players] placement in 0..1 by relative seat
    owner: NDArray[np.int64]  # [batch, frame] final owner by relative seat + 1, 0 nobody, -1 off the board
    margin: Floats  # [batch, 2 * players]


class Window(NamedTuple):
    """Every target position of a window; `states` [positions, words] and what its game came to."""

    where: Geometry
    states: Words
    game: NDArray[np.int64]  # [positions]
    size: Words  # [positions] entries of the policy target
    start: NDArray[np.int64]  # [positions] first entry of the policy target
    code: Words
    prob: Floats
    finals: Words  # [games, words]
    ranks: NDArray[np.int8]  # [games, players]
    heldout: NDArray[np.bool_]  # [positions]


def held_out(shard: Shard, share: float) -> NDArray[np.bool_]:
    """Return which games of a shard are held out [games].

    The moves of a game decide, so that later trainings, whose parents have learnt from the window, hold out the same.
    """
    starts = np.cumsum([0, *shard.plies.tolist()])
    codes = shard.codes.astype("<i4")
    marks = [zlib.crc32(codes[a:b].tobytes()) for a, b in itertools.pairwise(starts.tolist())]
    return np.array(marks) < share * 2**32


def load_window(paths: Sequence[Path], heldout: float, report: Callable[[str], None] = lambda _: None) -> Window:
    """Read shards; one that is corrupt or against the rules is left out and reported. Raises ShardError for none."""
    shards: list[tuple[Shard, Words, Words]] = []
    for path in paths:
        try:
            shard = load_shard(path)
            shards.append((shard, *replay(shard)))
        except ShardError as error:
            report(f"shard {path.name} is left out: {error}")
    if not shards:
        raise ShardError("no shard of the window can be used")
    metas = {(s.meta.board, s.meta.players, s.meta.variant) for s, _, _ in shards}
    if len(metas) > 1:
        raise ShardError(f"the window mixes configs: {sorted(metas)}")
    held = np.concatenate([held_out(s, heldout) for s, _, _ in shards])
    if held.all():
        held[:] = False
    game_of = []
    offset = 0
    for shard, _, _ in shards:
        ends = np.cumsum(shard.plies)
        game_of.append(offset + np.searchsorted(ends, shard.targets_ply, side="right"))
        offset += shard.meta.games
    count = np.concatenate([s.targets_count for s, _, _ in shards]).astype(np.int32)
    game = np.concatenate(game_of)
    return Window(
        shards[0][0].where,
        np.concatenate([states for _, states, _ in shards]),
        game,
        count,
        np.concatenate([[0], np.cumsum(count, dtype=np.int64)[:-1]]),
        np.concatenate([s.targets_code for s, _, _ in shards]),
        np.concatenate([s.targets_prob for s, _, _ in shards]).astype(np.float32),
        np.concatenate([finals for _, _, finals in shards]),
        np.concatenate([s.ranks for s, _, _ in shards]),
        held[game],
    )


def aligned(window: Window, picked: NDArray[np.int64], codes: Words, counts: Words) -> Floats:
    """Spread the sparse policy targets over the legal codes."""
    policy = np.zeros(codes.shape, np.float32)
    for j, index in enumerate(picked):
        n = counts[j]
        order = np.argsort(codes[j, :n])
        entries = slice(window.start[index], window.start[index] + window.size[index])
        at = order[np.searchsorted(codes[j, :n][order], window.code[entries])]
        policy[j, at] = window.prob[entries]
    policy /= policy.sum(1, keepdims=True)
    return policy


def _relative(values: np.ndarray, movers: Words) -> np.ndarray:
    """Turn values by seat [n, players] into values by relative seat."""
    players = values.shape[1]
    seats = (np.arange(players)[None, :] + (movers[:, None] - 1)) % players
    return np.take_along_axis(values, seats, axis=1)


def _owners(window: Window, picked: NDArray[np.int64], movers: Words) -> NDArray[np.int64]:
    where = window.where
    t = where.tables.table
    squares = t[lay.T_SQUARE : lay.T_SQUARE + where.cells]
    owner = window.finals[window.game[picked]][:, squares] & 7
    relative = np.where(owner > 0, (owner - movers[:, None] + where.players) % where.players + 1, 0)
    frame = np.full((len(picked), where.size**2), -1, np.int64)
    frame[:, frame_of_cell(where)] = relative
    return frame


def _turn(
    where: Geometry,
    planes: Floats,
    codes: Words,
    counts: Words,
    owner: np.ndarray,
    states: Words,
    rng: np.random.Generator,
) -> None:
    """Turn each sample by a symmetry of its own, in place, where every legal code has a plain image."""
    exact = exact_symmetries(where.board)
    frame = frame_of_cell(where)
    chosen = rng.integers(0, len(exact), len(planes))
    for j in range(len(planes)):
        k = exact[chosen[j]]
        if k == 0 or states[j, lay.STACKS + states[j, lay.PLAYER] - 1] == 0:
            continue
        images = code_permutation(where, k)[codes[j, : counts[j]]]
        if (images < 0).any():
            continue
        permutation = symmetries(where.board)[k]
        turned, turned_owner = planes[j].copy(), owner[j].copy()
        turned[:, frame[permutation]] = planes[j][:, frame]
        turned_owner[frame[permutation]] = owner[j][frame]
        planes[j], owner[j] = turned, turned_owner
        codes[j, : counts[j]] = images


def make_batch(window: Window, picked: NDArray[np.int64], rng: np.random.Generator | None) -> Batch:
    """Return the batch of chosen positions, turned at random when `rng` is given."""
    where = window.where
    states = np.ascontiguousarray(window.states[picked])
    rows = np.arange(len(picked), dtype=np.int32)
    planes = np.empty((len(picked), PLANES, where.size**2), np.float32)
    scalars = np.empty((len(picked), SCALARS), np.float32)
    encode_rows(states, rows, where.tables, planes, scalars)
    codes, counts = legal_of(states, rows, where)
    codes = codes[:, : int(counts.max())].copy()
    policy = aligned(window, picked, codes, counts)
    movers = states[:, lay.PLAYER]
    owner = _owners(window, picked, movers)
    if rng is not None:
        _turn(where, planes, codes, counts, owner, states, rng)
    ranks = _relative(window.ranks[window.game[picked]], movers).astype(np.float32)
    finals = window.finals[window.game[picked]]
    players = where.players
    t = where.tables.table
    territory = _relative(finals[:, lay.TERRITORY : lay.TERRITORY + players], movers) / t[lay.T_TERRITORY_WIN]
    rings = _relative(finals[:, lay.ELIMINATED : lay.ELIMINATED + players], movers) / t[lay.T_ELIMINATION_WIN]
    return Batch(
        planes.reshape(len(picked), PLANES, where.size, where.size),
        scalars,
        codes,
        np.arange(codes.shape[1])[None, :] < counts[:, None],
        policy,
        ranks.argmin(1),
        ((players - ranks) / (players - 1)).astype(np.float32),
        owner,
        np.concatenate([territory, rings], 1).astype(np.float32),
    )
