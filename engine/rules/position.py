"""Positions as text: sixteen fields joined with `|`, as in recorded games.

phase, seat to move, status, winner, hands, eliminated, territory, stacks (`cell:colours`, bottom ring first),
markers and collapsed cells (`cell:owner`), must-move cell, capturing cell, payment due, acted and recovered
flags, swap, and last-player-standing (`round,first,mask,exclusive,count,holder`). A recovery slide that waits
for its extraction, which recorded games do not know, has phase XT and payment `x` with the code of the slide.
"""

import numpy as np

from engine.rules import layout as lay
from engine.rules.cells import Words, put, put_stack, rings_at
from engine.rules.errors import BadPosition
from engine.rules.geometry import Geometry, Tables
from engine.rules.kernels import legal, new_game

PHASE_CODES = ("RP", "MV", "CA", "CC", "LP", "TP", "FE", "GO", "XT")
DUE_CODES = ("-", "l", "t", "r")
MASK_CODES = "-01"
FIELDS = 16


def _pairs(entries: list[tuple[int, str]]) -> str:
    return ",".join(f"{cell}:{content}" for cell, content in entries)


def _contents(s: Words, g: Tables) -> tuple[str, str, str]:
    """Stacks, markers and collapsed cells."""
    t = g.table
    stacks, markers, collapsed = [], [], []
    for cell in range(g.cells):
        square = int(t[lay.T_SQUARE + cell])
        word = int(s[square])
        if word & lay.STACK:
            rings = rings_at(s, t, square)
            height = word >> 8 & 255
            digits = "".join(str((rings >> 2 * k & 3) + 1) for k in reversed(range(height)))
            stacks.append((cell, digits))
        elif word & lay.MARKER:
            markers.append((cell, str(word & 7)))
        elif word & lay.COLLAPSED:
            collapsed.append((cell, str(word & 7)))
    return _pairs(stacks), _pairs(markers), _pairs(collapsed)


def _cell_text(g: Tables, square: int) -> str:
    return str(int(g.table[lay.T_CELL + square])) if square else "-"


def _due_text(s: Words) -> str:
    if s[lay.SLIDE]:
        return f"x{s[lay.SLIDE] - 1}"
    return DUE_CODES[s[lay.PENDING]]


def state_text(s: Words, g: Tables) -> str:
    """Write a state as text."""
    n = g.players
    phase = int(s[lay.PHASE])

    def numbers(start: int) -> str:
        return ",".join(str(v) for v in s[start : start + n])

    mask = "".join(MASK_CODES[int(s[lay.LPS_MASK]) >> 2 * p & 3] for p in range(n))
    return "|".join(
        [
            PHASE_CODES[phase],
            str(s[lay.PLAYER]),
            "X" if phase == lay.OVER else "A",
            str(s[lay.WINNER]),
            numbers(lay.HAND),
            numbers(lay.ELIMINATED),
            numbers(lay.TERRITORY),
            *_contents(s, g),
            _cell_text(g, int(s[lay.MUST_MOVE])) if phase == lay.MOVEMENT else "-",
            _cell_text(g, int(s[lay.CHAIN])) if phase in (lay.CAPTURE, lay.CHAIN_CAPTURE) else "-",
            _due_text(s),
            f"{s[lay.ACTED]}{s[lay.RECOVERED]}",
            str(s[lay.SWAP]),
            f"{s[lay.LPS_ROUND]},{s[lay.LPS_FIRST]},{mask},{s[lay.LPS_EXCLUSIVE]},"
            f"{s[lay.LPS_COUNT]},{s[lay.LPS_HOLDER]}",
        ]
    )


