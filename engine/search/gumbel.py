"""Gumbel AlphaZero search (Danihelka et al., ICLR 2022) over many games at once, for two to four players.

At the root, moves are drawn without replacement by Gumbel noise on the logits, and sequential halving shares the
simulations among them; below it, visits follow the improved policy. The improved policy (softmax of logits plus scaled
completed Q) is the training target. Without noise the search is deterministic.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.nets.encoder import Floats
from engine.nets.evaluator import Evaluator
from engine.rules.cells import Words
from engine.search.tree import Trees, absorb, conclude, expand, make_trees, plant, root_values, simulate

CONSIDERED = 16
VISIT_SCALE = 50.0
VALUE_SCALE = 0.1  # chances lie in 0..1 already: no rescaling by the extremes seen


class Found(NamedTuple):
    """What a search found of each position."""

    codes: Words  # [games] chosen
    policy: Floats  # [games, width] improved policy over `legal`
    legal: Words  # [games, width]
    counts: Words  # [games]
    value: Floats  # [games] chance of the player to move


@cache
def halving(considered: int, simulations: int) -> NDArray[np.int32]:
    """Return for each simulation how many visits its root move must have had: sequential halving, flattened.

    Each round gives the moves still in play the same number of further visits; then the better half stays
    (Karnin, Koren, Somekh 2013).
    """
    rounds = max(1, math.ceil(math.log2(max(2, considered))))
    due: list[int] = []
    alive, visited = considered, 0
    while len(due) < simulations:
        each = max(1, simulations // (rounds * alive))
        for step in range(each):
            due += [visited + step] * alive
        visited += each
        alive = max(min(2, considered), alive // 2)
    table: NDArray[np.int32] = np.array(due[:simulations], dtype=np.int32)
    table.setflags(write=False)
    return table


class GumbelSearch:
    """A search with its memory, for up to `games` positions at once."""

    def __init__(self, evaluator: Evaluator, games: int, simulations: int, considered: int = CONSIDERED) -> None:
        if simulations < 1 or considered < 1 or games < 1:
            raise ValueError("games, simulations and considered moves are 1 or more")
        self.evaluator, self.games, self.simulations, self.considered = evaluator, games, simulations, considered
        self.trees: Trees = make_trees(evaluator.where, games, simulations)

    def run(self, data: Words, rows: Words, simulations: int, rng: np.random.Generator | None) -> Found:
        """Search the positions `data[rows]`, none of them over; noise is drawn from `rng`, none without it."""
        n, g = len(rows), self.evaluator.where.tables
        if n > self.games or simulations > self.simulations:
            raise ValueError(f"{n} games x {simulations} simulations do not fit {self.games} x {self.simulations}")
        trees = self._part(n)
        plant(trees, data, rows.astype(np.int32), g)
        logits, values = self.evaluator.evaluate(data, rows.astype(np.int32), trees.codes, trees.counts)
        for k in range(n):
            expand(trees, k, logits[k], values[k])
        counts = trees.fan[:, 0].copy()
        trees.gumbel[:] = rng.gumbel(size=trees.gumbel.shape).astype(np.float32) if rng else 0.0
        self._simulate(trees, counts, simulations)
        policy, best = np.zeros((n, g.max_legal), np.float32), np.zeros(n, np.int32)
        conclude(trees, n, VISIT_SCALE, VALUE_SCALE, policy, best)
        width = max(1, int(counts.max()))
        legal = np.zeros((n, width), np.int32)
        for k in range(n):
            legal[k, : counts[k]] = trees.code[k, trees.first[k, 0] : trees.first[k, 0] + counts[k]]
        return Found(legal[np.arange(n), best], policy[:, :width], legal, counts, root_values(trees, n))

    def _part(self, n: int) -> Trees:
        return Trees._make(array[:n] for array in self.trees)

    def _simulate(self, trees: Trees, counts: Words, simulations: int) -> None:
        tables = {int(c): halving(min(self.considered, int(c)), simulations) for c in np.unique(counts)}
        schedule = np.stack([tables[int(c)] for c in counts])  # [games, simulations]
        schedule[counts < 2] = -1
        g = self.evaluator.where.tables
        nodes = trees.states.shape[1]
        flat = trees.states.reshape(-1, trees.states.shape[2])
        for step in range(simulations):
            due = np.ascontiguousarray(schedule[:, step])
            simulate(trees, due, g, VISIT_SCALE, VALUE_SCALE)
            wanted = np.flatnonzero(trees.counts).astype(np.int32)
            if len(wanted):
                rows = (wanted * nodes + trees.target[wanted]).astype(np.int32)
                logits, values = self.evaluator.evaluate(flat, rows, trees.codes[wanted], trees.counts[wanted])
            else:
                logits = np.zeros((0, 1), np.float32)
                values = np.zeros((0, self.evaluator.where.players), np.float32)
            absorb(trees, due, wanted, logits, values)
