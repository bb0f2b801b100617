"""Symmetries of the boards, for cells, codes and states (rules §20.13).

Squares have 8 symmetries, hexagons 12: number k turns k mod n quarters (or sixths) after a reflection if k >=
n, with n = 4 or 6; number 0 is the identity. A permutation p maps cell c to p[c]; planes of a net are moved
by `turned[..., p] = planes`.

The codes of placements, moves, payments, line segments and scalars follow from the geometry alone. Whole
lines and regions are named by a first cell that another cell may replace, and a segment of a recovery slide
is counted along its axis: those are named afresh in the turned state. The rules themselves are not quite
symmetric: recovery breaks ties by the order of axes (§9.5), and the extra spread offsets of hex8 (§1.4) keep
only `exact_symmetries`.
"""

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.rules import layout as lay
from engine.rules.actions import Move, code_of, legal_codes, move_of, rays
from engine.rules.cells import Words, put, put_stack, rings_at
from engine.rules.geometry import Geometry, geometry
from engine.rules.kernels import new_game

Permutation = NDArray[np.int32]
KEEP = (*range(lay.PLAYER, lay.MUST_MOVE), *range(lay.PENDING, lay.SLIDE))


def symmetry_count(board: str) -> int:
    """Return the number of symmetries of a board."""
    return 12 if geometry(board, 2).is_hex else 8


def _turn(where: Geometry, x: int, y: int, k: int) -> tuple[int, int]:
    """Image of a coordinate; axial on hexagons, 0..size-1 on squares."""
    if where.is_hex:
        if k >= 6:
            x, y = y, x
        for _ in range(k % 6):
            x, y = -y, x + y
        return x, y
    last = where.size - 1
    if k >= 4:
        x = last - x
    for _ in range(k % 4):
        x, y = last - y, x
    return x, y


@cache
def symmetries(board: str) -> Permutation:
    """Return the cell permutations [symmetries, cells] of a board."""
    where = geometry(board, 2)
    index = {xy: cell for cell, xy in enumerate(where.coordinates)}
    table = [[index[_turn(where, x, y, k)] for x, y in where.coordinates] for k in range(symmetry_count(board))]
    permutations = np.array(table, dtype=np.int32)
    permutations.setflags(write=False)
    return permutations


@cache
def inverse(board: str, k: int) -> int:
    """Return the symmetry that undoes number k."""
    permutations = symmetries(board)
    identity = np.arange(permutations.shape[1])
    return next(j for j in range(len(permutations)) if (permutations[j][permutations[k]] == identity).all())


@cache
def exact_symmetries(board: str) -> tuple[int, ...]:
    """Return the symmetries that keep all rules but the tie-breaks of recovery."""
    if board != "hex8":
        return tuple(range(symmetry_count(board)))
    where = geometry(board, 2)
    pair = {(1, 1), (-1, -1)}
    return tuple(k for k in range(12) if {_turn(where, x, y, k) for x, y in pair} == pair)


def _turned_direction(where: Geometry, permutation: Permutation, cell: int, to: int) -> int:
    return rays(where)[int(permutation[cell]), int(permutation[to])][0]


@cache
def code_permutation(where: Geometry, k: int) -> Permutation:
    """Return the image of each code under symmetry k [policy_size]; -1 for lines, regions and unused codes.

    The image of a recovery segment is not the one of the move that shares its code: use `turn_codes` there.
    """
    g, t = where.tables, where.tables.table
    cells, reach = where.cells, int(t[lay.T_REACH])
    permutation = symmetries(where.board)[k]
    table = np.full((g.policy_planes, cells), -1, dtype=np.int32)
    table[: lay.PLANE_MOVE] = np.arange(lay.PLANE_MOVE)[:, None] * cells + permutation
    eliminate = int(t[lay.T_PLANE_ELIMINATE])
    table[eliminate] = eliminate * cells + permutation
    for plane in range(g.scalar_plane, g.policy_planes):
        table[plane, 0] = plane * cells
    for (cell, to), (d, distance) in rays(where).items():
        image = _turned_direction(where, permutation, cell, to)
        table[lay.PLANE_MOVE + d * reach + distance - 1, cell] = (
            lay.PLANE_MOVE + image * reach + distance - 1
        ) * cells + permutation[cell]
    _turn_segments(where, permutation, table)
    flat = table.reshape(-1)
    flat.setflags(write=False)
    return flat


