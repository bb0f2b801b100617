"""The one word that matters most about a worker, wherever workers are listed or counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def standing(worker: Mapping[str, Any]) -> str:
    """Return "gone", "quarantined", "draining" or "live" for a worker of a view."""
    if not worker["live"]:
        return "gone"
    return "quarantined" if worker["quarantined"] else "draining" if worker["drain"] else "live"
