"""Leagues with known strengths: games drawn from the model that a fit assumes, or from one that it does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.rating.games import HEURISTIC, RANDOM, RatedGame

LN = np.log(10) / 400


def names(count: int) -> list[str]:
    return [RANDOM, HEURISTIC, *(f"{k:02d}:gumbel:s16" for k in range(count - 2))]


def league(
    elos: Sequence[float], games: int, seats: int, seed: int, *, workers: int = 1, ties: float = 0.0
) -> list[RatedGame]:
    """Draw games among random line-ups by Plackett-Luce; a share of neighbours in the ranking tie."""
    rng = np.random.default_rng(seed)
    players, strength = names(len(elos)), np.asarray(elos) * LN
    found = []
    for k in range(games):
        chosen = rng.permutation(len(elos))[:seats]
        # Plackett-Luce as a race: Gumbel noise on the strengths, sorted.
        order = np.argsort(-(strength[chosen] + rng.gumbel(size=seats)))
        ranks = np.empty(seats, int)
        ranks[order] = np.arange(1, seats + 1)
        if ties and rng.random() < ties:
            low = int(rng.integers(1, seats))
            ranks[ranks == low + 1] = low
        line = tuple(players[i] for i in chosen)
        found.append(RatedGame("square8_2p", line, tuple(int(r) for r in ranks), f"w{k % workers}", str(k)))
    return found
