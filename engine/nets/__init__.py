"""Networks: encoder, architecture, manifest, inference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.nets.probe import Probed


def verify(path: Path, device: str = "cpu") -> Probed:
    """See engine.nets.probe.verify; imported when called, so that the encoder alone needs no torch."""
    from engine.nets import probe

    return probe.verify(path, device)


def batch_sizes(path: Path, device: str = "cpu", memory: Path | None = None) -> dict[str, int]:
    """See engine.nets.probe.batch_sizes."""
    from engine.nets import probe

    return probe.batch_sizes(path, device, memory)


def count_evaluations(path: Path, device: str = "cpu", seconds: float = 1.0) -> int:
    """See engine.nets.probe.count_evaluations."""
    from engine.nets import probe

    return probe.count_evaluations(path, device, seconds)
