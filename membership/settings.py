"""What may be set of gossip, and the timing that follows from it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from membership.api import MembershipError, Metadata
from membership.messages import Name, split_address

METADATA_BYTES_MAX = 512
SUSPICION_MULT = 3


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Intervals and limits of the protocol; the defaults follow Lifeguard (Dadgar et al. 2017, section IV)."""

    period_ms: int = 500  # a probe, direct and indirect, takes this long
    probes: int = 2  # begun in each period, so that a death is not long unnoticed
    probe_timeout_ms: int = 200  # then indirect probes start
    suspicion_mult: int = SUSPICION_MULT
    suspicion_max_mult: int = 6  # the timeout of a suspicion that nobody confirms, over the confirmed one
    confirmations: int = 2  # independent accusers besides the first that bring the timeout to its minimum
    verify_ms: int = 400  # last challenges before a burial
    verify_gap_ms: int = 100
    indirect: int = 3  # members asked to probe on our behalf
    gossip_ms: int = 200
    fanout: int = 3
    retransmit_mult: int = 4
    sync_ms: int = 20_000  # anti-entropy with a random member
    reconnect_ms: int = 4_000  # try one dead member
    stall_ms: int = 400  # a timer later than this means that we slept, not the others
    health_max: int = 8
    reap_dead_ms: int = 3_600_000
    reap_left_ms: int = 60_000
    tombstone_ms: int = 86_400_000
    members_max: int = 20_000
    relays_max: int = 64  # indirect probes carried out for others at a time
    linger_ms: int = 600  # a leaving member answers for this long


class GossipSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member's settings: identity, addresses, keys (by file), and the tempo of probing."""

    node_id: Name
    boot_id: Name
    role: str
    bind: str  # "host:port"; port 0 takes a free one
    advertise: str | None = None  # "host:port" that the others reach, when it is not `bind`
    seeds: list[str] = []
    key_files: list[str] = []  # first = primary; 32 bytes, raw or as hex or base64 text
    period_ms: Annotated[int, msgspec.Meta(ge=50, le=60_000)] = 500
    suspicion_mult: Annotated[int, msgspec.Meta(ge=2, le=20)] = SUSPICION_MULT
    metadata: Metadata = {}
    cluster: Name = "riftq"  # packets of another cluster never open, even under the same key

    def __post_init__(self) -> None:
        if self.role not in ("voter", "worker"):
            raise ValueError("role is 'voter' or 'worker'")
        for address in (self.bind, *([self.advertise] if self.advertise else []), *self.seeds):
            split_address(address)
        check_metadata(self.metadata)

    @property
    def timing(self) -> Timing:
        """Return the protocol's timing at this period."""
        scale = self.period_ms / 500
        return Timing(
            period_ms=self.period_ms,
            suspicion_mult=self.suspicion_mult,
            probe_timeout_ms=round(200 * scale),
            verify_ms=round(400 * scale),
            verify_gap_ms=max(10, round(100 * scale)),
            gossip_ms=round(200 * scale),
        )


def check_metadata(metadata: Metadata) -> None:
    """Refuse metadata that would not fit beside the protocol's own fields in one packet."""
    size_bytes = len(msgspec.msgpack.encode(metadata))
    if size_bytes > METADATA_BYTES_MAX:
        raise MembershipError(
            f"Metadata takes {size_bytes} bytes; shorten it to {METADATA_BYTES_MAX}, it travels by gossip."
        )
