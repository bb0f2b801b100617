"""The batch size that a device is fast with: found by trying, remembered for each device, backend and net."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import torch

if TYPE_CHECKING:
    from engine.nets.evaluator import NetEvaluator
    from engine.nets.forward import Forward

SMALLEST: Final = 16
GAIN: Final = 1.05  # less than this is noise
PATIENCE: Final = 2  # sizes in a row without a gain
SECONDS: Final = 0.25  # of measuring one size
OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)


class Batch(msgspec.Struct, frozen=True):
    """A batch size and the positions a second that it gave."""

    size: int
    positions_s: int


def find_batch(rate: Callable[[int], float], largest: int, smallest: int = SMALLEST) -> Batch:
    """Double the size until it brings no more or memory ends; the smallest size that is about as fast as the best.

    `rate(size)` returns positions a second, and raises MemoryError or torch's where a size does not fit.
    """
    rates: dict[int, float] = {}
    size, best, without_gain = min(smallest, largest), 0.0, 0
    while size <= largest and without_gain < PATIENCE:
        try:
            rates[size] = rate(size)
        except OUT_OF_MEMORY:
            break
        without_gain = 0 if rates[size] > best * GAIN else without_gain + 1
        best = max(best, rates[size])
        size *= 2
    if not rates:
        raise MemoryError(f"a batch of {smallest} positions does not fit this device")
    chosen = next(size for size, each in rates.items() if each * GAIN >= best)
    return Batch(chosen, round(rates[chosen]))


def rate_of(
    forward: Forward, size: int, seconds: float = SECONDS, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return how many positions a second are answered in batches of a size."""
    planes, scalars = forward.inputs(size)
    planes[:], scalars[:] = 0.0, 0.0
    places = np.zeros((size, 1), np.int64)
    forward.answer(planes, scalars, places)  # the first is slower
    begun, done = clock(), 0
    while done == 0 or clock() - begun < seconds:
        forward.answer(planes, scalars, places)
        done += size
    return done / max(clock() - begun, 1e-9)


def clock_for(evaluator: NetEvaluator) -> Callable[[], float]:
    """Return CPU time for one thread of the CPU, which others on the machine do not disturb; else the wall clock."""
    alone = evaluator.device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def batch_for(evaluator: NetEvaluator, memory: Path | None = None) -> Batch:
    """Return the batch size for a net's shape: remembered in a file, measured where it is not."""
    key = name_of(evaluator)
    known = remembered(memory) if memory else {}
    if key not in known:
        forward = evaluator.forward
        known[key] = find_batch(lambda size: rate_of(forward, size, SECONDS, clock_for(evaluator)), forward.batch_max)
        if memory:
            _remember(memory, key, known[key])
    return known[key]


def name_of(evaluator: NetEvaluator) -> str:
    """Return what a batch size is remembered for: device, backend, threads, board and players, shape of the net."""
    where, net = evaluator.where, evaluator.net
    return (
        f"{device_name(evaluator.device)}/{evaluator.forward.name}/t{torch.get_num_threads()}/"
        f"{where.board}_{where.players}p/{net.channels}x{net.blocks}"
    )


def device_name(device: torch.device) -> str:
    """Return the name of a device's make, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def remembered(memory: Path) -> dict[str, Batch]:
    """Return what is remembered; nothing where the file is missing or of another make."""
    try:
        return msgspec.json.decode(memory.read_bytes(), type=dict[str, Batch])
    except (OSError, msgspec.MsgspecError):
        return {}


def _remember(memory: Path, key: str, found: Batch) -> None:
    """Add to what is remembered; jobs side by side may do so at once, and what cannot be written is measured again."""
    temporary = memory.with_suffix(f".{os.getpid()}")
    try:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(remembered(memory) | {key: found}), indent=2))
        temporary.rename(memory)
    except OSError:
        temporary.unlink(missing_ok=True)
