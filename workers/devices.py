"""What this machine has: measured at start, reported at registration. The one file that imports pynvml."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
from typing import TYPE_CHECKING

import msgspec
import psutil

from workqueue.machine.commands import Capability

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from config.cluster import WorkerSettings


KEPT_S = 86_400  # machines slow down: what was measured longer ago is measured anew


class Measured(msgspec.Struct, frozen=True):
    """What a runner measured with this build: rules version, rates in thousandths a second."""

    build: str
    rules_version: str = ""
    rates: dict[str, int] = {}
    devices: tuple[tuple[str, int], ...] = ()
    at_s: int = 0  # Unix time


def accelerators() -> tuple[tuple[str, int], ...]:
    """(name, memory in MB) of each NVIDIA device, none when there is no driver."""
    try:
        import pynvml  # only machines with a driver need it
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    found = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            name = pynvml.nvmlDeviceGetName(handle)
            total = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
            found.append((name if isinstance(name, str) else name.decode(), total >> 20))
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return tuple(found)


def build() -> str:
    """The installed version of this package, the build that jobs may ask for."""
    try:
        return importlib.metadata.version("riftq")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def cpu_count() -> int:
    """CPUs that this process may use, bounded by a container's quota."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.max") as file:  # noqa: PTH123  kernel file
        quota, period = file.read().split()
        usable = min(usable, max(1, int(quota) // int(period)))
    return usable


def memory_mb() -> int:
    """Memory that jobs may use: nine tenths of what is installed, or of a container's limit."""
    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max") as file:  # noqa: PTH123  kernel file
        total = min(total, int(file.read()))
    return total * 9 // 10 >> 20


def capability(
    settings: WorkerSettings, kinds: tuple[str, ...], measured: Measured, network: Mapping[str, int]
) -> Capability:
    """What the worker registers: settings bound what the machine has."""
    disk_mb = min(settings.disk_mb, shutil.disk_usage(settings.data).free >> 20)
    return Capability(
        cpus=settings.cpus or cpu_count(),
        ram_mb=settings.ram_mb or memory_mb(),
        disk_mb=disk_mb,
        devices=measured.devices,
        labels=settings.labels,
        kinds=tuple(kind for kind in kinds if not settings.kinds or kind in settings.kinds),
        build=measured.build,
        rules_version=measured.rules_version,
        rates=measured.rates | dict(network),
    )


def load_measured(path: Path, current: Measured) -> Measured | None:
    """What an earlier start measured, None when build or devices have changed since, or after a day."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Measured)
    except (OSError, msgspec.DecodeError):
        return None
    same = (kept.build, kept.devices) == (current.build, current.devices)
    return kept if same and 0 <= current.at_s - kept.at_s < KEPT_S else None


def save_measured(path: Path, measured: Measured) -> None:
    """Keep what was measured for the next start."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(measured))
    temporary.rename(path)
