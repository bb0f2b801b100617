"""An evaluator without a net: hand-made features say which moves look good, random games say who is likely to win.

The standings themselves hardly tell the winner (on square8 for three, an even guess is better), so values are shares of
random games, one in a hundred of them taken back for each seat.
"""

from __future__ import annotations

import numpy as np

from engine.nets.encoder import Floats
from engine.players.heuristic import WEIGHTS, score_rows
from engine.players.lookahead import rollouts
from engine.rules.cells import Words
from engine.rules.geometry import Geometry

POLICY_HEAT = 1.5  # of the softmax over one-decision scores
LOGIT_RANGE = 8.0  # a won position scores a thousand: kept from swamping the rest
EVEN_SHARE = 0.01  # of a value that is even, as no number of random games makes a win certain


class RolloutEvaluator:
    """Logits from one-decision scores, win chances from random games."""

    def __init__(self, where: Geometry, playouts: int = 8) -> None:
        self.where, self.playouts = where, playouts

    def evaluate(self, data: Words, rows: Words, codes: Words, counts: Words) -> tuple[Floats, Floats]:
        """See Evaluator."""
        g, rows = self.where.tables, rows.astype(np.int32)
        scores = np.full(codes.shape, -np.inf, np.float32)
        score_rows(data, rows, g, codes, counts, WEIGHTS, scores)
        scores -= scores.max(1, keepdims=True)
        chances = np.zeros((len(rows), self.where.players), np.float32)
        rollouts(data, rows, g, self.playouts, chances)
        chances = chances * (1 - EVEN_SHARE) + EVEN_SHARE / self.where.players
        return np.maximum(scores / POLICY_HEAT, -LOGIT_RANGE), chances.astype(np.float32)
