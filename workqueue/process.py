"""What every process of a voter does alike: read settings, log as JSON lines, stop on a signal, end with a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
import uvloop

from config.cluster import CA, TOKEN_KEY, ClusterSettings, VoterSettings
from config.errors import AppError, ConfigError
from config.load import load
from workqueue.errors import EXIT_CONFIG, EXIT_DISK, EXIT_FAILED, EXIT_PORT, ProcessFailure
from workqueue.security import read_secret
from workqueue.tls import server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

FORMAT = 1  # of the data folder
READY = "ready"
_PR_SET_PDEATHSIG = 1
_FILES_SPARE = 500  # beside connections: files, the core, other voters


class VoterConfig(msgspec.Struct, frozen=True):
    """A voter's settings, and the folder that their paths are relative to."""

    folder: Path
    voter: VoterSettings
    cluster: ClusterSettings

    @property
    def data(self) -> Path:
        """The voter's data folder."""
        return self.folder / self.voter.data

    @property
    def run(self) -> Path:
        """The folder of its unix sockets."""
        return self.data / "run"

    @property
    def cert(self) -> Path:
        """Its certificate."""
        return self.folder / self.voter.cert

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.folder / self.voter.key

    @property
    def ca(self) -> Path:
        """The cluster's certificate authority."""
        return self.folder / CA


def read_config(path: Path) -> VoterConfig:
    """Return the settings of the voter described by `path`; raises ConfigError."""
    voter = load(VoterSettings, path)
    folder = path.resolve().parent
    cluster = load(ClusterSettings, folder / voter.cluster)
    try:
        cluster.voter(voter.id)
    except KeyError:
        named = ", ".join(each.id for each in cluster.voters)
        raise ConfigError(str(path), f"`id: {voter.id}` is not among the voters of {voter.cluster}: {named}") from None
    return VoterConfig(folder, voter, cluster)


def check_files(config: VoterConfig) -> None:
    """Find out before anything listens whether certificates and secrets can be used; raises ConfigError."""
    server_context(config.cert, config.key, config.ca)
    for name in (TOKEN_KEY, *config.cluster.gossip_keys):
        read_secret(config.folder / name)


def configure_logs() -> None:
    """Write JSON lines to standard error."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def die_with_parent() -> None:
    """Have the kernel end this process when its supervisor dies, so that its ports are free at once (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def allow_files(sockets: int) -> None:
    """Let this process open as many files as that many connections need; says so when the system does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sockets + _FILES_SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < wanted:
            structlog.get_logger().warning("process.files_few", allowed=soft, wanted=wanted, fix="raise LimitNOFILE")


def say_ready() -> None:
    """Tell the supervisor that this process serves."""
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()


def run_process(name: str, arguments: list[str], serve: Callable[[VoterConfig], Coroutine[None, None, None]]) -> int:
    """Run a child process of a voter until it is told to stop; returns its exit code."""
    die_with_parent()
    configure_logs()
    structlog.contextvars.bind_contextvars(process=name)
    try:
        config = read_config(_config_argument(name, arguments))
        structlog.contextvars.bind_contextvars(voter=config.voter.id)
        uvloop.run(_until_signalled(serve(config)))
    except BaseExceptionGroup as group:
        return _say(name, _first(group))
    except KeyboardInterrupt:
        return 0
    except Exception as error:  # noqa: BLE001  a program's top
        return _say(name, error)
    return 0


def _config_argument(name: str, arguments: list[str]) -> Path:
    if len(arguments) != 2 or arguments[0] != "--config":
        raise ConfigError(name, "start it with `--config voter.yaml`")
    return Path(arguments[1])


async def _until_signalled(work: Coroutine[None, None, None]) -> None:
    task = asyncio.ensure_future(work)
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopping:
            raise


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _say(name: str, error: BaseException) -> int:
    sentence, code = explain(error)
    if code == EXIT_FAILED and not isinstance(error, AppError):
        structlog.get_logger().error("process.failed", exc_info=error)
    sys.stdout.write(f"failed {code} {name}: {sentence}\n")
    sys.stdout.flush()
    return code


def explain(error: BaseException) -> tuple[str, int]:
    """Return one sentence for an operator, and the exit code."""
    if isinstance(error, ProcessFailure):
        return str(error), error.exit_code
    if isinstance(error, ConfigError):
        return str(error), EXIT_CONFIG
    if isinstance(error, OSError):
        if error.errno == errno.EADDRINUSE:
            return f"{error}: stop what uses the port, or set another in cluster.yaml", EXIT_PORT
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return "no space is left on the disk of the data folder; free some and start again", EXIT_DISK
        return f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), EXIT_FAILED
    return f"{type(error).__name__}: {error}", EXIT_FAILED


def prepare_data(config: VoterConfig) -> None:
    """Make the data folder, or check that it is this voter's and of this format; raises ProcessFailure."""
    from workqueue.errors import EXIT_DATA

    config.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark = config.data / "voter.json"
    if not mark.exists():
        found = {"format": FORMAT, "voter": config.voter.id, "cluster": config.cluster.cluster_id}
        part = mark.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(found))
        part.replace(mark)
        return
    try:
        found = msgspec.json.decode(mark.read_bytes(), type=dict[str, int | str])
    except msgspec.DecodeError as error:
        raise ProcessFailure(
            f"{mark} is damaged ({error}); restore the data folder or replace the voter", EXIT_DATA
        ) from error
    if found.get("format") != FORMAT:
        version = found.get("format")
        raise ProcessFailure(
            f"{config.data} was written by another version (format {version}, this one reads {FORMAT}); "
            "use the release that wrote it, or another folder",
            EXIT_DATA,
        )
    for what, wanted in (("voter", config.voter.id), ("cluster", config.cluster.cluster_id)):
        if found.get(what) != wanted:
            raise ProcessFailure(
                f"{config.data} belongs to {what} {found.get(what)}, not {wanted}; name its own folder in voter.yaml",
                EXIT_DATA,
            )
