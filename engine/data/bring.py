"""Games and positions from elsewhere: game files into shards, foreign NPZ files into plain arrays.

A foreign NPZ file has the layout `features`, `globals`, `values`, `values_mp`, `num_players`, `policy_indices`, … with
lists as object arrays. Object arrays can only be read by unpickling, which may run anything, so they are left out and
named; so is what depends on an encoder or a numbering of moves that is not this engine's, unless it is asked for.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.data.shards import FORMAT, Shard, ShardMeta
from engine.rules import RULES_VERSION
from engine.rules.errors import BadRecord
from engine.rules.game import Rules
from engine.rules.records import MAGIC, GameRecord, read_record

PLAYER = "none:imported:-"
ROWS = {
    "values": "result of the player to move",
    "values_mp": "result by seat",
    "num_players": "players",
    "move_numbers": "ply",
    "total_game_moves": "plies of the game",
}
FOREIGN = {"features": "planes of another encoder", "globals": "scalars of another encoder"}


class Brought(msgspec.Struct, frozen=True):
    """What was taken over, and what was left out with the reason."""

    path: str
    rows: int
    taken: dict[str, str]
    left_out: dict[str, str]


def read_games(paths: Sequence[Path]) -> list[GameRecord]:
    """Read game files, and files of many as tournaments store them; raises BadRecord, with the file's name."""
    found = []
    for path in paths:
        data = path.read_bytes()
        try:
            parts = [data] if data[:4] == MAGIC else msgspec.msgpack.decode(data, type=list[bytes])
            found += [read_record(part) for part in parts]
        except (BadRecord, msgspec.MsgspecError) as error:
            raise BadRecord(f"{path.name}: {error}") from error
    return found


def shard_of_games(games: Sequence[GameRecord], player: str = PLAYER) -> Shard:
    """Make a shard of finished games; every decision becomes a target that names the move played.

    Raises ValueError for games that are unfinished, of several configs, or under options that shards do not have.
    """
    if not games:
        raise ValueError("there is no game to import")
    configs = {(game.board, game.players, game.rules.variant) for game in games}
    if len(configs) > 1:
        raise ValueError(f"games of {len(configs)} configs: import one at a time")
    (board, players, variant) = configs.pop()
    usual = Rules(variant=variant)
    plies, ranks = list[int](), list[tuple[int, ...]]()
    codes, targets = list[int](), list[int]()
    for number, game in enumerate(games):
        supply = game.first_position().geometry.supply
        fresh = not game.start and not game.rules.swap and game.rules.lps_rounds == usual.lps_rounds
        if not fresh or supply != _supply(board, players, variant):
            raise ValueError(f"game {number} has rules or a start that shards do not keep (pie rule, rings, position)")
        if not game.result.ranks or game.result.gave_up:
            raise ValueError(f"game {number} was not played to its end")
        start = len(codes)
        for ply, position in zip(range(len(game.codes)), game.positions(), strict=False):
            if len(position.legal_codes()) > 1:
                targets.append(start + ply)
        codes += game.codes
        plies.append(len(game.codes))
        ranks.append(game.result.ranks)
    every = np.array(codes, np.int32)
    n = len(targets)
    meta = ShardMeta(FORMAT, board, players, variant, RULES_VERSION, player, len(games), n)
    return Shard(
        meta, np.array(plies, np.int32), every, np.array(ranks, np.int8), np.array(targets, np.int64),
        np.ones(n, np.int32), every[targets], np.ones(n, np.float16), np.full(n, -1, np.float16),
        np.array([game.provenance.seed for game in games], np.int64),
    )  # fmt: skip


def _supply(board: str, players: int, variant: str) -> int:
    from engine.rules.geometry import geometry

    return geometry(board, players, variant).supply


def bring_npz(path: Path, out: Path, *, foreign: bool = False) -> Brought:
    """Write the arrays of a foreign NPZ file whose meaning is clear into a plain one, and say what was left out.

    Raises ValueError for files that are no NPZ, or whose arrays contradict each other.
    """
    taken: dict[str, NDArray[Any]] = {}
    words: dict[str, str] = {}
    left: dict[str, str] = {}
    wanted = ROWS | (FOREIGN if foreign else {})
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                try:
                    array = arrays[name]
                except ValueError:
                    left[name] = "an object array: reading it could run foreign code"
                    continue
                if name in wanted:
                    taken[name], words[name] = array, wanted[name]
                else:
                    left[name] = FOREIGN.get(name, "depends on another encoder, or its meaning is not known here")
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} is no NPZ file: {error}") from error
    rows = {len(array) for array in taken.values() if array.ndim}
    if len(rows) != 1:
        raise ValueError(
            f"{path.name} has no arrays of positions" if not rows else f"{path.name}: lengths differ: {rows}"
        )
    _check(path.name, taken)
    np.savez_compressed(out, allow_pickle=False, **taken)
    return Brought(str(out), rows.pop(), words, left)


def _check(name: str, arrays: dict[str, NDArray[Any]]) -> None:
    for key, array in arrays.items():
        if array.dtype.kind not in "fiub" or not np.isfinite(array.astype(np.float64)).all():
            raise ValueError(f"{name}: {key} holds what is no number")
    for key in ("values", "values_mp"):
        if key in arrays and (np.abs(arrays[key]) > 1 + 1e-6).any():
            raise ValueError(f"{name}: {key} is not between -1 and 1")
    if "num_players" in arrays and not np.isin(arrays["num_players"], (2, 3, 4)).all():
        raise ValueError(f"{name}: num_players is not 2, 3 or 4")
