"""How many threads nets and rules compute with."""

from __future__ import annotations

import numba
import torch


def use(count: int) -> None:
    """Let nets and batches of games compute with this many threads from now on.

    Threads that wait for each other take a thousand times longer where other programs keep the processors busy.
    """
    torch.set_num_threads(count)
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
