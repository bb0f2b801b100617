"""A player by hand-made features: looks one decision ahead and takes what reads best.

Features of a seat, each weighted and summed: rings eliminated and territory owned (what wins), markers (future lines),
stacks and their caps (power to capture), rings in hand, stacks that an opponent could capture at once, and the same of
the strongest opponent with a minus sign. The weights were tuned by self-play between variants of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.nets.encoder import Floats
from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.geometry import Tables
from engine.rules.kernels import apply
from engine.search.tree import settle

WIN: Final = 1000.0
FEATURES: Final = ("eliminated", "territory", "markers", "stacks", "caps", "hand", "tall", "buried")
WEIGHTS = np.array([12.0, 8.0, 1.2, 2.5, 1.0, 0.6, -0.4, -0.5], dtype=np.float32)


@kernel
def standing(s: Words, g: Tables, seat: int, weights: Floats) -> float:
    """Score of one seat."""
    t = g.table
    p = seat - 1
    caps, tall, own_rings = 0, 0, 0
    for cell in range(g.cells):
        word = int(s[t[lay.T_SQUARE + cell]])
        if word & 16 and word & 7 == seat:
            cap, height = word >> 16, word >> 8 & 255
            caps += cap
            own_rings += cap
            if height > 4:
                tall += height - 4
    buried = s[lay.ON_BOARD + p] - own_rings
    board = g.cells / 64.0
    return float(
        weights[0] * s[lay.ELIMINATED + p] / board
        + weights[1] * s[lay.TERRITORY + p] / board
        + weights[2] * s[lay.MARKERS + p]
        + weights[3] * s[lay.STACKS + p]
        + weights[4] * caps
        + weights[5] * s[lay.HAND + p]
        + weights[6] * tall
        + weights[7] * max(0, buried)
    )


@kernel
def evaluate(s: Words, g: Tables, seat: int, weights: Floats) -> float:
    """Score of a position for a seat: its own standing less that of the strongest opponent."""
    if s[lay.PHASE] == lay.OVER:
        return 1000.0 if s[lay.WINNER] == seat else -1000.0
    best = -1e9
    for other in range(1, g.players + 1):
        if other != seat:
            best = max(best, standing(s, g, other, weights))
    return standing(s, g, seat, weights) - best


@kernel
def score_moves(s: Words, g: Tables, codes: Words, n: int, weights: Floats, scores: Floats) -> None:
    """Write the score of each legal code: the position after it and after the moves that it forces."""
    seat = int(s[lay.PLAYER])
    after = np.empty_like(s)
    out = np.empty(g.max_legal, np.int32)
    for j in range(n):
        after[:] = s
        apply(after, g, int(codes[j]))
        settle(after, g, out)
        scores[j] = evaluate(after, g, seat, weights)


@kernel
def score_rows(data: Words, rows: Words, g: Tables, codes: Words, counts: Words, weights: Floats, out: Floats) -> None:
    """Score the legal codes [n, width] of chosen rows."""
    for k in range(len(rows)):
        score_moves(data[rows[k]], g, codes[k], counts[k], weights, out[k])
