"""Players without a net that look further: flat Monte-Carlo, and max-n over the heuristic (Luckhardt, Irani 1986).

With two players max-n with a difference of standings is minimax, and alpha-beta's bounds apply; with more it is
searched whole, to a small depth.
"""

from __future__ import annotations

import numpy as np

from engine.nets.encoder import Floats
from engine.players.heuristic import evaluate, score_moves
from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.geometry import Tables
from engine.rules.kernels import apply, draw, legal, playout_words, seed_random, state_hash
from engine.search.tree import settle

WIDTH = 12  # moves looked at below the root, the best by one decision of lookahead first


@kernel
def flat_monte_carlo(s: Words, g: Tables, playouts: int, seed: int) -> int:
    """Return the code after which the player to move wins the largest share of random games."""
    rng = np.empty(1, np.int64)
    seed_random(rng, seed)
    codes, out = np.empty(g.max_legal, np.int32), np.empty(g.max_legal, np.int32)
    n = legal(s, g, codes)
    seat = s[lay.PLAYER]
    work = np.empty_like(s)
    best, best_wins = 0, -1.0
    for j in range(n):
        wins = draw(rng, 1000) * 1e-6
        for _ in range(playouts):
            work[:] = s
            apply(work, g, int(codes[j]))
            playout_words(work, g.table, out, rng, 1 << 30)
            wins += 1.0 if work[lay.WINNER] == seat else 0.0
        if wins > best_wins:
            best, best_wins = j, wins
    return int(codes[best])


@kernel
def rollouts(data: Words, rows: Words, g: Tables, playouts: int, chances: Floats) -> None:
    """Write the share of random games that each seat wins from rows [n, players]; equal positions, equal games."""
    rng = np.empty(1, np.int64)
    out = np.empty(g.max_legal, np.int32)
    work = np.empty_like(data[0])
    for k in range(len(rows)):
        chances[k, :] = 0.0
        seed_random(rng, state_hash(data[rows[k]], g))
        for _ in range(playouts):
            work[:] = data[rows[k]]
            playout_words(work, g.table, out, rng, 1 << 30)
            if work[lay.WINNER]:
                chances[k, work[lay.WINNER] - 1] += 1.0 / playouts


@kernel
def order_moves(s: Words, g: Tables, codes: Words, n: int, weights: Floats, scores: Floats) -> None:
    """Sort the legal codes by their one-decision score, best first."""
    score_moves(s, g, codes, n, weights, scores)
    order = np.argsort(-scores[:n])
    sorted_codes, sorted_scores = codes[:n][order], scores[:n][order]
    codes[:n] = sorted_codes
    scores[:n] = sorted_scores


@kernel
def search_value(s: Words, g: Tables, depth: int, seat: int, weights: Floats, alpha: float, beta: float) -> float:
    """Value of a position for `seat`: everyone else is taken to play against it when there are two players."""
    if depth == 0 or s[lay.PHASE] == lay.OVER:
        return evaluate(s, g, seat, weights)
    codes, out = np.empty(g.max_legal, np.int32), np.empty(g.max_legal, np.int32)
    scores = np.empty(g.max_legal, np.float32)
    n = legal(s, g, codes)
    order_moves(s, g, codes, n, weights, scores)
    mine = s[lay.PLAYER] == seat
    best = -1e9 if mine else 1e9
    after = np.empty_like(s)
    for j in range(min(n, 12)):
        after[:] = s
        apply(after, g, int(codes[j]))
        settle(after, g, out)
        value = search_value(after, g, depth - 1, seat, weights, alpha, beta)
        if mine:
            best = max(best, value)
            alpha = max(alpha, best)
        else:
            best = min(best, value)
            beta = min(beta, best)
        if alpha >= beta:
            break
    return best


@kernel
def max_n(s: Words, g: Tables, depth: int, weights: Floats, seed: int) -> int:
    """Return the code with the best value `depth` decisions ahead; opponents are taken to play against the mover."""
    rng = np.empty(1, np.int64)
    seed_random(rng, seed)
    codes, out = np.empty(g.max_legal, np.int32), np.empty(g.max_legal, np.int32)
    scores = np.empty(g.max_legal, np.float32)
    n = legal(s, g, codes)
    order_moves(s, g, codes, n, weights, scores)
    seat = int(s[lay.PLAYER])
    after = np.empty_like(s)
    best, best_value = 0, -1e9
    for j in range(n):
        after[:] = s
        apply(after, g, int(codes[j]))
        settle(after, g, out)
        value = search_value(after, g, depth - 1, seat, weights, best_value, 1e9) + draw(rng, 1000) * 1e-6
        if value > best_value:
            best, best_value = j, value
    return int(codes[best])
