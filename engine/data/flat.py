"""Positions as flat arrays for other tools: NPZ, or Parquet where pyarrow is installed.

One row a target position. `features` [29, size, size] and `globals` [34] are the encoder's, from the player to move;
`policy_indptr`, `policy_indices`, `policy_values` are the target over codes as in a CSR matrix (a list column in
Parquet); `values_mp` [4] by seat is 1 for first place, -1 for the last, evenly between, 0 for seats that do not exist;
`values` is that of the player to move; `searched` the chance that the search gave it, NaN where there was none. Shards
are read one at a time and written through temporary files, so memory does not grow with the window.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from engine.data.shards import Shard, ShardError, load_shard, replay
from engine.nets.encoder import ENCODER, PLANES, SCALARS, encode_rows
from engine.rules import RULES_VERSION
from engine.rules import layout as lay
from engine.rules.kernels import placement_values

LAYOUT = "riftq-flat-1"
FORMATS = ("npz", "parquet")
SEATS = 4
ROWS_AT_ONCE = 4096
Rows = dict[str, NDArray[Any]]


class FlatMeta(msgspec.Struct, frozen=True):
    """What a flat file holds."""

    layout: str
    board: str
    players: int
    variant: str
    rules_version: str
    encoder: str
    policy_size: int
    positions: int
    shards: int


class Sink(Protocol):
    """Where rows go."""

    def write(self, rows: Rows) -> None:
        """Take some rows."""

    def close(self, meta: FlatMeta) -> None:
        """Finish the file."""


class Source(NamedTuple):
    """A replayed shard."""

    shard: Shard
    states: NDArray[np.int32]
    values: NDArray[np.float32]  # [games, seats] 1 first to -1 last
    game: NDArray[np.int64]  # [targets]
    ply: NDArray[np.int64]  # [targets] within its game


def source(path: Path) -> Source:
    """Read and replay a shard; raises ShardError."""
    shard = load_shard(path)
    states, finals = replay(shard)
    values = np.zeros((len(finals), SEATS), np.float32)
    for k, state in enumerate(finals):
        placement_values(state, values[k, : shard.meta.players])
    values[:, : shard.meta.players] = 2 * values[:, : shard.meta.players] - 1
    ends = np.cumsum(shard.plies)
    game = np.searchsorted(ends, shard.targets_ply, side="right")
    return Source(shard, states, values, game, shard.targets_ply - (ends - shard.plies)[game])


def rows_of(of: Source, first_game: int) -> Iterator[Rows]:
    """Yield the positions of a shard in parts; games are numbered from `first_game`."""
    shard, where = of.shard, of.shard.where
    starts = np.concatenate([[0], np.cumsum(shard.targets_count)]).astype(np.int64)
    for a in range(0, len(of.states), ROWS_AT_ONCE):
        rows = np.arange(a, min(len(of.states), a + ROWS_AT_ONCE), dtype=np.int32)
        planes = np.empty((len(rows), PLANES, where.size**2), np.float32)
        scalars = np.empty((len(rows), SCALARS), np.float32)
        encode_rows(of.states, rows, where.tables, planes, scalars)
        game = of.game[rows]
        mover = of.states[rows, lay.PLAYER]
        searched = shard.targets_value[rows].astype(np.float32)
        entries = slice(int(starts[a]), int(starts[rows[-1] + 1]))
        yield {
            "features": planes.reshape(-1, PLANES, where.size, where.size).astype(np.float16),
            "globals": scalars,
            "values": of.values[game, mover - 1],
            "values_mp": of.values[game],
            "searched": np.where(searched < 0, np.nan, searched).astype(np.float32),
            "to_move": mover.astype(np.int8),
            "num_players": np.full(len(rows), shard.meta.players, np.int8),
            "game": (first_game + game).astype(np.int64),
            "move_numbers": of.ply[rows].astype(np.int32),
            "total_game_moves": shard.plies[game].astype(np.int32),
            "policy_counts": shard.targets_count[rows].astype(np.int32),
            "policy_indices": shard.targets_code[entries].astype(np.int32),
            "policy_values": shard.targets_prob[entries].astype(np.float32),
        }


class NpzSink:
    """An NPZ file whose arrays grow on disk until their lengths are known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = tempfile.TemporaryDirectory(dir=path.parent)
        self.files: dict[str, Any] = {}
        self.kinds: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        self.lengths: dict[str, int] = {}

    def write(self, rows: Rows) -> None:
        """See Sink."""
        for name, array in rows.items():
            if name not in self.files:
                self.files[name] = (Path(self.folder.name) / name).open("w+b")
                self.kinds[name], self.lengths[name] = (array.dtype, array.shape[1:]), 0
            self.files[name].write(np.ascontiguousarray(array).tobytes())
            self.lengths[name] += len(array)

    def close(self, meta: FlatMeta) -> None:
        """See Sink."""
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, file in self.files.items():
                dtype, shape = self.kinds[name]
                if name == "policy_counts":
                    continue
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    _header(member, dtype, (self.lengths[name], *shape))
                    file.seek(0)
                    while block := file.read(1 << 20):
                        member.write(block)
            counts = self.files["policy_counts"]
            counts.seek(0)
            pointers = np.concatenate([[0], np.cumsum(np.frombuffer(counts.read(), np.int32))]).astype(np.int64)
            _member(archive, "policy_indptr", pointers)
            _member(archive, "meta", np.frombuffer(msgspec.json.encode(meta), np.uint8))
        for file in self.files.values():
            file.close()
        self.folder.cleanup()


