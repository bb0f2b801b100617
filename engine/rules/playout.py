"""Random games, and the generator they draw from."""

import numpy as np
from numpy.typing import NDArray

from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.geometry import Tables
from engine.rules.turn import apply_words, legal_words

Random = NDArray[np.int64]  # [1], state of a PCG generator
TURN_LIMIT = 1 << 30


@kernel
def seed_random(rng: Random, seed: int) -> None:
    """Start a generator from any seed."""
    rng[0] = (seed * 747796405 + 2891336453) & 0xFFFFFFFF


@kernel
def draw(rng: Random, n: int) -> int:
    """Draw from 0..n-1 (PCG-RXS-M-XS 32, O'Neill 2014)."""
    x = int(rng[0])
    rng[0] = (x * 747796405 + 2891336453) & 0xFFFFFFFF
    word = (((x >> ((x >> 28) + 4)) ^ x) * 277803737) & 0xFFFFFFFF
    word = (word >> 22) ^ word
    return (word * n) >> 32


@kernel
def playout_words(s: Words, t: Words, out: Words, rng: Random, limit: int) -> int:
    """Play uniformly random legal codes to the end, or for `limit` plies; return the plies played."""
    plies = 0
    while s[lay.PHASE] != lay.OVER and plies < limit:
        n = legal_words(s, t, out)
        k = draw(rng, n) if n > 1 else 0
        apply_words(s, t, int(out[k]))
        plies += 1
    return plies


@kernel
def random_playout(s: Words, g: Tables, rng: Random) -> int:
    """Play uniformly random legal codes to the end of the game; return the plies played."""
    out = np.empty(g.max_legal, dtype=np.int32)
    return playout_words(s, g.table, out, rng, TURN_LIMIT)
