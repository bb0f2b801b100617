"""The child process that runs jobs, one after another, with the engine imported and compiled once.

It leads its own process group. When the agent goes away it kills that group, itself included, so nothing of a worker
outlives it. The agent's frames: run, stop, fetched, check, exit. Its own: ready, progress, cursor, artifact, include,
fetch, and one of done, failed, stopped for each run; checked for each check.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import importlib
import os
import queue
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from workers import frames
from workers.jobs import find
from workers.jobs.context import JobError, Stopped
from workers.runner_task import Task
from workqueue.machine.commands import ArtifactRef
from workqueue.store import digest_file

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PROGRESS_S = 0.2  # progress is passed on at most this often
_OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")


class Context:
    """What the running job sees; see `workers.jobs.context`."""

    def __init__(self, task: Task, device: str, link: Link) -> None:
        self.job = task.job
        self.attempt = task.attempt
        self.kind = task.kind
        self.config = task.config
        self.work = Path(task.work)
        self.threads = task.threads
        self.device = device
        self.backend = task.backend
        self.batches = Path(task.batches) if task.batches else None
        self._outbox = Path(task.outbox)
        self._cursor = msgspec.msgpack.decode(task.cursor) or {}
        self._link = link
        self._told_s = 0.0

    @property
    def cursor(self) -> dict[str, object]:
        """Where an earlier attempt stopped."""
        return dict(self._cursor)

    def progress(self, **values: object) -> None:
        """Pass progress on, not too often."""
        now_s = time.monotonic()
        if now_s - self._told_s >= _PROGRESS_S:
            self._told_s = now_s
            self._link.send("progress", values)

    def checkpoint(self, cursor: dict[str, object]) -> None:
        """Say where another attempt could go on."""
        self._cursor = dict(cursor)
        self._link.send("cursor", cursor)

    def should_stop(self) -> bool:
        """Whether the agent asked for it."""
        return self._link.stopping.is_set()

    def fetch(self, sha256: str) -> Path:
        """Ask the agent for a file and wait."""
        self._link.send("fetch", sha256)
        path, error = self._link.fetched.get()
        if error:
            raise JobError("artifact.unavailable", error, fault="infrastructure")
        return Path(path)

    def publish(self, path: Path, kind: str) -> ArtifactRef:
        """Sync the file, move it to the outbox under its name and tell the agent."""
        ref = ArtifactRef(digest_file(path), path.stat().st_size, kind)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.rename(self._outbox / ref.sha256)
        self._link.send("artifact", ref)
        return ref

    def include(self, ref: ArtifactRef) -> None:
        """Name an artifact of an earlier attempt."""
        self._link.send("include", ref)


class Link:
    """The socket to the agent and the thread that listens to it."""

    def __init__(self, link: socket.socket) -> None:
        self._socket = link
        self._sending = threading.Lock()
        self.orders: queue.Queue[list[Any]] = queue.Queue()
        self.fetched: queue.Queue[tuple[str, str]] = queue.Queue()
        self.stopping = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, *parts: object) -> None:
        """Send one frame."""
        with self._sending:
            self._socket.sendall(frames.pack(*parts))

    def _listen(self) -> None:
        while True:
            try:
                name, *rest = frames.receive(self._socket)
            except (EOFError, OSError, msgspec.DecodeError):
                os.killpg(0, signal.SIGKILL)  # the agent is gone: so is everything of this runner
                return
            if name == "stop":
                self.stopping.set()
            elif name == "fetched":
                self.fetched.put((rest[0], rest[1]))
            else:
                self.orders.put([name, *rest])


def serve(link: Link, device: str) -> None:
    """Carry out orders until told to exit."""
    link.send("ready", os.getpid())
    while True:
        name, *rest = link.orders.get()
        if name == "exit":
            return
        if name == "check":
            link.send("checked", *_guarded(functools.partial(_check, str(rest[0]), device)))
            continue
        task = msgspec.convert(rest[0], Task)
        link.stopping.clear()
        _log_to(Path(task.work) / "log.txt")
        link.send(*run(task, device, link))


def run(task: Task, device: str, link: Link) -> tuple[object, ...]:
    """Run one job; the frame that tells its end."""

    def job() -> tuple[object, ...]:
        kind = find(task.kind)
        try:
            payload = msgspec.msgpack.decode(task.payload, type=kind.payload)
        except msgspec.DecodeError as error:
            raise JobError("payload.invalid", f"the payload is not one of {task.kind}: {error}") from error
        result = kind.run(Context(task, device, link), payload)
        if not isinstance(result, kind.result):
            raise JobError("result.invalid", f"{task.kind} returned {type(result).__name__}")
        return ("done", result)

    return _guarded(job)


def _guarded(job: Callable[[], tuple[object, ...]]) -> tuple[object, ...]:
    try:
        return job()
    except Stopped:
        return ("stopped",)
    except JobError as error:
        _print_trace()
        return ("failed", error.cause, error.fault, str(error))
    except OSError as error:
        _print_trace()
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        cause, fault = ("disk.full", "node") if full else ("job.failed", "payload")
        return ("failed", cause, fault, f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001  a job is anybody's code: whatever it raises ends the attempt, not the runner
        _print_trace()
        memory = any(kind.__name__ in _OUT_OF_MEMORY for kind in type(error).__mro__)
        cause = "job.out_of_memory" if memory else "job.failed"
        return ("failed", cause, "payload", f"{type(error).__name__}: {error}")


def _check(target: str, device: str) -> tuple[object, ...]:
    """Call `module:function` with the device; used for canaries and measurements."""
    module, _, name = target.partition(":")
    return ("ok", getattr(importlib.import_module(module), name)(device))


def _print_trace() -> None:
    traceback.print_exc()
    sys.stderr.flush()


def _log_to(path: Path) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def main() -> None:
    """Start as `python -m workers.runner FD DEVICE`, in a process group of its own."""
    fd, device = int(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the agent
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):  # Linux: the kernel kills us with the agent
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    serve(Link(socket.socket(fileno=fd)), device)


if __name__ == "__main__":
    main()
