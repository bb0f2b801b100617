"""Positions to learn from: games of a window of shards, replayed and verified, turned by symmetries at batch time."""

from __future__ import annotations

import itertools
import math
import sys
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
from engine.rules.kernels import new_game
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
    """Every target position of a window, as what differs from a new game, and what its game came to."""

    where: Geometry
    new: Words  # [words] the state before the first move
    changed: Words  # [positions] words in which a position differs from it
    first: NDArray[np.int64]  # [positions] its first entry in `word` and `value`
    word: NDArray[np.uint16]
    value: Words
    game: NDArray[np.int64]  # [positions]
    size: Words  # [positions] entries of the policy target
    start: NDArray[np.int64]  # [positions] first entry of the policy target
    code: Words
    prob: Floats
    finals: Words  # [games, words]
    ranks: NDArray[np.int8]  # [games, players]
    heldout: NDArray[np.bool_]  # [positions]

    def states(self, picked: NDArray[np.int64]) -> Words:
        """Return the states of some positions [picked, words]."""
        counts = self.changed[picked]
        entries = np.arange(counts.sum()) + np.repeat(self.first[picked] - _firsts(counts), counts)
        states = np.repeat(self.new[None], len(picked), 0)
        states[np.repeat(np.arange(len(picked)), counts), self.word[entries]] = self.value[entries]
        return states


def _firsts(counts: Words) -> NDArray[np.int64]:
    """Return where each of some runs of entries begins."""
    return np.cumsum(counts, dtype=np.int64) - counts


def held_out(shard: Shard, share: float) -> NDArray[np.bool_]:
    """Return which games of a shard are held out [games].

    The moves of a game decide, so that later trainings, whose parents have learnt from the window, hold out the same.
    """
    starts = np.cumsum([0, *shard.plies.tolist()])
    codes = shard.codes.astype("<i4")
    marks = [zlib.crc32(codes[a:b].tobytes()) for a, b in itertools.pairwise(starts.tolist())]
    return np.array(marks) < share * 2**32


class _Part(NamedTuple):
    """The positions of one shard; the names are those of `Window`, `game` counts within the part."""

    lot: NDArray[np.float64]  # [positions] those with the lowest stay when there are too many
    changed: Words
    word: NDArray[np.uint16]
    value: Words
    game: NDArray[np.int64]
    size: Words
    code: Words
    prob: Floats
    finals: Words
    ranks: NDArray[np.int8]
    heldout: NDArray[np.bool_]

    def below(self, limit: float) -> _Part:
        """Return the positions whose lot is below `limit`, and their games."""
        stays = self.lot < limit
        if stays.all():
            return self
        games, game = np.unique(self.game[stays], return_inverse=True)
        words, entries = np.repeat(stays, self.changed), np.repeat(stays, self.size)
        return _Part(
            self.lot[stays], self.changed[stays], self.word[words], self.value[words], game, self.size[stays],
            self.code[entries], self.prob[entries], self.finals[games], self.ranks[games], self.heldout[stays],
        )  # fmt: skip


def load_window(
    paths: Sequence[Path],
    heldout: float,
    report: Callable[[str], None] = lambda _: None,
    room: int = sys.maxsize,
    seed: int = 0,
) -> Window:
    """Read shards; one that is corrupt or against the rules is left out and reported. Raises ShardError for none.

    Of more than `room` positions as many are chosen by lot: memory is bounded however large the window is.
    """
    parts: list[_Part] = []
    metas: set[tuple[str, int, str]] = set()
    where, limit, held, seen = None, math.inf, 0, 0
    for number, path in enumerate(paths):
        try:
            shard = load_shard(path)
            part = _part(shard, heldout, np.random.default_rng([seed, number]))
        except ShardError as error:
            report(f"shard {path.name} is left out: {error}")
            continue
        metas.add((shard.meta.board, shard.meta.players, shard.meta.variant))
        where = where or shard.where
        seen += len(part.lot)
        parts.append(part.below(limit))
        held += len(parts[-1].lot)
        if held > room + room // 4:
            limit = _thin(parts, room)
            held = room
    if where is None:
        raise ShardError("no shard of the window can be used")
    if len(metas) > 1:
        raise ShardError(f"the window mixes configs: {sorted(metas)}")
    if held > room:
        _thin(parts, room)
    if seen > room:
        report(f"{seen - room} of {seen} positions are left out by lot: no more than {room} are needed")
    return _joined(where, parts)


def _part(shard: Shard, heldout: float, rng: np.random.Generator) -> _Part:
    states, finals = replay(shard)
    differs = states != _new(shard.where)
    game = np.searchsorted(np.cumsum(shard.plies), shard.targets_ply, side="right")
    return _Part(
        rng.random(len(game)),
        differs.sum(1, dtype=np.int32), np.nonzero(differs)[1].astype(np.uint16), states[differs],
        game, shard.targets_count.astype(np.int32), shard.targets_code, shard.targets_prob.astype(np.float32),
        finals, shard.ranks, held_out(shard, heldout)[game],
    )  # fmt: skip


def _new(where: Geometry) -> Words:
    state = np.zeros(where.tables.state_words, np.int32)
    new_game(state, where.tables)
    return state


def _thin(parts: list[_Part], room: int) -> float:
    """Keep `room` positions of all parts; returns the lot from which on positions go."""
    limit = float(np.partition(np.concatenate([part.lot for part in parts]), room)[room])
    for k, part in enumerate(parts):
        parts[k] = part.below(limit)
    return limit


def _joined(where: Geometry, parts: Sequence[_Part]) -> Window:
    heldout = np.concatenate([part.heldout for part in parts])
    if heldout.all():
        heldout[:] = False
    firsts = itertools.accumulate((len(part.ranks) for part in parts), initial=0)
    changed = np.concatenate([part.changed for part in parts])
    size = np.concatenate([part.size for part in parts])
    return Window(
        where,
        _new(where),
        changed,
        _firsts(changed),
        np.concatenate([part.word for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([first + part.game for first, part in zip(firsts, parts, strict=False)]),
        size,
        _firsts(size),
        np.concatenate([part.code for part in parts]),
        np.concatenate([part.prob for part in parts]),
        np.concatenate([part.finals for part in parts]),
        np.concatenate([part.ranks for part in parts]),
        heldout,
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
    states = window.states(picked)
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