def _number(text: str, low: int, high: int, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or not low <= int(text) <= high:
        raise BadPosition(f"{what} is {text!r}: write a number from {low} to {high}")
    return int(text)


def _read_pairs(text: str, g: Tables, what: str) -> list[tuple[int, str]]:
    pairs = []
    for entry in text.split(",") if text else []:
        cell, colon, content = entry.partition(":")
        if not colon:
            raise BadPosition(f"{what} has the entry {entry!r}: write cell:owner")
        pairs.append((_number(cell, 0, g.cells - 1, f"a cell of the {what}"), content))
    return pairs


def _read_contents(s: Words, g: Tables, fields: list[str]) -> None:
    t = g.table
    highest = 2 * lay.RINGS_A_WORD if t[lay.T_WIDE] else lay.RINGS_A_WORD
    seen: set[int] = set()
    for text, what, kind in zip(
        fields, ("stacks", "markers", "collapsed cells"), (lay.STACK, lay.MARKER, lay.COLLAPSED), strict=True
    ):
        for cell, content in _read_pairs(text, g, what):
            if cell in seen:
                raise BadPosition(f"cell {cell} is filled twice: name each cell once")
            seen.add(cell)
            square = int(t[lay.T_SQUARE + cell])
            if kind != lay.STACK:
                put(s, t, square, kind | _number(content, 1, g.players, f"the owner of cell {cell}"))
                continue
            if not 1 <= len(content) <= highest:
                raise BadPosition(f"the stack on cell {cell} has {len(content)} rings: the limit is {highest}")
            rings = 0
            for digit in content:
                colour = _number(digit, 1, g.players, f"a ring on cell {cell}") - 1
                rings = rings << 2 | colour
                s[lay.ON_BOARD + colour] += 1
            put_stack(s, t, square, rings, len(content))


def _read_counts(s: Words, g: Tables, fields: list[str]) -> None:
    for text, start, what in zip(
        fields, (lay.HAND, lay.ELIMINATED, lay.TERRITORY), ("hand", "eliminated", "territory"), strict=True
    ):
        values = text.split(",")
        if len(values) != g.players:
            raise BadPosition(f"{what} has {len(values)} numbers: write one for each of {g.players} players")
        for p, value in enumerate(values):
            number = _number(value, 0, 1_000_000, what)
            if start == lay.TERRITORY and number != s[lay.TERRITORY + p]:
                raise BadPosition(
                    f"territory of player {p + 1} is {number}, but {s[lay.TERRITORY + p]} cells are collapsed"
                )
            s[start + p] = number


def _read_standing(s: Words, g: Tables, text: str) -> None:
    values = text.split(",")
    if len(values) != 6 or len(values[2]) != g.players or not set(values[2]) <= set(MASK_CODES):
        raise BadPosition(f"last-player-standing is {text!r}: write round,first,mask,exclusive,count,holder")
    s[lay.LPS_ROUND] = _number(values[0], 0, 1_000_000, "round")
    s[lay.LPS_FIRST] = _number(values[1], 0, g.players, "first seat of the round")
    s[lay.LPS_MASK] = sum(MASK_CODES.index(c) << 2 * p for p, c in enumerate(values[2]))
    s[lay.LPS_EXCLUSIVE] = _number(values[3], 0, g.players, "exclusive seat")
    s[lay.LPS_COUNT] = _number(values[4], 0, 1_000_000, "exclusive rounds")
    s[lay.LPS_HOLDER] = _number(values[5], 0, g.players, "holder")


def _read_square(s: Words, g: Tables, text: str, what: str) -> int:
    """Square of a stack of the player to move, 0 for `-`."""
    if text == "-":
        return 0
    square = int(g.table[lay.T_SQUARE + _number(text, 0, g.cells - 1, what)])
    if int(s[square]) & lay.FACE != lay.STACK | int(s[lay.PLAYER]):
        raise BadPosition(f"{what} is {text}, which holds no stack of the player to move")
    return square


def _read_due(s: Words, g: Tables, text: str) -> None:
    if text.startswith("x"):
        s[lay.SLIDE] = _number(text[1:], 0, g.policy_size - 1, "the waiting slide") + 1
    elif text in DUE_CODES:
        s[lay.PENDING] = DUE_CODES.index(text)
    else:
        raise BadPosition(f"payment due is {text!r}: choose one of {' '.join(DUE_CODES)}")


def _read_turn(s: Words, g: Tables, fields: list[str]) -> None:
    if fields[0] not in PHASE_CODES:
        raise BadPosition(f"phase is {fields[0]!r}: choose one of {' '.join(PHASE_CODES)}")
    s[lay.PHASE] = PHASE_CODES.index(fields[0])
    s[lay.PLAYER] = _number(fields[1], 1, g.players, "player")
    if fields[2] != ("X" if s[lay.PHASE] == lay.OVER else "A"):
        raise BadPosition(f"status is {fields[2]!r} in phase {fields[0]}: X belongs to GO, A to all others")
    s[lay.WINNER] = _number(fields[3], 0, g.players, "winner")
    s[lay.MUST_MOVE] = _read_square(s, g, fields[10], "the must-move cell")
    s[lay.CHAIN] = _read_square(s, g, fields[11], "the capturing cell")
    _read_due(s, g, fields[12])
    if len(fields[13]) != 2 or not set(fields[13]) <= {"0", "1"}:
        raise BadPosition(f"the flags are {fields[13]!r}: write two digits of 0 or 1")
    s[lay.ACTED], s[lay.RECOVERED] = int(fields[13][0]), int(fields[13][1])
    s[lay.SWAP] = _number(fields[14], 0, 3, "swap")


def _check_playable(s: Words, g: Tables) -> None:
    """Refuse positions in which the kernels would have nothing to do or read outside their words."""
    phase = int(s[lay.PHASE])
    if (phase in (lay.CAPTURE, lay.CHAIN_CAPTURE)) != (s[lay.CHAIN] != 0):
        raise BadPosition("a capturing cell belongs to the phases CA and CC, and to no other")
    if s[lay.MUST_MOVE] and phase != lay.MOVEMENT:
        raise BadPosition("a must-move cell belongs to the phase MV alone")
    if (phase == lay.EXTRACTION) != (s[lay.SLIDE] != 0):
        raise BadPosition("a waiting slide belongs to the phase XT, and to no other")
    if s[lay.PENDING] and phase != (lay.LINES if s[lay.PENDING] == lay.DUE_LINE else lay.REGION):
        raise BadPosition("a line payment belongs to the phase LP, other payments to TP")
    if phase != lay.OVER and legal(s, g, np.empty(g.max_legal, dtype=np.int32)) == 0:
        raise BadPosition("no move is legal in this position: it cannot come from a game")


def parse_state(text: str, geometry: Geometry) -> Words:
    """Read a state; raise BadPosition when it is none of this board and number of players."""
    g = geometry.tables
    if not isinstance(text, str):
        raise BadPosition("the position must be a text")
    fields = text.split("|")
    if len(fields) != FIELDS:
        raise BadPosition(f"the position has {len(fields)} fields: write {FIELDS}, joined with |")
    s = np.zeros(g.state_words, dtype=np.int32)
    new_game(s, g)
    _read_contents(s, g, fields[7:10])
    _read_counts(s, g, fields[4:7])
    _read_turn(s, g, fields)
    _read_standing(s, g, fields[15])
    for p in range(g.players):
        if s[lay.HAND + p] == 0 and s[lay.ON_BOARD + p] == 0:
            s[lay.OUT_AT + p] = 0
    if s[lay.SLIDE]:
        _check_slide(s, g)
    _check_playable(s, g)
    return s


def _check_slide(s: Words, g: Tables) -> None:
    """Refuse a waiting slide that the position does not offer."""
    before = s.copy()
    before[lay.PHASE] = lay.MOVEMENT
    before[lay.SLIDE] = 0
    out = np.empty(g.max_legal, dtype=np.int32)
    count = legal(before, g, out)
    if int(s[lay.SLIDE]) - 1 not in out[:count]:
        raise BadPosition("the waiting slide is not legal in this position")
