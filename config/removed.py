"""Keys that may no longer be set: what holds in place of each, and how settings that a log holds are read.

A cluster begins with a command that puts every key of its time into the log. Replayed, it must be accepted or refused
as it was then, so the types of removed keys stay; their values change nothing.
"""

from __future__ import annotations

import msgspec

from config.loop import GateSettings, LoopSettings, Milli

INSTEAD = {
    "gate.alpha_milli": "the sequential test errs in 5 % of cases either way",
    "gate.beta_milli": "the sequential test errs in 5 % of cases either way",
}


class _Gate(GateSettings, frozen=True):
    alpha_milli: Milli = 50
    beta_milli: Milli = 50


class _Loop(LoopSettings, frozen=True):
    gate: _Gate = _Gate()


def recorded(tree: object) -> LoopSettings:
    """Return the settings in `tree` without its removed keys; raises as if these could still be set."""
    return msgspec.convert(msgspec.convert(tree, _Loop), LoopSettings, from_attributes=True)


def explain(key: str) -> str:
    """Return a sentence about a key that is removed, empty for any other."""
    instead = INSTEAD.get(key)
    return f"`{key}` can no longer be set, leave it out: {instead}" if instead else ""
