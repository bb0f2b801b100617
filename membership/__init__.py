"""Who seems alive: SWIM gossip among voters and reachable workers, presence by lease for the rest.

Names load on first use, so that a client of the gossip process never imports the protocol.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from membership.api import Event, Member, Membership, MembershipError, State, new_boot_id
    from membership.memory import MemoryMembership, MemoryNetwork
    from membership.merge import Merged
    from membership.presence import Presence
    from membership.remote import RemoteMembership
    from membership.service import Gossip
    from membership.settings import GossipSettings, Timing

_HOMES = {
    "Event": "membership.api",
    "Gossip": "membership.service",
    "GossipSettings": "membership.settings",
    "Member": "membership.api",
    "Membership": "membership.api",
    "MembershipError": "membership.api",
    "MemoryMembership": "membership.memory",
    "MemoryNetwork": "membership.memory",
    "Merged": "membership.merge",
    "Presence": "membership.presence",
    "RemoteMembership": "membership.remote",
    "State": "membership.api",
    "Timing": "membership.settings",
    "new_boot_id": "membership.api",
}

__all__ = [
    "Event",
    "Gossip",
    "GossipSettings",
    "Member",
    "Membership",
    "MembershipError",
    "MemoryMembership",
    "MemoryNetwork",
    "Merged",
    "Presence",
    "RemoteMembership",
    "State",
    "Timing",
    "new_boot_id",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'membership' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
