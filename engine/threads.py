"""How nets are computed in this process: with how many threads and by what."""

from __future__ import annotations

import torch

from engine.nets import inference


def use(count: int, backend: str = "") -> None:
    """Let nets compute with this many threads, and by this backend where one is named; raises ValueError."""
    torch.set_num_threads(count)
    if backend:
        inference.use(backend)
