"""A replicated log for any deterministic state machine: bytes in, bytes out.

Names are loaded when first used, so that importing this package imports neither asyncio nor pysyncobj.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consensus.clock import Clock, SystemClock
    from consensus.entry import encode_entry, entry_head
    from consensus.errors import (
        ConsensusError,
        Diverged,
        InvariantBroken,
        MachineFailed,
        NotLeader,
        Overloaded,
        StorageCorrupt,
        StorageFailed,
        Unknown,
        WrongIdentity,
    )
    from consensus.machine import StateMachine
    from consensus.memory import MemoryReplica
    from consensus.replica import Replica
    from consensus.settings import ReplicaSettings, Role

__all__ = [
    "Clock",
    "ConsensusError",
    "Diverged",
    "InvariantBroken",
    "MachineFailed",
    "MemoryReplica",
    "NotLeader",
    "Overloaded",
    "Replica",
    "ReplicaSettings",
    "Role",
    "StateMachine",
    "StorageCorrupt",
    "StorageFailed",
    "SystemClock",
    "Unknown",
    "WrongIdentity",
    "encode_entry",
    "entry_head",
]

_HOME = {
    "Clock": "clock",
    "SystemClock": "clock",
    "StateMachine": "machine",
    "MemoryReplica": "memory",
    "Replica": "replica",
    "ReplicaSettings": "settings",
    "Role": "settings",
    "encode_entry": "entry",
    "entry_head": "entry",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'consensus' has no attribute {name!r}")
    return getattr(import_module(f"consensus.{_HOME.get(name, 'errors')}"), name)
