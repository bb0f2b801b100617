"""Boards and their parameters (rules §1, §2), as one table of int32 that every kernel takes."""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.rules import layout as lay

SQUARE_RAYS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))
HEX_RAYS = ((1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1))
SQUARE_AXES = ((1, 0), (1, 1), (0, 1), (1, -1))
SQUARE_SLIDE_AXES = ((1, 0), (0, 1), (1, 1), (1, -1))
HEX_AXES = ((1, 0), (1, -1), (0, -1))
VARIANTS = ("spec", "asis")


class Shape(NamedTuple):
    """What a board is made of; radius 0 means a square board."""

    size: int
    radius: int
    supply: int
    long_lines: bool  # lines of 4 for any number of players


SHAPES = {
    "square8": Shape(8, 0, 18, long_lines=False),
    "square19": Shape(19, 0, 72, long_lines=True),
    "hex8": Shape(9, 4, 18, long_lines=False),
    "hexagonal": Shape(25, 12, 96, long_lines=True),
}
BOARDS = tuple(SHAPES)


class Tables(NamedTuple):
    """What kernels take as `g`: the table of all numbers, and the sizes a caller needs."""

    table: NDArray[np.int32]
    state_words: int
    max_legal: int
    policy_planes: int
    policy_size: int
    scalar_plane: int  # first of the planes that have one meaning for the whole board (skip, nothing, swap)
    cells: int
    players: int
    width: int  # squares in a padded row


@dataclass(frozen=True, eq=False)
class Geometry:
    """One board with its number of players and options; made by `geometry`, compared by identity."""

    board: str
    players: int
    variant: str
    swap: bool
    supply: int
    lps_rounds: int
    size: int
    radius: int
    tables: Tables
    coordinates: tuple[tuple[int, int], ...]  # (x, y) of each cell, x and y from 0 or axial

    @property
    def cells(self) -> int:
        """Number of cells of the board."""
        return len(self.coordinates)

    @property
    def is_hex(self) -> bool:
        """Whether the board is a hexagon."""
        return self.radius > 0


def line_lengths(board: str, players: int, variant: str) -> tuple[int, int, int]:
    """L, D and B of rules §2.2."""
    if SHAPES[board].long_lines:
        return 4, 4, 4
    length = 4 if players == 2 else 3
    if board == "hex8" and variant == "asis":
        return length, 4, 4
    return length, length, 3


def _coordinates(shape: Shape) -> tuple[tuple[int, int], ...]:
    """Cells row by row: y first, then x."""
    if not shape.radius:
        return tuple((x, y) for y in range(shape.size) for x in range(shape.size))
    span = range(-shape.radius, shape.radius + 1)
    return tuple((q, r) for r in span for q in span if abs(q + r) <= shape.radius)


def _header(shape: Shape, cells: int) -> dict[int, int]:
    """Sizes and places that depend on the board alone."""
    width = shape.size + 2
    squares = width * width
    is_hex = shape.radius > 0
    directions, axes, reach = (6, 3, shape.size - 1) if is_hex else (8, 4, shape.size - 1)
    wide = reach + 1 > lay.RINGS_A_WORD
    rows = lay.FIRST_SQUARE + squares * (3 if wide else 2)
    line = lay.PLANE_MOVE + directions * reach
    return {
        lay.T_WIDTH: width, lay.T_SIZE: shape.size, lay.T_SQUARES: squares, lay.T_CELLS: cells,
        lay.T_DIRECTIONS: directions, lay.T_AXES: axes, lay.T_HEX: int(is_hex),
        lay.T_SPREAD: int(shape.radius != 12), lay.T_WIDE: int(wide), lay.T_RINGS: squares,
        lay.T_ROWS: rows, lay.T_STATE_WORDS: rows + lay.ROW_GROUPS * width, lay.T_REACH: reach,
        lay.T_PLANE_LINE: line, lay.T_PLANE_SEGMENT: line + axes, lay.T_PLANE_REGION: line + 2 * axes,
        lay.T_PLANE_ELIMINATE: line + 2 * axes + 5, lay.T_PLANE_SKIP: line + 2 * axes + 6,
        lay.T_PLANE_NOTHING: line + 2 * axes + 7, lay.T_PLANE_SWAP: line + 2 * axes + 8,
    }  # fmt: skip