def _turn_segments(where: Geometry, permutation: Permutation, table: Permutation) -> None:
    """Fill the segment planes: a segment that is turned against its axis begins at its other end."""
    t = where.tables.table
    last = int(t[lay.T_LINE]) - 1
    plane = int(t[lay.T_PLANE_SEGMENT])
    axes = [int(t[lay.T_AXIS + a]) for a in range(int(t[lay.T_AXES]))]
    squares = t[lay.T_SQUARE : lay.T_SQUARE + where.cells]
    for axis, step in enumerate(axes):
        for cell in range(where.cells):
            ends = squares[cell] + step * np.array([0, last])
            if not all(0 <= int(e) < lay.FIRST_SQUARE + int(t[lay.T_SQUARES]) for e in ends):
                continue
            end = int(t[lay.T_CELL + ends[1]])
            if end < 0 or (cell, end) not in rays(where):
                continue
            first, other = int(permutation[cell]), int(permutation[end])
            turned = (int(squares[other]) - int(squares[first])) // last
            if turned not in axes:
                first, turned = other, -turned
            table[plane + axis, cell] = (plane + axes.index(turned)) * where.cells + first


def turn_state(s: Words, where: Geometry, k: int) -> Words:
    """Return the image of a state under symmetry k."""
    g, t = where.tables, where.tables.table
    permutation = symmetries(where.board)[k]
    squares = t[lay.T_SQUARE : lay.T_SQUARE + where.cells]
    image = np.zeros_like(s)
    new_game(image, g)
    for cell in range(where.cells):
        word = int(s[squares[cell]])
        to = int(squares[permutation[cell]])
        if word & lay.STACK:
            put_stack(image, t, to, rings_at(s, t, int(squares[cell])), word >> 8 & 255)
        elif word:
            put(image, t, to, word & lay.FACE)
    image[list(KEEP)] = s[list(KEEP)]
    image[lay.HAND : lay.STACKS] = s[lay.HAND : lay.STACKS]
    image[lay.ON_BOARD : lay.FIRST_SQUARE] = s[lay.ON_BOARD : lay.FIRST_SQUARE]
    for word in (lay.MUST_MOVE, lay.CHAIN):
        if s[word]:
            image[word] = squares[permutation[t[lay.T_CELL + s[word]]]]
    if s[lay.SLIDE]:
        image[lay.SLIDE] = code_permutation(where, k)[s[lay.SLIDE] - 1] + 1
    return image


def turn_move(move: Move, permutation: Permutation) -> Move:
    """Return the image of a move."""

    def one(cell: int) -> int:
        return int(permutation[cell]) if cell >= 0 else cell

    def many(cells: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(int(permutation[c]) for c in cells))

    return replace(
        move,
        origin=one(move.origin),
        target=one(move.target),
        to=one(move.to),
        extract=one(move.extract),
        cells=many(move.cells),
        collapse=many(move.collapse),
    )


def turn_codes(s: Words, where: Geometry, codes: Words, k: int) -> Words:
    """Return the images of legal codes of a state under symmetry k.

    -1 stands for a code without an image, which only a tie-break of recovery slides can cause.
    """
    g, t = where.tables, where.tables.table
    images = code_permutation(where, k)[codes].copy()
    planes = codes // g.cells
    afresh = images < 0
    if s[lay.STACKS + s[lay.PLAYER] - 1] == 0:  # recovery slides
        afresh |= (planes >= lay.PLANE_MOVE) & (planes < t[lay.T_PLANE_LINE])
    if afresh.any():
        permutation = symmetries(where.board)[k]
        turned = turn_state(s, where, k)
        candidates = legal_codes(turned, g)
        for j in np.flatnonzero(afresh):
            code = code_of(turned, where, turn_move(move_of(s, g, int(codes[j])), permutation), candidates)
            images[j] = -1 if code is None else code
    return images
