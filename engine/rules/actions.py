"""Moves, their notation, and their codes in the fixed policy layout.

A code is `plane * cells + cell`; planes before `scalar_plane` are convolutional:

    planes                 cell                  meaning
    0..2                   target                place one to three rings
    3 + d * reach + k      departure             move or capture in direction d over distance k + 1
      the same             marker                recovery slide in direction d: k = 0 with payment, fallback
                                                 or strike; k = 1 + p: segment whose cell p is the marker
    line + axis            first of the line     collapse the whole line
    segment + axis         first of the segment  collapse L cells of an over-long line
    region + w             first of the region   process it; border colour w seats after the player, 4 none
    eliminate              stack                 pay, extract, or forced elimination
    skip, nothing, swap    0                     one code each; the phase says what is skipped

`reach` is the board's longest ray. Axes and directions are in the order of rules §1.4, cells row by row.
Distinct legal moves of one position have distinct codes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.errors import RulesError
from engine.rules.geometry import Geometry, Tables
from engine.rules.kernels import legal
from engine.rules.recovery import best_run, count_extractions
from engine.rules.regions import mark_region

if TYPE_CHECKING:
    from engine.rules.game import Game

SKIPS = {lay.PLACEMENT: "SP", lay.MOVEMENT: "SR", lay.CAPTURE: "SC", lay.REGION: "ST"}
NOTHINGS = {lay.PLACEMENT: "NP", lay.MOVEMENT: "NM", lay.LINES: "NL", lay.REGION: "NT"}
PLAIN = frozenset({*SKIPS.values(), *NOTHINGS.values(), "SW"})
DUE_LETTERS = {lay.DUE_LINE: "l", lay.DUE_TERRITORY: "t", lay.DUE_RECOVERY: "r"}
PATTERNS = (
    re.compile(r"(?P<kind>P)(?P<to>\d+)x(?P<count>[123])"),
    re.compile(r"(?P<kind>M)(?P<origin>\d+)-(?P<to>\d+)"),
    re.compile(r"(?P<kind>[CK])(?P<origin>\d+)-(?P<target>\d+)-(?P<to>\d+)"),
    re.compile(
        r"(?P<kind>R)(?P<origin>\d+)-(?P<to>\d+)(?P<mode>L1|L2|F|S)"
        r"(:(?P<collapse>[\d.]+))?(@(?P<extract>\d+))?"
    ),
    re.compile(r"(?P<kind>O)(?P<cells>[\d.]+)/(?P<collapse>[\d.]+)"),
    re.compile(r"(?P<kind>[LT])(?P<cells>[\d.]+)"),
    re.compile(r"(?P<kind>E)(?P<to>\d+)(?P<mode>[ltr])"),
    re.compile(r"(?P<kind>[FX])(?P<to>\d+)"),
)


@dataclass(frozen=True, slots=True)
class Move:
    """One move; fields that its kind does not use are -1 or empty.

    Kinds are the letters of the notation: P place, M move, C capture, K continue a capture, R recovery slide,
    L line, O over-long line, T region, E payment, F forced elimination, X extraction, and the plain
    SP NP SW SC NM SR NL ST NT.
    """

    kind: str
    origin: int = -1
    target: int = -1
    to: int = -1
    count: int = 0
    mode: str = ""  # of R: L1, L2, F, S; of E: l, t, r
    cells: tuple[int, ...] = ()  # line or region, ascending
    collapse: tuple[int, ...] = ()  # chosen cells of an over-long line, ascending
    extract: int = -1  # stack that a recovery slide pays from; -1 also when that is decided afterwards

    def __str__(self) -> str:
        """Return the notation."""
        match self.kind:
            case "P":
                return f"P{self.to}x{self.count}"
            case "M":
                return f"M{self.origin}-{self.to}"
            case "C" | "K":
                return f"{self.kind}{self.origin}-{self.target}-{self.to}"
            case "R":
                segment = ":" + _dots(self.collapse) if self.collapse else ""
                payer = f"@{self.extract}" if self.extract >= 0 else ""
                return f"R{self.origin}-{self.to}{self.mode}{segment}{payer}"
            case "L" | "T":
                return self.kind + _dots(self.cells)
            case "O":
                return f"O{_dots(self.cells)}/{_dots(self.collapse)}"
            case "E":
                return f"E{self.to}{self.mode}"
            case "F" | "X":
                return f"{self.kind}{self.to}"
            case _:
                return self.kind


def _dots(cells: Sequence[int]) -> str:
    return ".".join(str(cell) for cell in cells)


def _cells(text: str | None) -> tuple[int, ...]:
    return tuple(sorted(int(c) for c in text.split(".") if c)) if text else ()


def parse_move(notation: str) -> Move:
    """Read a move; raise RulesError when it is no notation."""
    if notation in PLAIN:
        return Move(notation)
    for pattern in PATTERNS:
        found = pattern.fullmatch(notation)
        if found and len(notation) < 5000:
            part = found.groupdict()
            numbers = {k: int(part[k]) for k in ("origin", "target", "to", "count", "extract") if part.get(k)}
            return Move(
                part["kind"],
                **numbers,
                mode=part.get("mode") or "",
                cells=_cells(part.get("cells")),
                collapse=_cells(part.get("collapse")),
            )
    raise RulesError(f"{notation[:40]!r} is no move: see the notation in docs/rules-engine.md")


def _run_cells(t: Words, square: int, step: int, count: int) -> tuple[int, ...]:
    return tuple(sorted(int(t[lay.T_CELL + square + k * step]) for k in range(count)))


def _line_cells(s: Words, t: Words, square: int, step: int) -> tuple[int, ...]:
    """All cells of the marker run through a square."""
    own = s[square]
    while s[square - step] == own:
        square -= step
    count = 1
    while s[square + count * step] == own:
        count += 1
    return _run_cells(t, square, step, count)


def region_cells(s: Words, g: Tables, code: int) -> tuple[int, ...]:
    """Cells of the region that a code of territory processing names."""
    t = g.table
    wall = code // g.cells - int(t[lay.T_PLANE_REGION])
    colour = -1 if wall == 4 else (int(s[lay.PLAYER]) - 1 + wall) % g.players
    scratch = s.copy()
    mark_region(scratch, t, code % g.cells, colour)
    base = int(t[lay.T_ROWS]) + lay.ROWS_COMPONENT * g.width
    squares = t[lay.T_SQUARE : lay.T_SQUARE + g.cells]
    inside = scratch[base + t[lay.T_ROW + squares]] & t[lay.T_BIT + squares]
    return tuple(int(c) for c in np.flatnonzero(inside))


def _ray_move(s: Words, g: Tables, plane: int, cell: int) -> Move:
    t = g.table
    direction, k = divmod(plane - lay.PLANE_MOVE, int(t[lay.T_REACH]))
    step = int(t[lay.T_STEP + direction])
    square = int(t[lay.T_SQUARE + cell])
    to = int(t[lay.T_CELL + square + (k + 1) * step])
    for n in range(1, k + 1):
        if s[square + n * step] & lay.STACK:
            kind = "K" if s[lay.PHASE] == lay.CHAIN_CAPTURE else "C"
            return Move(kind, origin=cell, target=int(t[lay.T_CELL + square + n * step]), to=to)
    return Move("M", origin=cell, to=to)


def _slide_move(s: Words, g: Tables, plane: int, cell: int) -> Move:
    t = g.table
    direction, k = divmod(plane - lay.PLANE_MOVE, int(t[lay.T_REACH]))
    player = int(s[lay.PLAYER])
    origin = int(t[lay.T_SQUARE + cell])
    square = origin + int(t[lay.T_STEP + direction])
    to = int(t[lay.T_CELL + square])
    if k:
        step = (best_run(s, t, origin, square, lay.MARKER | player) >> 16) - 64
        segment = _run_cells(t, square - (k - 1) * step, step, int(t[lay.T_LINE]))
        return Move("R", origin=cell, to=to, mode="L2", collapse=segment)
    if s[square] & lay.STACK:
        mode = "S"
    elif best_run(s, t, origin, square, lay.MARKER | player) & 255 >= t[lay.T_LINE]:
        mode = "L1"
    else:
        mode = "F"
    payers = count_extractions(s, t, player)
    extract = int(t[lay.T_CELL + (payers >> 16)]) if payers & 0xFFFF == 1 else -1
    return Move("R", origin=cell, to=to, mode=mode, extract=extract)


def _line_move(s: Words, g: Tables, plane: int, cell: int) -> Move:
    t = g.table
    whole = plane < t[lay.T_PLANE_SEGMENT]
    axis = plane - int(t[lay.T_PLANE_LINE] if whole else t[lay.T_PLANE_SEGMENT])
    square = int(t[lay.T_SQUARE + cell])
    step = int(t[lay.T_AXIS + axis])
    cells = _line_cells(s, t, square, step)
    length = int(t[lay.T_LINE])
    if len(cells) == length:
        return Move("L", cells=cells)
    return Move("O", cells=cells, collapse=cells if whole else _run_cells(t, square, step, length))


def move_of(s: Words, g: Tables, code: int) -> Move:
    """Return the move that a legal code stands for in a state."""
    t = g.table
    plane, cell = divmod(code, g.cells)
    phase = int(s[lay.PHASE])
    if plane < lay.PLANE_MOVE:
        return Move("P", to=cell, count=plane + 1)
    if plane < t[lay.T_PLANE_LINE]:
        if s[lay.STACKS + s[lay.PLAYER] - 1] > 0:
            return _ray_move(s, g, plane, cell)
        return _slide_move(s, g, plane, cell)
    if plane < t[lay.T_PLANE_REGION]:
        return _line_move(s, g, plane, cell)
    if plane < t[lay.T_PLANE_ELIMINATE]:
        return Move("T", cells=region_cells(s, g, code))
    if plane == t[lay.T_PLANE_ELIMINATE]:
        if phase in (lay.FORCED, lay.EXTRACTION):
            return Move("F" if phase == lay.FORCED else "X", to=cell)
        return Move("E", to=cell, mode=DUE_LETTERS[int(s[lay.PENDING])])
    if plane == t[lay.T_PLANE_SWAP]:
        return Move("SW")
    return Move((SKIPS if plane == t[lay.T_PLANE_SKIP] else NOTHINGS)[phase])


def code_to_move(game: "Game", code: int) -> Move:
    """Return the legal move of a game with a code; raise IllegalMove when there is none."""
    return game.move(code)


def move_to_code(game: "Game", move: Move | str) -> int:
    """Return the code of a legal move of a game; raise IllegalMove when it is not legal."""
    return game.code(move)


def legal_codes(s: Words, g: Tables) -> Words:
    """Return the codes of all legal moves of a state."""
    out = np.empty(g.max_legal, dtype=np.int32)
    return out[: legal(s, g, out)].copy()


@cache
def rays(geometry: Geometry) -> dict[tuple[int, int], tuple[int, int]]:
    """Direction and distance between every two cells that share a ray."""
    t = geometry.tables.table
    found = {}
    for cell in range(geometry.cells):
        square = int(t[lay.T_SQUARE + cell])
        for d in range(int(t[lay.T_DIRECTIONS])):
            step = int(t[lay.T_STEP + d])
            distance = 1
            while (to := int(t[lay.T_CELL + square + distance * step])) >= 0:
                found[cell, to] = (d, distance)
                distance += 1
    return found


def _direct_code(geometry: Geometry, move: Move) -> int | None:
    """Code of a move whose fields name it alone; None for the others, -1 for cells off the board or a ray."""
    t = geometry.tables.table
    cells = geometry.cells
    if max(move.to, move.origin, move.target) >= cells:
        return -1
    match move.kind:
        case "P":
            return (move.count - 1) * cells + move.to
        case "M" | "C" | "K":
            ray = rays(geometry).get((move.origin, move.to))
            if ray is None:
                return -1
            return (lay.PLANE_MOVE + ray[0] * int(t[lay.T_REACH]) + ray[1] - 1) * cells + move.origin
        case "E" | "F" | "X":
            return int(t[lay.T_PLANE_ELIMINATE]) * cells + move.to
        case "SW":
            return int(t[lay.T_PLANE_SWAP]) * cells
        case "L" | "O" | "T" | "R":
            return None
        case _:
            plane = lay.T_PLANE_SKIP if move.kind in SKIPS.values() else lay.T_PLANE_NOTHING
            return int(t[plane]) * cells


def code_of(s: Words, geometry: Geometry, move: Move, codes: Words) -> int | None:
    """Return the code among `codes`, the legal ones, that stands for the move; None when it is not legal."""
    g = geometry.tables
    direct = _direct_code(geometry, move)
    if direct is None:
        for code in codes:
            if move_of(s, g, int(code)) == move:
                return int(code)
        return None
    if direct >= 0 and bool((codes == direct).any()) and move_of(s, g, direct) == move:
        return direct
    return None
