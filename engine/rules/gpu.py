"""Random games on a CUDA device, one game a thread, from the same source as the CPU.

Word k of all games lies together ([state_words, games]), so that the threads of a warp read neighbouring memory. Needs
numba-cuda; with NUMBA_ENABLE_CUDASIM=1 and NUMBA_DISABLE_JIT=1 it runs in numba's simulator, without a device.
"""

from typing import Any

import numba
import numba.cuda
import numpy as np
from numpy.typing import NDArray

from engine.rules.batch import GameBatch, game_seeds
from engine.rules.cells import Words
from engine.rules.kernels import TURN_LIMIT, playout_words, seed_random

cuda: Any = numba.cuda  # untyped
THREADS_A_BLOCK = 64


def _play(
    data: Words, table: Words, lists: Words, seeds: NDArray[np.int64], plies: NDArray[np.int64], limit: int
) -> None:
    """Kernel: play game k to its end; data [state_words, games], lists [max_legal, games]."""
    k = cuda.grid(1)
    if k < data.shape[1]:
        rng = cuda.local.array(1, numba.int64)
        seed_random(rng, seeds[k])
        plies[k] = playout_words(data[:, k], table, lists[:, k], rng, limit)


def play_kernel() -> Any:
    """Return the CUDA kernel; compiled when it is first launched."""
    return cuda.jit(_play)


def random_playouts(batch: GameBatch, seed: int, limit: int = TURN_LIMIT) -> NDArray[np.int64]:
    """Do what `GameBatch.random_playouts` does, bit for bit, on the CUDA device."""
    g = batch.geometry.tables
    games = len(batch)
    data = cuda.to_device(np.ascontiguousarray(batch.data.T))
    lists = cuda.device_array((g.max_legal, games), dtype=np.int32)
    plies = cuda.to_device(np.zeros(games, dtype=np.int64))
    blocks = (games + THREADS_A_BLOCK - 1) // THREADS_A_BLOCK
    play_kernel()[blocks, min(games, THREADS_A_BLOCK)](
        data, cuda.to_device(g.table.copy()), lists, cuda.to_device(game_seeds(seed, games)), plies, limit
    )
    batch.data[:] = data.copy_to_host().T
    played: NDArray[np.int64] = plies.copy_to_host()
    return played
