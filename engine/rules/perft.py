"""Perft: how many sequences of legal codes of a length a position has."""

import numpy as np

from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.errors import RulesError
from engine.rules.game import Game
from engine.rules.geometry import Tables
from engine.rules.kernels import apply, copy, legal

DEEPEST = 12


@kernel
def _count(states: Words, g: Tables, lists: Words, counts: Words, places: Words, depth: int) -> int:
    """Walk the tree below states[0]; row k of each array belongs to depth k."""
    leaves = 0
    k = 0
    counts[0] = legal(states[0], g, lists[0])
    places[0] = 0
    while k >= 0:
        if k == depth - 1:
            leaves += counts[k]
            k -= 1
        elif places[k] == counts[k]:
            k -= 1
        else:
            copy(states[k + 1], states[k])
            apply(states[k + 1], g, int(lists[k, places[k]]))
            places[k] += 1
            k += 1
            counts[k] = legal(states[k], g, lists[k])
            places[k] = 0
    return leaves


def perft(game: Game, depth: int) -> int:
    """Count the sequences of `depth` legal codes from a position; shorter games count nothing."""
    if not 1 <= depth <= DEEPEST:
        raise RulesError(f"depth {depth}: choose 1 to {DEEPEST}")
    g = game.geometry.tables
    states = np.zeros((depth, g.state_words), dtype=np.int32)
    states[0] = game.words
    lists = np.zeros((depth, g.max_legal), dtype=np.int32)
    counts = np.zeros(depth, dtype=np.int32)
    return int(_count(states, g, lists, counts, np.zeros(depth, dtype=np.int32), depth))
