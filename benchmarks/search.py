"""What a simulation costs without a net: `python -m benchmarks.search`, one core, against evaluating with a 32x4 net.

Writes `benchmarks/results/search.json`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from engine.nets.evaluator import NetEvaluator, UniformEvaluator
from engine.nets.net import Net
from engine.rules.batch import GameBatch
from engine.rules.geometry import geometry
from engine.search.gumbel import GumbelSearch

GAMES, SIMULATIONS, ROUNDS = 64, 32, 9
TARGET_US = {"square8": 5.0, "square19": 15.0}


def measure(board: str, evaluator_of: object) -> float:
    """Return microseconds a simulation: the median of several searches of the same positions."""
    where = geometry(board, 2)
    batch = GameBatch(where, GAMES)
    batch.random_playouts(1, 30)
    rows = np.flatnonzero(~batch.over).astype(np.int32)
    search = GumbelSearch(evaluator_of(where), GAMES, SIMULATIONS)  # type: ignore[operator]
    times = []
    for k in range(ROUNDS):
        begun = time.perf_counter()
        search.run(batch.data, rows, SIMULATIONS, np.random.default_rng(k))
        times.append(time.perf_counter() - begun)
    return float(np.median(times[1:])) * 1e6 / (len(rows) * SIMULATIONS)


def main() -> None:
    """Measure every board and write the result."""
    torch.set_num_threads(1)
    rows = []
    for board in ("square8", "hex8", "square19", "hexagonal"):
        null = measure(board, UniformEvaluator)
        net = measure(board, lambda where: NetEvaluator(Net(where), where))
        rows.append({"board": board, "null_net_us": null, "net_32x4_us": net, "target_us": TARGET_US.get(board)})
        print(f"{board:10} {null:7.2f} us a simulation with a null net, {net:8.2f} us with 32x4")
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    result = {"machine": machine, "load": os.getloadavg(), "date": datetime.now(UTC).isoformat(), "git": git}
    path = Path(__file__).parent / "results/search.json"
    path.write_text(json.dumps(result | {"games": GAMES, "simulations": SIMULATIONS, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
