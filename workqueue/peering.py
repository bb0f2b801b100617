"""How a worker joins the gossip of the voters: what `GET /v1/gossip` answers."""

from __future__ import annotations

import msgspec

PATH = "/v1/gossip"


class Peering(msgspec.Struct, frozen=True):
    """The cluster's name, which packets are bound to, where voters gossip, and how fast."""

    cluster: str
    seeds: tuple[str, ...]  # "host:port"
    period_ms: int
    suspicion_mult: int
