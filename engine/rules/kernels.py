"""The compiled rules: legal codes, apply, ending, playouts. Unchecked: they may only see legal input.

`s` is one state, `g` the `Tables` of a geometry. All of it also runs as plain Python (NUMBA_DISABLE_JIT=1).
"""

import numpy as np
from numpy.typing import NDArray

from engine.rules import layout as lay
from engine.rules.accessors import (
    cap,
    cell_at,
    cell_word,
    chain_cell,
    eliminated,
    hand,
    height,
    is_over,
    kind,
    lps_count,
    lps_holder,
    must_move,
    n_players,
    owner,
    pending,
    phase,
    ring,
    territory,
    to_move,
    winner,
)
from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.ending import ahead
from engine.rules.geometry import Tables
from engine.rules.playout import (
    TURN_LIMIT,
    Random,
    draw,
    playout_words,
    random_playout,
    seed_random,
)
from engine.rules.turn import (
    apply_words,
    legal_words,
)

__all__ = [
    "TURN_LIMIT",
    "Random",
    "apply",
    "apply_words",
    "cap",
    "cell_at",
    "cell_word",
    "chain_cell",
    "copy",
    "draw",
    "eliminated",
    "hand",
    "height",
    "is_over",
    "kind",
    "legal",
    "legal_words",
    "lps_count",
    "lps_holder",
    "must_move",
    "n_players",
    "new_game",
    "owner",
    "pending",
    "phase",
    "placement_values",
    "playout_words",
    "random_playout",
    "ranks",
    "ring",
    "seed_random",
    "state_hash",
    "territory",
    "to_move",
    "winner",
]


@kernel
def new_game(s: Words, g: Tables) -> None:
    """Set the starting position (rules §2.4)."""
    t = g.table
    for k in range(t[lay.T_STATE_WORDS]):
        s[k] = 0
    for k in range(t[lay.T_SQUARES]):
        s[lay.FIRST_SQUARE + k] = lay.COLLAPSED
    for q in range(t[lay.T_CELLS]):
        s[t[lay.T_SQUARE + q]] = 0
    s[lay.PLAYERS] = t[lay.T_PLAYERS]
    s[lay.PLAYER] = 1
    s[lay.SWAP] = t[lay.T_SWAP]
    for p in range(4):
        s[lay.OUT_AT + p] = lay.NEVER
        if p < t[lay.T_PLAYERS]:
            s[lay.HAND + p] = t[lay.T_SUPPLY]


@kernel
def legal(s: Words, g: Tables, out: Words) -> int:
    """Write the codes of all playable moves to `out` [max_legal]; return their number, 0 after the end."""
    return legal_words(s, g.table, out)


@kernel
def apply(s: Words, g: Tables, code: int) -> None:
    """Play a legal code. Any other code leaves a broken state."""
    apply_words(s, g.table, code)


@kernel
def ranks(s: Words, out: Words) -> None:
    """Write each seat's rank in a finished game to `out` [players]; ties share the better (rules §13.7)."""
    players = int(s[lay.PLAYERS])
    for a in range(1, players + 1):
        rank = 1
        for b in range(1, players + 1):
            if b != a and ahead(s, b, a):
                rank += 1
        out[a - 1] = rank


@kernel
def placement_values(s: Words, out: NDArray[np.float32]) -> None:
    """Write the value of each seat's place: 1 first, 0 last, evenly between, ties share their mean."""
    players = int(s[lay.PLAYERS])
    for a in range(1, players + 1):
        beaten = 0.0
        for b in range(1, players + 1):
            if b != a:
                if ahead(s, a, b):
                    beaten += 1.0
                elif not ahead(s, b, a):
                    beaten += 0.5
        out[a - 1] = beaten / (players - 1)


@kernel
def state_hash(s: Words, g: Tables) -> int:
    """63-bit hash of a position; how long it took to reach does not enter."""
    a = 0x2545F491
    b = 0x1B873593
    rows = int(g.table[lay.T_ROWS])
    for k in range(rows):
        if k in (lay.PLIES, lay.REGIONS, lay.LAST_ACTOR) or lay.OUT_AT <= k < lay.OUT_AT + 4:
            continue
        word = int(s[k]) & 0xFFFFFFFF
        a = ((a ^ word) * 0x01000193) & 0xFFFFFFFF
        b = ((b ^ word) * 0x05F356B5) & 0xFFFFFFFF
        a ^= a >> 15
        b ^= b >> 13
    return (a & 0x7FFFFFFF) << 32 | b


@kernel
def copy(target: Words, source: Words) -> None:
    """Copy a state."""
    for k in range(source.shape[0]):
        target[k] = source[k]
