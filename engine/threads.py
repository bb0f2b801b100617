"""How many threads nets compute with."""

from __future__ import annotations

import torch


def use(count: int) -> None:
    """Let nets compute with this many threads from now on."""
    torch.set_num_threads(count)
