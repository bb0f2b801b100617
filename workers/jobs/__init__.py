"""Job kinds: one file each, from payload by engine call to artifacts and a typed result.

Kinds of other packages plug in by the entry-point group `riftq.jobs`: the entry's name is the kind, its value a
`Kind`. Names can be listed without importing any engine; a kind is imported by the runner when its first job comes.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from workers.jobs.context import JobError

if TYPE_CHECKING:
    from workers.jobs.context import Context

GROUP = "riftq.jobs"
BUILT_IN = {
    "selfplay": "workers.jobs.selfplay:KIND",
    "train": "workers.jobs.train:KIND",
    "tournament": "workers.jobs.matches:TOURNAMENT",
    "gauntlet": "workers.jobs.matches:GAUNTLET",
    "evaluate": "workers.jobs.matches:EVALUATE",
    "export": "workers.jobs.export:KIND",
    "verify": "workers.jobs.verify:KIND",
    "benchmark": "workers.jobs.benchmark:KIND",
}


class Kind(msgspec.Struct, frozen=True):
    """How jobs of a kind are run: `run(context, payload)` returns the result."""

    payload: type[Any]
    result: type[Any]
    run: Callable[[Context, Any], Any]


def names() -> tuple[str, ...]:
    """Every kind that is installed here."""
    plugged = importlib.metadata.entry_points(group=GROUP)
    return tuple(sorted({*BUILT_IN, *(entry.name for entry in plugged)}))


def find(name: str) -> Kind:
    """Import a kind; raises JobError(node's fault) when it is not installed or cannot be imported."""
    try:
        if name in BUILT_IN:
            module, _, attribute = BUILT_IN[name].partition(":")
            kind = getattr(importlib.import_module(module), attribute)
        else:
            [entry] = importlib.metadata.entry_points(group=GROUP, name=name)
            kind = entry.load()
    except (ImportError, AttributeError, ValueError) as error:
        raise JobError("runner.unusable", f"jobs of kind {name} cannot run here: {error}", fault="node") from error
    if not isinstance(kind, Kind):
        raise JobError("runner.unusable", f"the entry point {name} of {GROUP} is not a Kind", fault="node")
    return kind
