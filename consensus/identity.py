"""Who a data folder belongs to: a voter of a cluster, in one life of the folder.

A folder that was wiped has forgotten its votes and acknowledgements. It gets a new uuid, and the other voters, who
remember the old one, refuse it until it is replaced on purpose.
"""

import uuid as uuids

import msgspec

from consensus.errors import StorageCorrupt, WrongIdentity
from consensus.journal import FIRST_INDEX, Journal
from consensus.settings import ReplicaSettings
from consensus.snapshot import read_head
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
    found = read_identity(storage)
    if found is None:
        if any(name in ("vote", "snapshot") or name.startswith("log-") for name in storage.names()):
            raise StorageCorrupt("the data folder has a log but no identity file: restore it or replace this voter")
        new = Identity(uuid=uuids.uuid4().hex, cluster_id=settings.cluster_id, node_id=settings.node_id, voters=voters)
        write_identity(storage, new)
        return new
    if found.cluster_id != settings.cluster_id or found.node_id != settings.node_id:
        raise WrongIdentity(
            f"the data folder belongs to voter {found.node_id} of cluster {found.cluster_id}, "
            f"but {settings.node_id} of {settings.cluster_id} is configured"
        )
    if found.voters != voters:
        return _adopt(storage, settings, found, voters)
    return found


def read_identity(storage: Storage) -> Identity | None:
    """Return the identity in a folder, or None if it has none; StorageCorrupt if it cannot be read."""
    data = read_whole(storage, _IDENTITY)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Identity)
    except msgspec.DecodeError as error:
        raise StorageCorrupt(f"the identity file is unreadable ({error}): restore it or replace this voter") from error


def write_identity(storage: Storage, identity: Identity) -> None:
    """Write whose folder this is, durably."""
    replace_whole(storage, _IDENTITY, msgspec.json.encode(identity))


def _adopt(storage: Storage, settings: ReplicaSettings, found: Identity, voters: list[str]) -> Identity:
    """Take over a set of voters that differs by replacements which were prepared as they must be.

    Each names an index that was committed after the old voter had stopped. Whoever has the log up to there has every
    write that the old one helped to acknowledge, so that any majority of the new set knows what the old set promised.
    """
    after, expected = 0, list(found.voters)
    for old, new, index in settings.replaced:
        if old in expected and new not in expected:
            expected = sorted([*(voter for voter in expected if voter != old), new])
            after = max(after, index)
    if expected != voters:
        raise WrongIdentity(
            f"the configured voters are {', '.join(voters)}, but this cluster was made of {', '.join(found.voters)}: "
            "correct the configuration, or replace a voter with `rift cluster replace`"
        )
    head = read_head(storage)
    journal = Journal(storage, (head.index, head.term) if head else (FIRST_INDEX, 0))
    last_index = journal.last_index
    journal.close()
    if last_index < after:
        raise WrongIdentity(
            f"this voter has the log up to index {last_index}, but a voter was replaced at {after}: start it with the "
            "previous cluster.yaml until it has caught up, then with the new one"
        )
    adopted = msgspec.structs.replace(found, voters=voters)
    write_identity(storage, adopted)
    return adopted


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
