"""Invariants of positions and moves (rules §20), checked from the cells alone."""

import numpy as np

from engine.rules import layout as lay
from engine.rules.actions import Move
from engine.rules.cells import Words, cap_of, rings_at
from engine.rules.game import Game
from engine.rules.lines import has_line

NO_OPS = ("NP", "NM", "NL", "NT")
BOOKKEEPING = (*NO_OPS, "SP", "SR", "SC", "ST")


class InvariantError(AssertionError):
    """An invariant does not hold."""


def _require(holds: object, what: str) -> None:
    if not holds:
        raise InvariantError(what)


def check_position(game: Game, *, from_play: bool = True) -> None:
    """Raise InvariantError on a contradiction; `from_play` adds what only play from the start ensures."""
    s, t = game.words, game.geometry.tables.table
    _check_cells(s, t)
    _check_rows(s, t)
    _check_turn(game, from_play=from_play)
    if from_play:
        supply, n = game.geometry.supply, game.players
        rings = s[lay.HAND : lay.HAND + n].sum() + s[lay.ON_BOARD : lay.ON_BOARD + n].sum()
        _require(rings + s[lay.ELIMINATED : lay.ELIMINATED + n].sum() == n * supply, "20.2: rings are conserved")
        for p in range(n):
            _require(s[lay.HAND + p] + s[lay.ON_BOARD + p] <= supply, "20.2: no colour grows")


def _check_cells(s: Words, t: Words) -> None:
    """Cells, and the counts of them (rules §20.1, §20.3)."""
    counts = np.zeros((4, 4), dtype=np.int64)  # [territory, stacks, markers, rings] of each seat
    for q in range(int(t[lay.T_CELLS])):
        i = int(t[lay.T_SQUARE + q])
        word = int(s[i])
        if word == 0:
            continue
        kind, owner = word & 56, word & 7
        _require(kind in (lay.MARKER, lay.STACK, lay.COLLAPSED), "20.1: one condition a cell")
        _require(1 <= owner <= s[lay.PLAYERS], "20.1: owners are seats")
        if kind != lay.STACK:
            _require(word == kind | owner, "20.1: only stacks have rings")
            counts[0 if kind == lay.COLLAPSED else 2, owner - 1] += 1
            continue
        rings, height, cap = rings_at(s, t, i), word >> 8 & 255, word >> 16
        _require(1 <= cap <= height, "20.1: 1 <= cap <= height")
        _require(cap == cap_of(rings, height), "20.1: cap is counted from the top")
        _require(owner == (rings & 3) + 1, "20.1: the top ring controls")
        _require(rings >> 2 * height == 0, "20.1: no ring above the height")
        counts[1, owner - 1] += 1
        for k in range(height):
            counts[3, rings >> 2 * k & 3] += 1
    for row, start in enumerate((lay.TERRITORY, lay.STACKS, lay.MARKERS, lay.ON_BOARD)):
        _require((counts[row] == s[start : start + 4]).all(), f"20.3: the counts at word {start} match the cells")


def _check_rows(s: Words, t: Words) -> None:
    """Bit rows mirror the cells."""
    width, size = int(t[lay.T_WIDTH]), int(t[lay.T_SIZE])
    rows = np.zeros((lay.ROWS_COMPONENT, width), dtype=np.int64)
    for q in range(int(t[lay.T_CELLS])):
        i = int(t[lay.T_SQUARE + q])
        word = int(s[i])
        y, bit = int(t[lay.T_ROW + i]), int(t[lay.T_BIT + i])
        if word & lay.MARKER:
            rows[lay.ROWS_MARKERS + (word & 7) - 1, y] |= bit
        elif word & lay.STACK:
            rows[lay.ROWS_STACKS + (word & 7) - 1, y] |= bit
        elif word & lay.COLLAPSED:
            rows[lay.ROWS_COLLAPSED, y] |= bit
    start = int(t[lay.T_ROWS])
    found = s[start : start + lay.ROWS_COMPONENT * width].reshape(-1, width)
    _require((found == rows).all(), "the bit rows mirror the cells")
    _require((found[:, [0, size + 1]] == 0).all(), "the rim rows are empty")


