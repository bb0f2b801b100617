"""From states to the inputs of a net: planes over the board's square frame and scalars, seen from the player to move.

Seats are relative: 0 is the player to move, then the others in turn order. Hexagons lie in their axial frame, whose
corners are off the board. A code's place in the policy head is `plane * frame + square of the frame`.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.rules import layout as lay
from engine.rules.cells import Words, rings_at
from engine.rules.compiled import kernel
from engine.rules.geometry import Geometry, Tables

Floats = NDArray[np.float32]

ON_BOARD: Final = 0
CONTROLLER: Final = 1  # +seat, 4 planes each
MARKER: Final = 5
COLLAPSED: Final = 9
HEIGHT: Final = 13
CAP: Final = 14
RINGS: Final = 15  # +seat: rings of the seat in the stack
SECOND: Final = 19  # +seat: colour of the ring below the top
THIRD: Final = 23
MUST_MOVE: Final = 27
CHAIN: Final = 28
PLANES: Final = 29

PHASE: Final = 0  # one-hot of 9
DUE: Final = 9  # one-hot of 4
HAND: Final = 13  # +seat, share of the supply
ELIMINATED: Final = 17  # +seat, share of what wins
TERRITORY: Final = 21
EXCLUSIVE: Final = 25  # +seat, share of the rounds that win
ACTED: Final = 29
RECOVERED: Final = 30
PLAYERS: Final = 31  # one-hot of 2, 3, 4
SCALARS: Final = 34

ENCODER: Final = "seats-29x34"  # changes with the meaning of any input


@kernel
def seat(player: int, owner: int, players: int) -> int:
    """Seat of `owner` relative to `player`."""
    return (owner - player + players) % players


@kernel
def encode_cell(s: Words, t: Words, i: int, at: int, planes: Floats, players: int, mover: int) -> None:
    """Fill what stands on one square."""
    word = int(s[i])
    planes[0, at] = 1.0
    if word & 7 == 0:
        return
    who = seat(mover, word & 7, players)
    if word & 16:
        planes[1 + who, at] = 1.0
        height, rings = word >> 8 & 255, rings_at(s, t, i)
        planes[13, at] = height / 8.0
        planes[14, at] = (word >> 16) / 8.0
        for k in range(height):
            owner = seat(mover, int((rings >> (2 * k)) & 3) + 1, players)
            planes[15 + owner, at] += 0.25
            if k == 1:
                planes[19 + owner, at] = 1.0
            elif k == 2:
                planes[23 + owner, at] = 1.0
    elif word & 8:
        planes[5 + who, at] = 1.0
    elif word & 32:
        planes[9 + who, at] = 1.0


@kernel
def encode(s: Words, g: Tables, planes: Floats, scalars: Floats) -> None:
    """Write planes [29, frame] and scalars [34] of one state."""
    t = g.table
    players, mover = int(s[lay.PLAYERS]), int(s[lay.PLAYER])
    size, width = int(t[lay.T_SIZE]), int(t[lay.T_WIDTH])
    planes[:, :] = 0.0
    scalars[:] = 0.0
    for cell in range(g.cells):
        i = int(t[lay.T_SQUARE + cell])
        flat = i - lay.FIRST_SQUARE
        at = (flat // width - 1) * size + flat % width - 1
        encode_cell(s, t, i, at, planes, players, mover)
        if s[lay.MUST_MOVE] == i:
            planes[27, at] = 1.0
        if s[lay.CHAIN] == i:
            planes[28, at] = 1.0
    scalars[int(s[lay.PHASE])] = 1.0
    scalars[9 + int(s[lay.PENDING])] = 1.0
    for p in range(players):
        who = seat(mover, p + 1, players)
        scalars[13 + who] = s[lay.HAND + p] / t[lay.T_SUPPLY]
        scalars[17 + who] = s[lay.ELIMINATED + p] / t[lay.T_ELIMINATION_WIN]
        scalars[21 + who] = s[lay.TERRITORY + p] / t[lay.T_TERRITORY_WIN]
    if s[lay.LPS_EXCLUSIVE]:
        scalars[25 + seat(mover, int(s[lay.LPS_EXCLUSIVE]), players)] = s[lay.LPS_COUNT] / t[lay.T_LPS_ROUNDS]
    scalars[29] = s[lay.ACTED]
    scalars[30] = s[lay.RECOVERED]
    scalars[31 + players - 2] = 1.0


@kernel
def encode_rows(data: Words, rows: Words, g: Tables, planes: NDArray[np.float32], scalars: Floats) -> None:
    """Encode the chosen rows of `data` into planes [n, 29, frame] and scalars [n, 34]."""
    for k in range(len(rows)):
        encode(data[rows[k]], g, planes[k], scalars[k])


@cache
def frame_of_cell(where: Geometry) -> NDArray[np.int64]:
    """Return the square of the frame of each cell [cells]."""
    t = where.tables.table
    flat = t[lay.T_SQUARE : lay.T_SQUARE + where.cells].astype(np.int64) - lay.FIRST_SQUARE
    width = int(t[lay.T_WIDTH])
    frame: NDArray[np.int64] = (flat // width - 1) * where.size + flat % width - 1
    return frame


@cache
def head_index(where: Geometry) -> NDArray[np.int64]:
    """Return the place in the flattened policy head [planes * frame] of each code [policy_size]."""
    planes = np.arange(where.tables.policy_planes, dtype=np.int64)
    index: NDArray[np.int64] = (planes[:, None] * where.size**2 + frame_of_cell(where)).reshape(-1)
    return index
