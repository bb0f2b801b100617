"""Many games in one array, played in place by all threads."""

import numba
import numpy as np
from numpy.typing import NDArray

from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.compiled import parallel_kernel
from engine.rules.errors import IllegalMove, RulesError
from engine.rules.geometry import Geometry, Tables
from engine.rules.kernels import TURN_LIMIT, apply, legal, new_game, playout_words, seed_random


@parallel_kernel
def _new_games(data: Words, g: Tables) -> None:
    for k in numba.prange(data.shape[0]):
        new_game(data[k], g)


@parallel_kernel
def _legal_games(data: Words, g: Tables, out: Words, counts: Words) -> None:
    for k in numba.prange(data.shape[0]):
        counts[k] = legal(data[k], g, out[k])


@parallel_kernel
def _check_codes(data: Words, g: Tables, codes: Words, bad: Words) -> None:
    for k in numba.prange(data.shape[0]):
        bad[k] = 0
        if codes[k] != -1:
            out = np.empty(g.max_legal, dtype=np.int32)
            n = legal(data[k], g, out)
            bad[k] = 1
            for j in range(n):
                if out[j] == codes[k]:
                    bad[k] = 0


@parallel_kernel
def _apply_codes(data: Words, g: Tables, codes: Words) -> None:
    for k in numba.prange(data.shape[0]):
        if codes[k] >= 0:
            apply(data[k], g, codes[k])


@parallel_kernel
def _playouts(data: Words, g: Tables, seeds: NDArray[np.int64], plies: NDArray[np.int64], limit: int) -> None:
    for k in numba.prange(data.shape[0]):
        out = np.empty(g.max_legal, dtype=np.int32)
        rng = np.empty(1, dtype=np.int64)
        seed_random(rng, seeds[k])
        plies[k] = playout_words(data[k], g.table, out, rng, limit)


def game_seeds(seed: int, games: int) -> NDArray[np.int64]:
    """Return a seed for each game of a batch [games]."""
    return np.random.SeedSequence(seed).generate_state(games, np.uint32).astype(np.int64)


class GameBatch:
    """Games of one geometry; `data` [games, state_words] is the memory they live in."""

    def __init__(self, geometry: Geometry, games: int) -> None:
        if not 1 <= games <= 1 << 24:
            raise RulesError(f"a batch of {games} games: choose 1 to {1 << 24}")
        self.geometry = geometry
        self.data: Words = np.zeros((games, geometry.tables.state_words), dtype=np.int32)
        self.reset()

    def __len__(self) -> int:
        """Return the number of games."""
        return len(self.data)

    def reset(self) -> None:
        """Start all games again."""
        _new_games(self.data, self.geometry.tables)

    def legal(self) -> tuple[Words, Words]:
        """Return codes [games, max_legal], of which the first counts [games] of each row are legal."""
        out = np.empty((len(self.data), self.geometry.tables.max_legal), dtype=np.int32)
        counts = np.empty(len(self.data), dtype=np.int32)
        _legal_games(self.data, self.geometry.tables, out, counts)
        return out, counts

    def apply(self, codes: Words) -> None:
        """Play a code in each game, -1 for none; if one is not legal raise IllegalMove and change nothing."""
        codes = np.asarray(codes)
        if codes.shape != (len(self.data),) or codes.dtype.kind not in "iu":
            raise RulesError(
                f"codes of shape {codes.shape} and type {codes.dtype}: give one integer for each of "
                f"{len(self.data)} games"
            )
        codes = np.clip(codes, -2, self.geometry.tables.policy_size).astype(np.int32)  # both ends are refused
        bad = np.empty(len(self.data), dtype=np.int32)
        _check_codes(self.data, self.geometry.tables, codes, bad)
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            raise IllegalMove(f"code {codes[first]} is not legal in game {first}; no game was changed")
        _apply_codes(self.data, self.geometry.tables, codes)

    def random_playouts(self, seed: int, limit: int = TURN_LIMIT) -> NDArray[np.int64]:
        """Play every game to its end (or `limit` plies) at random; return the plies of each [games].

        The result depends on the seed and the place of a game in the batch, never on the number of threads.
        """
        plies = np.zeros(len(self.data), dtype=np.int64)
        _playouts(self.data, self.geometry.tables, game_seeds(seed, len(self.data)), plies, limit)
        return plies

    @property
    def over(self) -> NDArray[np.bool_]:
        """Which games have ended [games]."""
        ended: NDArray[np.bool_] = self.data[:, lay.PHASE] == lay.OVER
        return ended

    @property
    def winners(self) -> Words:
        """Winner of each game, 0 while it runs [games]."""
        return self.data[:, lay.WINNER].copy()
