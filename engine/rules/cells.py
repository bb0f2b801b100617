"""Changes of single cells: the only code that writes cells, rings, counts and bit rows."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.rules import layout as lay
from engine.rules.compiled import kernel

Words: TypeAlias = NDArray[np.int32]  # a state, a geometry table or a list of codes


@kernel
def rings_at(s: Words, t: Words, i: int) -> int:
    """Rings of the stack on square i, top ring in the lowest two bits."""
    rings = int(s[i + t[lay.T_RINGS]])
    if t[lay.T_WIDE]:
        rings |= int(s[i + 2 * t[lay.T_RINGS]]) << 30
    return rings


@kernel
def cap_of(rings: int, height: int) -> int:
    """Equal colours counted from the top."""
    top = rings & 3
    cap = 1
    rings >>= 2
    while cap < height and (rings & 3) == top:
        cap += 1
        rings >>= 2
    return cap


@kernel
def put(s: Words, t: Words, i: int, word: int) -> None:
    """Replace a cell word, and keep the counts and bit rows right."""
    width = int(t[lay.T_WIDTH])
    row = int(t[lay.T_ROWS]) + int(t[lay.T_ROW + i])
    bit = t[lay.T_BIT + i]
    old = int(s[i])
    if old & lay.MARKER:
        p = (old & 7) - 1
        s[lay.MARKERS + p] -= 1
        s[row + (lay.ROWS_MARKERS + p) * width] ^= bit
    elif old & lay.STACK:
        p = (old & 7) - 1
        s[lay.STACKS + p] -= 1
        s[row + (lay.ROWS_STACKS + p) * width] ^= bit
        if not word & lay.STACK:
            s[i + t[lay.T_RINGS]] = 0
            if t[lay.T_WIDE]:
                s[i + 2 * t[lay.T_RINGS]] = 0
    s[i] = word
    if word & lay.MARKER:
        p = (word & 7) - 1
        s[lay.MARKERS + p] += 1
        s[row + (lay.ROWS_MARKERS + p) * width] ^= bit
    elif word & lay.STACK:
        p = (word & 7) - 1
        s[lay.STACKS + p] += 1
        s[row + (lay.ROWS_STACKS + p) * width] ^= bit
    elif word & lay.COLLAPSED:
        s[lay.TERRITORY + (word & 7) - 1] += 1
        s[row + lay.ROWS_COLLAPSED * width] ^= bit


@kernel
def put_stack(s: Words, t: Words, i: int, rings: int, height: int) -> None:
    """Replace what is on square i by a stack; nothing is left when its height is 0."""
    if height == 0:
        put(s, t, i, 0)
        return
    s[i + t[lay.T_RINGS]] = rings & 0x3FFFFFFF
    if t[lay.T_WIDE]:
        s[i + 2 * t[lay.T_RINGS]] = rings >> 30
    put(s, t, i, lay.STACK | ((rings & 3) + 1) | height << 8 | cap_of(rings, height) << 16)


@kernel
def lose_ring(s: Words, colour: int, player: int) -> None:
    """Take one ring of a colour (0..3) out of the game and credit it to a player (rules §3.5)."""
    s[lay.ELIMINATED + player - 1] += 1
    s[lay.ON_BOARD + colour] -= 1
    if s[lay.ON_BOARD + colour] == 0 and s[lay.HAND + colour] == 0:
        s[lay.OUT_AT + colour] = s[lay.PLIES]


@kernel
def lose_top(s: Words, t: Words, i: int, count: int, player: int) -> None:
    """Eliminate the top `count` rings of the stack on square i."""
    rings = rings_at(s, t, i)
    height = (int(s[i]) >> 8) & 255
    for _ in range(count):
        lose_ring(s, rings & 3, player)
        rings >>= 2
    put_stack(s, t, i, rings, height - count)


@kernel
def lose_cap(s: Words, t: Words, i: int, player: int) -> None:
    """Eliminate the whole cap of the stack on square i (rules §11.6, §12.3)."""
    lose_top(s, t, i, int(s[i]) >> 16, player)


@kernel
def has_buried(s: Words, t: Words, i: int, player: int) -> bool:
    """Whether the stack on square i holds a ring of the player below its top ring."""
    height = (int(s[i]) >> 8) & 255
    rings = rings_at(s, t, i) >> 2
    for _ in range(1, height):
        if (rings & 3) == player - 1:
            return True
        rings >>= 2
    return False


@kernel
def extract(s: Words, t: Words, i: int, player: int) -> None:
    """Eliminate the player's lowest ring of the stack on square i (rules §9.6)."""
    rings = rings_at(s, t, i)
    height = (int(s[i]) >> 8) & 255
    k = height - 1
    while k > 0 and ((rings >> (2 * k)) & 3) != player - 1:
        k -= 1
    above = rings & ((1 << (2 * k)) - 1)
    lose_ring(s, player - 1, player)
    put_stack(s, t, i, above | (rings >> (2 * k + 2)) << (2 * k), height - 1)


@kernel
def collapse(s: Words, t: Words, i: int, player: int) -> None:
    """Make a cell the player's territory; rings on it are eliminated for that player (rules §11.4)."""
    if s[i] & lay.STACK:
        rings = rings_at(s, t, i)
        for _ in range((int(s[i]) >> 8) & 255):
            lose_ring(s, rings & 3, player)
            rings >>= 2
    put(s, t, i, lay.COLLAPSED | player)
