"""What a caller of `Client` may catch, and what ends a voter's process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.errors import AppError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ClientError(AppError):
    """What a caller of `Client` may catch."""


class Unavailable(ClientError):
    """No leader answered within the deadline, and nothing was sent that may have taken effect: safe to retry."""

    def __init__(self, tried: Sequence[str], reason: str = "") -> None:
        why = f" ({reason})" if reason else ""
        super().__init__(f"no voter answered in time; tried {', '.join(tried)}{why}. Check `rift status` or try again.")
        self.tried = tuple(tried)
        self.reason = reason


class Unknown(ClientError):
    """A request was sent and no answer came: it may have taken effect. Retry with the same request id."""

    def __init__(self, request_id: int) -> None:
        super().__init__(f"request {request_id} was sent but no answer came; it is safe to send it again")
        self.request_id = request_id


class Rejected(ClientError):
    """The service refused a message before the queue saw it: bad token, too large, too many."""

    def __init__(self, code: str, message: str, retry_ms: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_ms = retry_ms


class CorruptArtifact(ClientError):
    """Bytes do not match their name."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"the bytes of artifact {digest} do not match its name; fetch it from another holder")
        self.digest = digest


class ProcessFailure(AppError):
    """A voter's process cannot start or go on; carries the exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


# Exit codes of a voter and its processes.
EXIT_FAILED = 1  # a process died or an unforeseen error
EXIT_CONFIG = 2  # settings, certificates or secrets that cannot be used
EXIT_PORT = 3  # a port is taken
EXIT_DATA = 4  # the data folder is of another version, another voter or damaged
EXIT_DISK = 5  # no space left