def _fill_board(table: NDArray[np.int32], shape: Shape, coordinates: tuple[tuple[int, int], ...]) -> None:
    """Squares, rows and steps."""
    width = shape.size + 2
    offset = shape.radius + 1
    table[lay.T_CELL : lay.T_CELL + lay.FIRST_SQUARE + width * width] = -1
    for square in range(lay.FIRST_SQUARE, lay.FIRST_SQUARE + width * width):
        y, x = divmod(square - lay.FIRST_SQUARE, width)
        table[lay.T_ROW + square] = y
        table[lay.T_BIT + square] = 1 << x
    for cell, (x, y) in enumerate(coordinates):
        square = lay.FIRST_SQUARE + (y + offset) * width + x + offset
        table[lay.T_SQUARE + cell] = square
        table[lay.T_CELL + square] = cell
        table[lay.T_BOARD + y + offset] |= 1 << (x + offset)
    rays, axes, slide_axes = (
        (HEX_RAYS, HEX_AXES, HEX_AXES) if shape.radius else (SQUARE_RAYS, SQUARE_AXES, SQUARE_SLIDE_AXES)
    )
    for start, steps in ((lay.T_STEP, rays), (lay.T_AXIS, axes), (lay.T_SLIDE_AXIS, slide_axes)):
        table[start : start + len(steps)] = [dx + dy * width for dx, dy in steps]


def _check(board: str, players: int, variant: str, rings: int | None, lps_rounds: int) -> None:
    if board not in SHAPES:
        raise ValueError(f"unknown board {board!r}: choose one of {', '.join(BOARDS)}")
    if players not in (2, 3, 4):
        raise ValueError(f"{players} players: choose 2, 3 or 4")
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}: choose spec or asis")
    if rings is not None and not 1 <= rings <= 1000:
        raise ValueError(f"{rings} rings a player: choose 1 to 1000")
    if not 1 <= lps_rounds <= 1000:
        raise ValueError(f"{lps_rounds} last-player-standing rounds: choose 1 to 1000")


@cache
def geometry(
    board: str,
    players: int,
    variant: str = "spec",
    *,
    swap: bool = False,
    rings: int | None = None,
    lps_rounds: int = 3,
) -> Geometry:
    """Return the geometry of a board; the same arguments always give the same object."""
    _check(board, players, variant, rings, lps_rounds)
    shape = SHAPES[board]
    supply = shape.supply if rings is None else rings
    coordinates = _coordinates(shape)
    cells = len(coordinates)
    table = np.zeros(lay.TABLE_WORDS, dtype=np.int32)
    for word, value in _header(shape, cells).items():
        table[word] = value
    _fill_board(table, shape, coordinates)
    length, detect, recovery = line_lengths(board, players, variant)
    table[lay.T_PLAYERS] = players
    table[lay.T_SUPPLY] = supply
    table[lay.T_LINE], table[lay.T_DETECT], table[lay.T_RECOVERY] = length, detect, recovery
    table[lay.T_ELIMINATION_WIN] = (2 * supply * (players + 1) + 3) // 6  # round(supply * (2/3 + (N-1)/3))
    table[lay.T_TERRITORY_WIN] = cells // players + 1
    table[lay.T_LPS_ROUNDS] = lps_rounds
    table[lay.T_SWAP] = int(swap and players == 2)
    table.setflags(write=False)
    planes = int(table[lay.T_PLANE_SWAP]) + 1
    # A free cell is reached along each ray at most once by a move and once by a capture; recovery has at most
    # (1 + L) choices for a marker and an empty neighbour, and markers and empty cells share the board.
    max_legal = cells * int(table[lay.T_DIRECTIONS]) * 5 // 2 + 2
    tables = Tables(
        table=table,
        state_words=int(table[lay.T_STATE_WORDS]),
        max_legal=max_legal,
        policy_planes=planes,
        policy_size=planes * cells,
        scalar_plane=int(table[lay.T_PLANE_SKIP]),
        cells=cells,
        players=players,
        width=shape.size + 2,
    )
    return Geometry(
        board,
        players,
        variant,
        swap and players == 2,
        supply,
        lps_rounds,
        shape.size,
        shape.radius,
        tables,
        coordinates,
    )
