"""Gumbel AlphaZero search (Danihelka et al., ICLR 2022) over many games at once, for two to four players.

At the root, moves are drawn without replacement by Gumbel noise on the logits, and sequential halving shares the
simulations among them; below it, visits follow the improved policy. The improved policy (softmax of logits plus scaled
completed Q) is the training target. Without noise the search is deterministic. PUCT with Dirichlet noise is the other
rule for the root; its target is the share of visits.

Searches begin and end one by one (`begin`, `step`, `take`), so that in self-play every evaluation serves a full batch.

A slot keeps of its tree what lies below the next position (`keep`): `values`, the evaluations alone, so that the search
finds what a fresh one would, with fewer evaluations; `visits`, the visits too, as knowledge on top of which sequential
halving spends the whole budget; or `nothing`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.nets.encoder import Floats
from engine.nets.evaluator import Evaluator
from engine.rules.cells import Words
from engine.search.kept import KEEP, NOTHING, VISITS, replant
from engine.search.tree import (
    IDLE,
    PLANTED,
    Flags,
    Trees,
    absorb,
    conclude,
    conclude_puct,
    edges_for,
    make_trees,
    plant,
    root_codes,
    root_values,
    simulate,
)

CONSIDERED: Final = 16
VISIT_SCALE: Final = 50.0
# Chances lie in 0..1 already: no rescaling by the extremes seen. They differ by a few hundredths between moves, which
# the 0.1 that goes with rescaled values would drown in the logits (`python -m benchmarks.value_scale`).
VALUE_SCALE: Final = 1.0
EXPLORATION: Final = 1.25
DIRICHLET_SUM: Final = 10.0  # alpha times the number of moves, as AlphaZero chose it
ROOTS = ("gumbel", "puct")


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
    """A search with its memory, for up to `games` positions at once, each in a slot of its own."""

    def __init__(
        self, evaluator: Evaluator, games: int, simulations: int, considered: int = CONSIDERED, root: str = "gumbel",
        value_scale: float = VALUE_SCALE, keep: str = NOTHING,
    ) -> None:  # fmt: skip
        if simulations < 1 or considered < 1 or games < 1:
            raise ValueError("games, simulations and considered moves are 1 or more")
        if root not in ROOTS:
            raise ValueError(f"root {root!r}: choose one of {', '.join(ROOTS)}")
        if keep not in KEEP:
            raise ValueError(f"a search keeps one of {', '.join(KEEP)}, not {keep!r}")
        self.evaluator, self.games, self.simulations, self.considered = evaluator, games, simulations, considered
        self.value_scale = value_scale
        self.puct = EXPLORATION if root == "puct" else 0.0
        self.keep, self._kept_max = keep, 0 if keep == NOTHING else simulations
        self.trees: Trees = make_trees(evaluator.where, games, simulations, self._kept_max)
        self.evaluations = 0
        self._schedule = np.full((games, simulations + 2), IDLE, np.int32)  # what is due, step by step
        self._at = np.zeros(games, np.int32)
        self._active = np.zeros(games, np.bool_)
        self._slots = np.arange(games, dtype=np.int32)

    def begin(
        self, slots: Words, data: Words, rows: Words, simulations: Words, rngs: list[np.random.Generator] | None
    ) -> None:
        """Begin to search the positions `data[rows]` in `slots`, none of them over; noise is drawn from `rngs`."""
        if simulations.max(initial=0) > self.simulations:
            raise ValueError(f"{simulations.max()} simulations do not fit {self.simulations}")
        known = self._plant(slots, data, rows, simulations)
        self._schedule[slots] = IDLE
        self._schedule[slots, 0] = PLANTED
        for j, slot in enumerate(slots.tolist()):
            fan, budget = int((self.trees.fan[:, 0] if known[j] else self.trees.counts)[slot]), int(simulations[j])
            if fan > 1:
                due = halving(min(self.considered, fan), budget)
                self._schedule[slot, 1 : 1 + budget] = 0 if self.puct else due
            self.trees.noise[slot, :fan] = self._noise(fan, rngs[j]) if rngs else 0.0
        self._at[slots] = known  # a root that is known needs no evaluation
        self._active[slots] = True

    def _plant(self, slots: Words, data: Words, rows: Words, simulations: Words) -> Flags:
        """Make the positions roots; returns which stand on what their tree knew of them."""
        known = np.zeros(len(slots), np.bool_)
        tables = self.evaluator.where.tables
        if self._kept_max:
            # Without simulations the policy alone is asked for.
            visits = ((simulations > 0) & (self.keep == VISITS)).astype(np.int32)
            edges = edges_for(self.evaluator.where, self._kept_max)
            replant(self.trees, slots, data, rows, visits, self._kept_max, edges, tables, known)
        plant(self.trees, slots[~known], data, rows[~known], tables)
        return known

    def forget(self, slots: Words) -> None:
        """Keep nothing of the trees of `slots`: what comes next there is another game."""
        self.trees.nodes[slots] = 0

    def _noise(self, fan: int, rng: np.random.Generator) -> Floats:
        if self.puct:
            return rng.dirichlet(np.full(fan, DIRICHLET_SUM / fan)).astype(np.float32)
        return rng.gumbel(size=fan).astype(np.float32)

    def step(self) -> Words:
        """Evaluate one position of every search that is not done; returns the slots whose search is now done [n]."""
        trees, g = self.trees, self.evaluator.where.tables
        simulate(trees, self._schedule, self._at, self._active, g, VISIT_SCALE, self.value_scale, self.puct)
        wanted = np.flatnonzero(trees.counts).astype(np.int32)
        if len(wanted):
            self.evaluations += len(wanted)
            nodes = trees.states.shape[1]
            flat = trees.states.reshape(-1, trees.states.shape[2])
            rows = (wanted * nodes + trees.target[wanted]).astype(np.int32)
            counts = trees.counts[wanted]
            codes = trees.codes[:, : counts.max()][wanted]  # the widest position is far wider than those of a batch
            logits, values = self.evaluator.evaluate(flat, rows, codes, counts)
            absorb(trees, self._schedule, self._at, wanted, logits, values)
        done = self._active & (self._schedule[self._slots, self._at] == IDLE)
        self._active &= ~done
        ended: Words = np.flatnonzero(done).astype(np.int32)
        return ended

    def take(self, slots: Words) -> Found:
        """Return what the searches in `slots` found; a slot can then begin again."""
        n, width = len(slots), max(1, int(self.trees.fan[slots, 0].max()))
        policy, best = np.zeros((n, width), np.float32), np.zeros(n, np.int32)
        if self.puct:
            conclude_puct(self.trees, slots, policy, best)
        else:
            conclude(self.trees, slots, VISIT_SCALE, self.value_scale, policy, best)
        legal, counts = np.zeros((n, width), np.int32), np.zeros(n, np.int32)
        root_codes(self.trees, slots, legal, counts)
        values = np.zeros(n, np.float32)
        root_values(self.trees, slots, values)
        return Found(legal[np.arange(n), best], policy, legal, counts, values)

    def run(
        self, data: Words, rows: Words, simulations: int, rng: np.random.Generator | None, slots: Words | None = None
    ) -> Found:
        """Search the positions `data[rows]`, none of them over; noise is drawn from `rng`, none without it.

        `slots` [n], each once, tell whose trees may know the positions; without them those of the first n slots.
        """
        n = len(rows)
        if n > self.games or simulations > self.simulations:
            raise ValueError(f"{n} games x {simulations} simulations do not fit {self.games} x {self.simulations}")
        slots = self._slots[:n].copy() if slots is None else slots
        budgets = np.full(n, simulations, np.int32)
        self.begin(slots, data, rows.astype(np.int32), budgets, [rng] * n if rng else None)
        while self._active.any():
            self.step()
        return self.take(slots)
