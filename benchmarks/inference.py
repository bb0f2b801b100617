"""Evaluations a second by runtime: `python -m benchmarks.inference [--seconds 0.5] [--threads 1]`.

Each backend that is installed, batches of 1, 64 and 256, nets of 32x4 and 96x6 on square8, in one process: positions a
second of CPU time and of the wall clock, medians of rounds in which all take turns, and how far the answers lie from
torch's. Then the batch size found automatically. With a CUDA device the same there, up to batches of 4096. Weights are
random.

Writes `benchmarks/results/inference.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.facts import facts
from engine.nets.batch import Batch, find_batch, rate_of
from engine.nets.forward import Forward
from engine.nets.inference import InferenceError, installed, open_forward, sample_inputs
from engine.nets.net import Net, parse_size
from engine.rules.geometry import geometry

RESULT = Path(__file__).parent / "results/inference.json"
BACKENDS = ("torch:f32", "torch:bf16", "onnxruntime:f32", "openvino:f32", "openvino:bf16")
BATCHES, DEVICE_BATCHES = (1, 64, 256), (64, 256, 1024, 4096)
ROUNDS = 5


def opened(net: Net, board: str, device: str) -> dict[str, Forward]:
    """Return every backend that answers here; those that do not are named."""
    found = {}
    for backend in BACKENDS if device == "cpu" else BACKENDS[:2]:
        if not installed(backend.partition(":")[0]):
            print(f"{backend}: not installed")
            continue
        try:
            found[backend] = open_forward(net, geometry(board, 2), device, backend)
        except InferenceError as error:
            print(f"{backend}: {error}")
    return found


def rates(forward: Forward, size: int, seconds: float) -> tuple[float, float]:
    """Positions a second of the wall clock and of CPU time."""
    planes, scalars = forward.inputs(size)
    planes[:], scalars[:] = 0.5, 0.5
    places = np.zeros((size, 1), np.int64)
    forward.answer(planes, scalars, places)
    done, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.process_time() - cpu < seconds:
        forward.answer(planes, scalars, places)
        done += size
    return done / (time.perf_counter() - wall), done / (time.process_time() - cpu)


def difference(net: Net, board: str, forward: Forward) -> float:
    """Return the largest difference of a win chance from torch's in single precision."""
    where = geometry(board, 2)
    planes, scalars = sample_inputs(where)
    reference = open_forward(net, where)
    chances = []
    for each in (reference, forward):
        filled = each.inputs(len(planes))
        filled[0][:], filled[1][:] = planes, scalars
        chances.append(each.answer(*filled, np.zeros((len(planes), 1), np.int64))[1])
    return float(np.abs(chances[0] - chances[1]).max())


def measured(board: str, size: str, device: str, seconds: float) -> list[dict[str, Any]]:
    """Return a row for each backend and batch."""
    torch.manual_seed(1)
    net = Net(geometry(board, 2), *parse_size(size)).eval()
    forwards = opened(net, board, device)
    batches = BATCHES if device == "cpu" else DEVICE_BATCHES
    samples: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for batch in batches:
            for name, forward in forwards.items():
                samples.setdefault((name, batch), []).append(rates(forward, batch, seconds / ROUNDS))
    rows = []
    for name, forward in forwards.items():
        row: dict[str, Any] = {"board": board, "size": size, "device": device, "backend": name}
        row["difference"] = difference(net, board, forward)
        for batch in batches:
            wall, cpu = (statistics.median(column) for column in zip(*samples[name, batch], strict=True))
            row[f"b{batch}"] = {"wall_s": round(wall), "cpu_s": round(cpu)}
        found = batch_found(forward, device, seconds / 2)
        row["batch_found"] = {"size": found.size, "positions_s": found.positions_s}
        rows.append(row)
        cells = "  ".join(
            f"b{batch} {row[f'b{batch}']['cpu_s' if device == 'cpu' else 'wall_s']:>7}" for batch in batches
        )
        print(
            f"{board} {size} {device} {name:16} {cells}  batch found {found.size:>5}  differs {row['difference']:.1g}"
        )
    return rows


def batch_found(forward: Forward, device: str, seconds: float) -> Batch:
    """Return the batch size found automatically."""
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    return find_batch(lambda size: rate_of(forward, size, seconds, clock), forward.batch_max)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", nargs="+", default=["square8"])
    parser.add_argument("--sizes", nargs="+", default=["32x4", "96x6"])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each figure")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result = facts() | {"threads": arguments.threads, "processor": processor(), "torch": torch.__version__}
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda:0")
        result["accelerator"] = torch.cuda.get_device_name(0)
    print("positions a second of CPU time (of the wall clock on a device)")
    rows: list[dict[str, Any]] = []
    for device in devices:
        for board in arguments.boards:
            for size in arguments.sizes:
                rows += measured(board, size, device, arguments.seconds)
    arguments.out.write_text(json.dumps(result | {"rows": rows, "load_at_end": os.getloadavg()}, indent=2) + "\n")


def processor() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
