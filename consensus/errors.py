"""Every error of the consensus layer; the text of each is a sentence an operator can act on."""


class ConsensusError(Exception):
    """Any error raised by this package."""


class NotLeader(ConsensusError):
    """The commands were certainly not applied; propose them at the leader, if one is known."""

    def __init__(self, leader_id: str | None) -> None:
        super().__init__(f"not the leader; the leader is {leader_id or 'unknown'}")
        self.leader_id = leader_id


class Unknown(ConsensusError):
    """The commands may or may not have been applied; propose them again with the same request ids."""

    def __init__(self, reason: str = "leadership was lost before the outcome was known") -> None:
        super().__init__(f"outcome unknown: {reason}; retry with the same request ids")


class Overloaded(ConsensusError):
    """The commands were certainly not applied, because too many are waiting already."""

    def __init__(self, retry_ms: int) -> None:
        super().__init__(f"too many commands are waiting; retry in {retry_ms} ms")
        self.retry_ms = retry_ms


class StorageCorrupt(ConsensusError):
    """Bytes on disk that were once synced do not read back; the voter refuses to start."""


class StorageFailed(ConsensusError):
    """The disk refused a write or a sync; the voter has stopped before acknowledging anything more."""


class WrongIdentity(ConsensusError):
    """The data folder belongs to another voter, cluster or set of voters than the configured one."""


class InvariantBroken(ConsensusError):
    """Something that must never happen has happened; the voter has stopped."""


class MachineFailed(ConsensusError):
    """The state machine raised or broke its contract; the voter has stopped."""


class Diverged(ConsensusError):
    """This voter's state differs from that of a majority at the same index; the voter has stopped."""

    def __init__(self, index: int) -> None:
        super().__init__(
            f"the state at index {index} differs from the majority's: stop this voter, keep its data folder for "
            "study, and replace it by a new voter"
        )
        self.index = index
