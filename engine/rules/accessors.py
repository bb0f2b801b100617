"""What a state holds, in cells and seats: for encoders and players."""

from engine.rules import layout as lay
from engine.rules.cells import Words, rings_at
from engine.rules.compiled import kernel
from engine.rules.geometry import Tables


@kernel
def is_over(s: Words) -> bool:
    """Whether the game has ended."""
    return bool(s[lay.PHASE] == lay.OVER)


@kernel
def winner(s: Words) -> int:
    """Seat of the winner, 0 while the game runs or when nobody has won."""
    return int(s[lay.WINNER])


@kernel
def to_move(s: Words) -> int:
    """Seat to move, 1..N; the winner once the game is over."""
    return int(s[lay.PLAYER])


@kernel
def n_players(s: Words) -> int:
    """Number of seats."""
    return int(s[lay.PLAYERS])


@kernel
def phase(s: Words) -> int:
    """Phase, see `layout`."""
    return int(s[lay.PHASE])


@kernel
def cell_word(s: Words, g: Tables, cell: int) -> int:
    """Word of a cell: owner | kind | height << 8 | cap << 16 (see `layout`)."""
    return int(s[g.table[lay.T_SQUARE + cell]])


@kernel
def owner(s: Words, g: Tables, cell: int) -> int:
    """Seat that owns what is on a cell, 0 when empty."""
    return int(s[g.table[lay.T_SQUARE + cell]]) & 7


@kernel
def kind(s: Words, g: Tables, cell: int) -> int:
    """0 empty, MARKER, STACK or COLLAPSED of `layout`."""
    return int(s[g.table[lay.T_SQUARE + cell]]) & (lay.MARKER | lay.STACK | lay.COLLAPSED)


@kernel
def height(s: Words, g: Tables, cell: int) -> int:
    """Rings of the stack on a cell, 0 without one."""
    return int(s[g.table[lay.T_SQUARE + cell]]) >> 8 & 255


@kernel
def cap(s: Words, g: Tables, cell: int) -> int:
    """Equal colours on top of the stack on a cell, 0 without one."""
    return int(s[g.table[lay.T_SQUARE + cell]]) >> 16


@kernel
def ring(s: Words, g: Tables, cell: int, depth: int) -> int:
    """Seat that owns the ring at a depth (0 top) of the stack on a cell; depth < height."""
    i = int(g.table[lay.T_SQUARE + cell])
    return ((rings_at(s, g.table, i) >> (2 * depth)) & 3) + 1


@kernel
def cell_at(g: Tables, square: int) -> int:
    """Cell of a square, -1 for none."""
    return int(g.table[lay.T_CELL + square])


@kernel
def must_move(s: Words, g: Tables) -> int:
    """Cell of the stack placed this turn, -1 for none."""
    return int(g.table[lay.T_CELL + s[lay.MUST_MOVE]])


@kernel
def chain_cell(s: Words, g: Tables) -> int:
    """Cell of the stack that may or must capture, -1 for none."""
    return int(g.table[lay.T_CELL + s[lay.CHAIN]])


@kernel
def pending(s: Words) -> int:
    """Payment due: DUE_NOTHING, DUE_LINE, DUE_TERRITORY or DUE_RECOVERY of `layout`."""
    return int(s[lay.PENDING])


@kernel
def hand(s: Words, seat: int) -> int:
    """Rings in hand of a seat (1..N)."""
    return int(s[lay.HAND + seat - 1])


@kernel
def eliminated(s: Words, seat: int) -> int:
    """Rings credited to a seat."""
    return int(s[lay.ELIMINATED + seat - 1])


@kernel
def territory(s: Words, seat: int) -> int:
    """Collapsed cells of a seat."""
    return int(s[lay.TERRITORY + seat - 1])


@kernel
def lps_count(s: Words) -> int:
    """Rounds in a row in which only `lps_holder` could act."""
    return int(s[lay.LPS_COUNT])


@kernel
def lps_holder(s: Words) -> int:
    """Seat that leads in last-player-standing, 0 for none."""
    return int(s[lay.LPS_HOLDER])
