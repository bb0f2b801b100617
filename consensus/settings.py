"""What a replica is told when it starts, and what it says of itself while it runs."""

from pathlib import Path

import msgspec

from consensus.journal import PREALLOCATE_BYTES


class ReplicaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One voter's settings; the same on all voters but for node_id, address, data_dir and key paths."""

    node_id: str
    address: str  # host:port on which this voter listens for the others
    peers: dict[str, str]  # node id -> host:port of every other voter; empty for a single voter
    data_dir: Path
    cluster_id: str
    replaced: tuple[tuple[str, str, int], ...] = ()  # (old, new, index committed after old had stopped), in order
    ca: Path | None = None  # mutual TLS: all three or none (none only on loopback)
    cert: Path | None = None
    key: Path | None = None
    election_ms: tuple[int, int] = (300, 600)
    heartbeat_ms: int = 50
    fsync: bool = True
    preallocate_bytes: int = PREALLOCATE_BYTES  # of the journal, ahead of what is written
    snapshot_bytes: int = 256 << 20  # journal bytes after which a snapshot is taken
    snapshot_entries: int = 1_000_000  # entries after which a snapshot is taken
    trailing_entries: int = 10_000  # kept in the log behind a snapshot, for voters that lag a little
    snapshot_timeout_s: float = 600.0
    max_batch_commands: int = 2000
    max_batch_bytes: int = 1 << 20
    max_request_commands: int = 10_000  # in one call of propose
    max_request_bytes: int = 16 << 20
    inflight: int = 4  # entries proposed and not yet applied
    max_pending_commands: int = 100_000
    max_pending_bytes: int = 64 << 20
    digest_every: int = 1000  # entries between comparisons of state digests; 0 for none

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        low, high = self.election_ms
        if not 10 <= low < high:
            raise ValueError("election_ms must be (low, high) with 10 <= low < high")
        if self.heartbeat_ms * 3 >= low:
            raise ValueError("heartbeat_ms must be less than a third of the lower election timeout")
        if self.node_id in self.peers:
            raise ValueError(f"peers must not name this voter itself ({self.node_id})")
        if len({self.ca is None, self.cert is None, self.key is None}) > 1:
            raise ValueError("ca, cert and key are given together or not at all")
        if self.ca is None and not all(_is_loopback(a) for a in [self.address, *self.peers.values()]):
            raise ValueError("voters on more than one machine need ca, cert and key")


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica is at one moment."""

    node_id: str
    leader_id: str | None
    term: int
    is_leader: bool
    commit_index: int
    applied_index: int
    last_log_index: int
    age_ms: int  # since the leader (on the leader: a majority) was last heard; how stale a local read may be
    ready: bool  # has applied all that was committed when it first heard of a leader


def _is_loopback(address: str) -> bool:
    host = address.rsplit(":", 1)[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")
