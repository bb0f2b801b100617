"""Plays fixed random games and prints a digest of every state; run as a program under different builds.

python replay.py            compiled, as installed; NUMBA_* variables choose the build
python replay.py cuda       the CUDA kernel, in numba's simulator
"""

import hashlib
import sys

import numpy as np

from engine.rules.batch import GameBatch, game_seeds
from engine.rules.cells import Words
from engine.rules.geometry import geometry
from engine.rules.kernels import apply, draw, legal, new_game, ranks, seed_random, state_hash

PLANS = (
    ("square8", 2, 1000),
    ("square8", 3, 1000),
    ("hex8", 2, 1000),
    ("hex8", 4, 1000),
    ("square19", 2, 100),
    ("hexagonal", 3, 60),
)
SEED = 20


def ply_by_ply(board: str, players: int, limit: int) -> str:
    """Digest every legal list and state of one game."""
    g = geometry(board, players, swap=players == 2).tables
    s: Words = np.zeros(g.state_words, dtype=np.int32)
    out: Words = np.zeros(g.max_legal, dtype=np.int32)
    rng = np.zeros(1, dtype=np.int64)
    seed_random(rng, int(game_seeds(SEED, 1)[0]))
    new_game(s, g)
    digest = hashlib.sha256()
    for _ in range(limit):
        count = legal(s, g, out)
        if count == 0:
            break
        digest.update(out[:count].tobytes())
        apply(s, g, int(out[draw(rng, count) if count > 1 else 0]))
        digest.update(s.tobytes())
        digest.update(str(state_hash(s, g)).encode())
    places: Words = np.zeros(4, dtype=np.int32)
    ranks(s, places)
    digest.update(places.tobytes())
    return digest.hexdigest()


def whole_games(board: str, players: int, limit: int, *, on_gpu: bool) -> str:
    """Digest the last states of three games."""
    batch = GameBatch(geometry(board, players), 3)
    if on_gpu:
        from engine.rules import gpu

        plies = gpu.random_playouts(batch, SEED, limit)
    else:
        plies = batch.random_playouts(SEED, limit)
    return hashlib.sha256(batch.data.tobytes() + plies.tobytes()).hexdigest()


if __name__ == "__main__":
    for plan in PLANS:
        if "cuda" not in sys.argv:
            print(*plan, ply_by_ply(*plan))
        board, players, limit = plan
        print(*plan, whole_games(board, players, min(limit, 200), on_gpu="cuda" in sys.argv))