def _header(member: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    npy.write_array_header_2_0(member, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})


def _member(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    npy.write_array(buffer, array, allow_pickle=False)
    archive.writestr(f"{name}.npy", buffer.getvalue())


class ParquetSink:
    """A Parquet file with one row group a part."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError as error:
            raise ValueError("Parquet needs pyarrow: pip install 'riftq[parquet]', or export as npz") from error
        self.path, self.pa, self.pq = path, pa, pq
        self.writer: Any = None

    def write(self, rows: Rows) -> None:
        """See Sink."""
        pa, columns = self.pa, {}
        offsets = pa.array(np.concatenate([[0], np.cumsum(rows["policy_counts"])]).astype(np.int32))
        for name, array in rows.items():
            if name.startswith("policy_"):
                if name != "policy_counts":
                    columns[name] = pa.ListArray.from_arrays(offsets, pa.array(array))
            elif array.ndim == 1:
                columns[name] = pa.array(array)
            else:
                flat = pa.array(np.ascontiguousarray(array, np.float32).reshape(-1))
                columns[name] = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(array.shape[1:])))
        table = pa.table(columns)
        if self.writer is None:
            self.writer = self.pq.ParquetWriter(self.path, table.schema, compression="zstd")
        self.writer.write_table(table)

    def close(self, meta: FlatMeta) -> None:
        """See Sink."""
        self.writer.add_key_value_metadata({"riftq": msgspec.json.encode(meta).decode()})
        self.writer.close()


def export(shards: Iterable[Path], path: Path, board: str, players: int, form: str = "npz") -> int:
    """Write all target positions of shards of one config into one file; returns how many.

    Raises ShardError for a shard that is corrupt or of another config, ValueError for an unknown format or no position.
    """
    if form not in FORMATS:
        raise ValueError(f"format {form!r}: choose one of {', '.join(FORMATS)}")
    sink: Sink = NpzSink(path) if form == "npz" else ParquetSink(path)
    positions = games = count = 0
    variants: set[str] = set()
    size = 0
    for shard_path in shards:
        of = source(shard_path)
        meta = of.shard.meta
        variants.add(meta.variant)
        if (meta.board, meta.players) != (board, players) or len(variants) > 1:
            raise ShardError(
                f"{shard_path.name} holds {meta.board} with {meta.players} players ({meta.variant}): "
                f"export one config at a time"
            )
        for rows in rows_of(of, games):
            sink.write(rows)
        positions, games, count = positions + meta.positions, games + meta.games, count + 1
        size = of.shard.where.tables.policy_size
    if not positions:
        raise ValueError("there is no position to export")
    sink.close(FlatMeta(LAYOUT, board, players, variants.pop(), RULES_VERSION, ENCODER, size, positions, count))
    return positions


def read_npz(path: Path) -> tuple[FlatMeta, Rows]:
    """Read a flat NPZ file back; raises ValueError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            rows = {name: arrays[name] for name in arrays.files}
        meta = msgspec.json.decode(rows.pop("meta").tobytes(), type=FlatMeta)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError) as error:
        raise ValueError(f"{path.name} is no file of positions: {error}") from error
    if meta.layout != LAYOUT:
        raise ValueError(f"{path.name} has layout {meta.layout}, this code reads {LAYOUT}")
    return meta, rows