def _check_turn(game: Game, *, from_play: bool) -> None:
    """Turn variables and move lists (rules §20.5, §20.6, §20.8, §20.10)."""
    s, t = game.words, game.geometry.tables.table
    phase, player = int(s[lay.PHASE]), game.to_move
    kinds = [str(move) if move.kind in (*BOOKKEEPING, "SW") else move.kind for move in game.legal_moves()]
    if game.is_over:
        _require(not kinds, "20.6: nothing is legal after the end")
        return
    _require(kinds, "20.6: never empty while active")
    _require(len(set(game.legal_codes().tolist())) == len(kinds), "distinct moves have distinct codes")
    if phase == lay.PLACEMENT:  # later in the turn the last ring may be lost
        _require(s[lay.HAND + player - 1] + s[lay.ON_BOARD + player - 1] > 0, "20.10: the player has material")
    for word, phases in (
        (lay.MUST_MOVE, (lay.MOVEMENT,)),
        (lay.CHAIN, (lay.CAPTURE, lay.CHAIN_CAPTURE)),
        (lay.PENDING, (lay.LINES, lay.REGION)),
        (lay.SLIDE, (lay.EXTRACTION,)),
    ):
        if s[word]:
            _require(phase in phases, f"20.5: word {word} is set in its phases only")
            if word in (lay.MUST_MOVE, lay.CHAIN):
                _require(int(s[s[word]]) & lay.FACE == lay.STACK | player, "20.5: a stack of the player")
    alone = [kind for kind in kinds if kind != "SW"]
    for kind in NO_OPS:
        _require(kind not in kinds or alone == [kind], f"20.6: {kind} is the only legal move")
    for kind in ("SC", "ST"):
        _require(kind not in kinds or len(kinds) > 1, f"20.6: {kind} is never alone")
    if s[lay.PENDING] or phase in (lay.CHAIN_CAPTURE, lay.FORCED, lay.EXTRACTION):
        _require(not set(kinds) & set(BOOKKEEPING), "20.6: a duty has no no-op")
    if from_play and phase in (lay.REGION, lay.FORCED) and not s[lay.PENDING]:
        _require(not has_line(s, t, player), "20.8: no line is left behind")


def _progress(s: Words) -> int:
    """Markers, collapsed cells and eliminated rings: never fewer (rules §20.4)."""
    return int(s[lay.ELIMINATED : lay.STACKS].sum() + s[lay.MARKERS : lay.ON_BOARD].sum())


def check_move(before: Game, move: Move, after: Game) -> None:
    """Raise InvariantError when a move has changed what it must not (rules §20.1 to §20.12)."""
    a, b, t = before.words, after.words, before.geometry.tables.table
    seat = before.to_move - 1
    squares = t[lay.T_SQUARE : lay.T_SQUARE + before.geometry.cells]
    walls = (a[squares] & lay.COLLAPSED) != 0
    _require((a[squares][walls] == b[squares][walls]).all(), "20.1: collapsed cells never change")
    _require(_progress(b) >= _progress(a), "20.4: progress never goes back")
    if move.kind in ("M", "C", "K", "E", "F", "X"):
        _require(_progress(b) > _progress(a), f"20.4: {move.kind} is progress")
    if move.kind in BOOKKEEPING or move.kind == "SW":
        _require((a[squares] == b[squares]).all(), "20.7: bookkeeping leaves the board")
        _require((a[lay.HAND : lay.FIRST_SQUARE] == b[lay.HAND : lay.FIRST_SQUARE]).all(), "20.7: and counters")
    others = [p for p in range(4) if p != seat]
    for start in (lay.ELIMINATED, lay.TERRITORY):
        _require((a[start : start + 4][others] == b[start : start + 4][others]).all(), "20.12: only the mover's")
    _require((b[lay.HAND : lay.HAND + 4] <= a[lay.HAND : lay.HAND + 4]).all(), "20.2: hands never grow")
    if move.kind in ("M", "C", "K"):
        rings = int(a[lay.ON_BOARD : lay.OUT_AT].sum() - b[lay.ON_BOARD : lay.OUT_AT].sum())
        landed = bool(a[squares[move.to]] & lay.MARKER)
        _require(rings == int(landed), "20.11: one ring is lost on a marker, none elsewhere")
