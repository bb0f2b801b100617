"""An example of a package that brings its own kind of job: it counts, and misbehaves on demand."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from workers.jobs import Kind
from workers.jobs.context import JobError, Stopped

if TYPE_CHECKING:
    from workers.jobs.context import Context


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`steps` steps of `step_ms` each; a file is published every `publish_every` steps."""

    steps: int = 1
    step_ms: int = 0
    publish_every: int = 0
    bytes_each: int = 100
    fetch: str = ""
    trace: str = ""  # a file that gets a line at begin and end
    act: str = ""
    act_at: int = 0
    rules_version: str = ""


class Result(msgspec.Struct, frozen=True):
    """What was counted."""

    steps: int
    first: int
    files: tuple[str, ...]
    fetched: int = 0


def run(context: Context, payload: Payload) -> Result:
    """Count from the cursor on."""
    trace(payload, f"begin {context.job} {context.attempt}")
    first = int(str(context.cursor.get("step", 0)))
    files = [str(name) for name in context.cursor.get("files", ())]  # type: ignore[attr-defined]
    fetched = context.fetch(payload.fetch).stat().st_size if payload.fetch else 0
    print(f"job {context.job} starts at {first}")
    for step in range(first, payload.steps):
        if payload.act and step == payload.act_at:
            misbehave(context, payload.act)
        time.sleep(payload.step_ms / 1000)
        context.progress(step=step + 1)
        if payload.publish_every and (step + 1) % payload.publish_every == 0:
            path = context.work / "out"
            path.write_bytes(f"{context.job}/{step}/".encode().ljust(payload.bytes_each, b"."))
            files.append(context.publish(path, "shard").sha256)
            context.checkpoint({"step": step + 1, "files": files})
        if payload.act != "deaf" and context.should_stop():
            context.checkpoint({"step": step + 1, "files": files})
            raise Stopped
    trace(payload, f"end {context.job} {context.attempt}")
    return Result(payload.steps, first, tuple(files), fetched)


def misbehave(context: Context, act: str) -> None:
    """Do what jobs should not."""
    if act == "raise":
        raise ValueError("this job always fails")
    if act == "node":
        raise JobError("device.lost", "the device is gone", fault="node")
    if act == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if act == "killed" and context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "exit":
        os._exit(7)
    if act == "memory":
        hog = [bytes(os.urandom(1 << 20)) * 4 for _ in range(64)]
        while len(hog) < 4000:
            hog.append(b"x" * (8 << 20))
            time.sleep(0.005)
    if act == "bad_alloc":
        raise MemoryError
    if act == "hang":
        time.sleep(1000)
    if act == "child":
        pid = os.fork()
        if pid == 0:
            time.sleep(1000)
        (context.work.parent.parent / "child.pid").write_text(str(pid))


def trace(payload: Payload, line: str) -> None:
    """Leave a line with the time, in one write."""
    if payload.trace:
        with Path(payload.trace).open("a") as file:
            file.write(f"{time.monotonic():.6f} {os.getpid()} {line}\n")


FAKE = Kind(Payload, Result, run)
