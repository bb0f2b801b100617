"""`cluster.yaml`: the voters, where they listen, and how a cluster keeps time and secrets."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(gt=0)]
CA = "certs/ca.pem"  # in the folder of cluster.yaml, where `rift init` puts it
TOKEN_KEY = "secrets/token.key"  # noqa: S105  a path; tokens are kept as hashes under this key


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of the settings; unknown keys are refused with their path."""


class VoterAddress(Section, frozen=True):
    """Where one voter listens. Hosts are names or addresses that the other machines can reach."""

    id: str
    host: str
    http_port: Port = 8770
    raft_port: Port = 8780
    gossip_port: Port = 8790

    @property
    def http(self) -> str:
        """`https://host:port`, what workers join and browsers open."""
        return f"https://{self.host}:{self.http_port}"

    @property
    def raft(self) -> str:
        """`host:port` of the Raft transport."""
        return f"{self.host}:{self.raft_port}"

    @property
    def gossip(self) -> str:
        """`host:port` of the gossip socket."""
        return f"{self.host}:{self.gossip_port}"


class Replaced(Section, frozen=True):
    """A voter that took another's place; written by `rift cluster replace`, never by hand."""

    old: str
    new: str
    index: Positive  # committed after the old voter had stopped


class RaftSettings(Section, frozen=True):
    """Timeouts of the replicated log."""

    election_ms_min: Annotated[int, Meta(ge=10)] = 300

    @property
    def election_ms(self) -> tuple[int, int]:
        """Shortest and longest wait before a voter stands for election; closer together, candidacies collide."""
        return self.election_ms_min, 2 * self.election_ms_min


class GossipSection(Section, frozen=True):
    """Pace of the failure detector."""

    period_ms: Positive = 500  # of a probe; all other waits of the protocol are in proportion
    presence_ttl_ms: Positive = 4000


class StoreSettings(Section, frozen=True):
    """Where artifacts are kept: the voters' disks, or an S3-compatible store by URL."""

    url: str = ""  # "s3://bucket/prefix"; empty = the voters' disks
    endpoint: str = ""
    credentials_file: str = ""
    replicas: Positive = 2
    quota_mb: Positive = 20_000  # of each voter's disk
    floor_mb: Positive = 500  # free space that is always left
    kbps_max: dict[str, Positive] = {}  # of a "connection", a "job", or all of "provider:NAME"; either way, per voter

    def __post_init__(self) -> None:
        for name in self.kbps_max:
            if name not in {"connection", "job"} and not name.startswith("provider:"):
                raise ValueError(f"kbps_max: {name!r} is not `connection`, `job` or `provider:NAME`")


class LimitSettings(Section, frozen=True):
    """Bounds on what clients may ask for."""

    queue_max: Annotated[int, Meta(gt=0, le=1_000_000)] = 1_000_000  # jobs that have not ended
    artifact_bytes_max: Positive = 4 << 30
    connections_max: Positive = 4000  # streams of a voter

    @property
    def sockets_max(self) -> int:
        """TCP connections of a voter: its streams, and half as many, but 100 at least, for requests of their own."""
        return self.connections_max + max(self.connections_max // 2, 100)

    @property
    def sockets_address_max(self) -> int:
        """TCP connections of one address, behind which many workers may be: two more like it find room."""
        return self.sockets_max // 3


class ClusterSettings(Section, frozen=True):
    """`cluster.yaml`, the same file on every voter."""

    cluster_id: str
    voters: tuple[VoterAddress, ...]
    replaced: tuple[Replaced, ...] = ()
    gossip_keys: tuple[str, ...] = ("secrets/gossip.key",)  # paths are relative to the file's folder
    raft: RaftSettings = RaftSettings()
    gossip: GossipSection = GossipSection()
    store: StoreSettings = StoreSettings()
    limits: LimitSettings = LimitSettings()
    webhook_files: tuple[str, ...] = ()  # each holds the URL of a Slack or Discord webhook for alerts

    def __post_init__(self) -> None:
        ids = [voter.id for voter in self.voters]
        if not ids:
            raise ValueError("voters: name at least one voter")
        if len(set(ids)) != len(ids):
            raise ValueError("voters: every id must be different")

    def voter(self, voter_id: str) -> VoterAddress:
        """Return the address of `voter_id`; KeyError when the file does not name it."""
        for voter in self.voters:
            if voter.id == voter_id:
                return voter
        raise KeyError(voter_id)


class VoterSettings(Section, frozen=True):
    """`voter.yaml`: what is this voter's own."""

    id: str
    data: str = "data"
    cluster: str = "cluster.yaml"
    cert: str = "certs/voter.pem"
    key: str = "certs/voter.key"


class WorkerSettings(Section, frozen=True):
    """`worker.yaml` or flags: what a worker needs to join."""

    id: str
    join: tuple[str, ...]  # https URLs of one or more voters
    token_file: str
    ca: str
    data: str = "worker-data"
    slots: int = 0  # jobs at once on the CPU; 0 = one for each two cores
    labels: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()  # empty = all that are installed
    cpus: int = 0  # 0 = what the machine has
    ram_mb: int = 0
    disk_mb: Positive = 20_000  # quota of the spool, cache and working folders
    floor_mb: Positive = 500
    threads: int = 0  # of one job; 0 = cpus of the job
    gossip: str = ""  # "host:port" that voters and workers reach by UDP and TCP; empty = present by heartbeat
    gossip_bind: str = ""  # where to listen when that is another address, as behind a forwarded port
    gossip_keys: tuple[str, ...] = ()  # the cluster's gossip key files, the one to seal with first
    upload_kbps_max: int = 0  # of all uploads together, 0 = unlimited
    download_kbps_max: int = 0  # of all downloads together
    job_kbps_max: int = 0  # of all transfers of one job, either way
    provider: str = ""  # who rents this machine out; voters may limit all machines of one provider

    def __post_init__(self) -> None:
        if self.gossip and not self.gossip_keys:
            raise ValueError("gossip needs gossip_keys: copy the cluster's secrets/gossip.key and name the copy")
