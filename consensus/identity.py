"""Who a data folder belongs to: a voter of a cluster, in one life of the folder.

A folder that was wiped has forgotten its votes and acknowledgements. It gets a new uuid, and the other voters, who
remember the old one, refuse it until it is replaced on purpose.
"""

import uuid as uuids

import msgspec

from consensus.errors import StorageCorrupt, WrongIdentity
from consensus.settings import ReplicaSettings
from consensus.storage import Storage, read_whole, replace_whole

_IDENTITY = "identity"
_KNOWN = "known-voters"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What is written once into a new data folder."""

    uuid: str
    cluster_id: str
    node_id: str
    voters: list[str]


def load_identity(storage: Storage, settings: ReplicaSettings) -> Identity:
    """Return the folder's identity, or give an empty folder one; WrongIdentity if it is not the configured voter's."""
    voters = sorted([*settings.peers, settings.node_id])
    data = read_whole(storage, _IDENTITY)
    if data is None:
        if any(name in ("vote", "snapshot") or name.startswith("log-") for name in storage.names()):
            raise StorageCorrupt("the data folder has a log but no identity file: restore it or replace this voter")
        new = Identity(uuid=uuids.uuid4().hex, cluster_id=settings.cluster_id, node_id=settings.node_id, voters=voters)
        replace_whole(storage, _IDENTITY, msgspec.json.encode(new))
        return new
    try:
        found = msgspec.json.decode(data, type=Identity)
    except msgspec.DecodeError as error:
        raise StorageCorrupt(f"the identity file is unreadable ({error}): restore it or replace this voter") from error
    if found.cluster_id != settings.cluster_id or found.node_id != settings.node_id:
        raise WrongIdentity(
            f"the data folder belongs to voter {found.node_id} of cluster {found.cluster_id}, "
            f"but {settings.node_id} of {settings.cluster_id} is configured"
        )
    if found.voters != voters:
        raise WrongIdentity(
            f"the configured voters are {', '.join(voters)}, but this cluster was made of {', '.join(found.voters)}: "
            "correct the configuration, or replace a voter as the operations guide says"
        )
    return found


class KnownVoters:
    """The uuid under which each other voter was first met; kept in the data folder."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        data = read_whole(storage, _KNOWN)
        try:
            self._uuids = msgspec.json.decode(data, type=dict[str, str]) if data else {}
        except msgspec.DecodeError as error:
            raise StorageCorrupt(f"the file of known voters is unreadable ({error})") from error

    def accept(self, node_id: str, uuid: str) -> bool:
        """Whether this is the voter we know, or the first we hear of it."""
        known = self._uuids.get(node_id)
        if known is None:
            self._uuids[node_id] = uuid
            replace_whole(self._storage, _KNOWN, msgspec.json.encode(self._uuids))
            return True
        return known == uuid
