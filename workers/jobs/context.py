"""What a job sees of its worker: where it may write, what it may ask for, and how it tells what it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from config.errors import AppError

if TYPE_CHECKING:
    from pathlib import Path

    from workqueue.machine.commands import ArtifactRef


class JobError(AppError):
    """Ends an attempt with a typed cause; `fault` says whose it is: "payload", "node" or "infrastructure"."""

    def __init__(self, cause: str, message: str, *, fault: str = "payload") -> None:
        super().__init__(message)
        self.cause = cause
        self.fault = fault


class Stopped(Exception):
    """Ends an attempt that was asked to stop; its cursor says where the next one goes on."""


class Context(Protocol):
    """A job's view of the worker."""

    job: str
    attempt: int
    kind: str
    config: str
    work: Path  # an empty folder of this attempt's own
    threads: int
    device: str  # "cpu" or "cuda:0": what the engine may use
    backend: str  # what computes nets, as `engine.nets.inference` reads it
    batches: Path | None  # where the batch sizes of this machine are remembered

    @property
    def cursor(self) -> dict[str, object]:
        """Where an earlier attempt stopped; empty at first."""

    def progress(self, **values: object) -> None:
        """Say how far the job is. A job that says nothing for long is taken for hung."""

    def checkpoint(self, cursor: dict[str, object]) -> None:
        """Say where another attempt could go on; what was published before is stored by then."""

    def should_stop(self) -> bool:
        """Whether to end at the next safe place: publish, checkpoint, and raise Stopped."""

    def fetch(self, sha256: str) -> Path:
        """Return a read-only file with these bytes, from the cache or a voter; blocks."""

    def publish(self, path: Path, kind: str) -> ArtifactRef:
        """Hand a finished file over to be stored; the file is moved away. Does not wait for the upload."""

    def include(self, ref: ArtifactRef) -> None:
        """Count an artifact that an earlier attempt published among those of this one's result."""
