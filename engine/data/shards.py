"""Shards of whole games: npz without pickle, named by their SHA-256. Positions are rebuilt by replaying the codes.

Arrays: `meta` (JSON as bytes), `plies` [games], `codes` [all plies], `ranks` [games, players], `targets_ply` [targets]
(place in `codes` of the decision), `targets_count` [targets], `targets_code`, `targets_prob` [all entries] (sparse
policy), `targets_value` [targets] (searched chance of the player to move, -1 when not searched), `seeds` [games].
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.rules import RULES_VERSION
from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.geometry import Geometry, Tables, geometry
from engine.rules.kernels import apply, legal, new_game, ranks

FORMAT = 1
TARGETS_MAX = 32  # entries of a policy target that are kept
ARRAYS = (
    "plies",
    "codes",
    "ranks",
    "targets_ply",
    "targets_count",
    "targets_code",
    "targets_prob",
    "targets_value",
    "seeds",
)


class ShardError(Exception):
    """A shard that cannot be used; the text says why."""


class ShardMeta(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a shard comes from."""

    format: int
    board: str
    players: int
    variant: str
    rules_version: str
    player: str  # key of the player that made it
    games: int
    positions: int
    node: str = ""
    job: str = ""
    seed: int = 0


class Shard(msgspec.Struct):
    """A shard in memory."""

    meta: ShardMeta
    plies: Words
    codes: Words
    ranks: NDArray[np.int8]
    targets_ply: NDArray[np.int64]
    targets_count: Words
    targets_code: Words
    targets_prob: NDArray[np.float16]
    targets_value: NDArray[np.float16]
    seeds: NDArray[np.int64]

    @property
    def where(self) -> Geometry:
        """Return the geometry of its games."""
        return geometry(self.meta.board, self.meta.players, self.meta.variant)

    def to_bytes(self) -> bytes:
        """Return the file."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in ARRAYS}
        arrays["meta"] = np.frombuffer(msgspec.json.encode(self.meta), dtype=np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    def save(self, folder: Path) -> tuple[Path, str]:
        """Write `<sha256>.npz`, atomically; returns its path and digest."""
        data = self.to_bytes()
        name = hashlib.sha256(data).hexdigest()
        path = folder / f"{name}.npz"
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(data)
        temporary.rename(path)
        return path, name


def read_shard(data: bytes) -> Shard:
    """Read a shard; raises ShardError for anything that is not a whole one of these rules."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            meta = msgspec.json.decode(arrays["meta"].tobytes(), type=ShardMeta)
            parts = {name: arrays[name] for name in ARRAYS}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError) as error:
        raise ShardError(f"not a shard: {error}") from error
    if meta.format != FORMAT:
        raise ShardError(f"the shard has format {meta.format}, this code reads {FORMAT}")
    if meta.rules_version != RULES_VERSION:
        raise ShardError(f"made by rules version {meta.rules_version}, these are {RULES_VERSION}")
    shard = Shard(meta, **parts)
    problem = _problem(shard)
    if problem:
        raise ShardError(problem)
    return shard


def load_shard(path: Path) -> Shard:
    """Read a shard from a file; raises ShardError."""
    return read_shard(path.read_bytes())


def _problem(shard: Shard) -> str:
    size = shard.where.tables.policy_size
    codes, targets = len(shard.codes), len(shard.targets_ply)
    checks = (
        (len(shard.plies) == shard.meta.games == len(shard.ranks) > 0, "its games do not add up"),
        (shard.ranks.shape[1:] == (shard.meta.players,), "its ranks are not of its players"),
        (int(shard.plies.sum()) == codes, "its plies do not add up"),
        (codes > 0 and int(shard.codes.min()) >= 0 and int(shard.codes.max()) < size, "a code is out of range"),
        (
            targets == len(shard.targets_count) == len(shard.targets_value) == shard.meta.positions,
            "its targets do not add up",
        ),
        (not targets or (shard.targets_ply.min() >= 0 and shard.targets_ply.max() < codes), "a target names no ply"),
        (
            int(shard.targets_count.sum()) == len(shard.targets_code) == len(shard.targets_prob),
            "its policies do not add up",
        ),
        (
            bool(np.isfinite(shard.targets_prob).all() and np.isfinite(shard.targets_value).all()),
            "a target is no number",
        ),
    )
    return next((words for right, words in checks if not right), "")


@kernel
def replay_games(
    codes: Words, plies: Words, g: Tables, claimed: Words, keep: Words, states: Words, finals: Words
) -> int:
    """Replay games; write final states and those before plies with keep >= 0; return the first bad game or -1."""
    s = np.empty(g.state_words, np.int32)
    out = np.empty(g.max_legal, np.int32)
    found = np.empty(g.players, np.int32)
    at = 0
    for game in range(len(plies)):
        new_game(s, g)
        for _ in range(plies[game]):
            if s[lay.PHASE] == lay.OVER:
                return game
            if keep[at] >= 0:
                states[keep[at]] = s
            n = legal(s, g, out)
            known = False
            for j in range(n):
                known = known or out[j] == codes[at]
            if not known:
                return game
            apply(s, g, int(codes[at]))
            at += 1
        if s[lay.PHASE] != lay.OVER:
            return game
        ranks(s, found)
        for p in range(g.players):
            if found[p] != claimed[game, p]:
                return game
        finals[game] = s
    return -1


def replay(shard: Shard) -> tuple[Words, Words]:
    """Return the states of its targets [targets, words] and the final states [games, words]; verifies every move.

    Raises ShardError that names the game when a move is illegal or a result is not what the moves lead to.
    """
    g = shard.where.tables
    keep = np.full(len(shard.codes), -1, np.int32)
    keep[shard.targets_ply] = np.arange(len(shard.targets_ply), dtype=np.int32)
    states = np.zeros((len(shard.targets_ply), g.state_words), np.int32)
    finals = np.zeros((len(shard.plies), g.state_words), np.int32)
    bad = replay_games(
        shard.codes.astype(np.int32),
        shard.plies.astype(np.int32),
        g,
        shard.ranks.astype(np.int32),
        keep,
        states,
        finals,
    )
    if bad >= 0:
        raise ShardError(f"game {bad} of the shard does not follow the rules, or does not end as it claims")
    return states, finals
