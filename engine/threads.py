"""How many threads nets and rules compute with."""

from __future__ import annotations

import torch
from numba import set_num_threads
from numba.core import config


def use(count: int) -> None:
    """Let nets and batches of games compute with this many threads from now on.

    Threads that wait for each other take a thousand times longer where other programs keep the processors busy.
    """
    torch.set_num_threads(count)
    most = vars(config)["NUMBA_NUM_THREADS"]  # made when numba is imported, so unknown to its types
    set_num_threads(min(count, most))
