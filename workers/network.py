"""How fast bytes pass to and from the voters: measured on the transfers themselves, kept for the next start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

UP, DOWN = "net_up_kbps", "net_down_kbps"
SIZE_BYTES_MIN = 256 << 10  # a smaller transfer measures the way there and back
_WEIGHT = 0.3  # of the newest transfer in the moving average


class Network:
    """Rates in kilobits a second, by way; `path` keeps them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rates: dict[str, int] = {}
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            return
        self.rates = {way: kept[way] for way in (UP, DOWN) if kept.get(way, 0) > 0}

    def note(self, way: str, size_bytes: int, seconds: float) -> None:
        """Take a transfer into account."""
        if size_bytes < SIZE_BYTES_MIN or seconds <= 0:
            return
        kbps = size_bytes / 125 / seconds
        before = self.rates.get(way, kbps)
        self.rates[way] = max(1, round(before + _WEIGHT * (kbps - before)))

    def save(self) -> None:
        """Write down what is known; blocks."""
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(self.rates))
        temporary.rename(self._path)
