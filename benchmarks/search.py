"""What a simulation costs without a net: `python -m benchmarks.search`, one core, against evaluating with a 32x4 net.

By CPU time, so that others on the machine disturb it less. Writes `benchmarks/results/search.json`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.facts import facts
from engine.nets.evaluator import NetEvaluator, UniformEvaluator
from engine.nets.net import Net
from engine.rules.batch import GameBatch
from engine.rules.geometry import geometry
from engine.search.gumbel import GumbelSearch

GAMES, SIMULATIONS, ROUNDS = 64, 32, 9
TARGET_US = {"square8": 5.0, "square19": 15.0}


def measure(board: str, evaluator_of: object) -> float:
    """Return microseconds of CPU time a simulation: the median of several searches of the same positions."""
    torch.set_num_threads(1)
    where = geometry(board, 2)
    batch = GameBatch(where, GAMES)
    batch.random_playouts(1, 30)
    rows = np.flatnonzero(~batch.over).astype(np.int32)
    search = GumbelSearch(evaluator_of(where), GAMES, SIMULATIONS)  # type: ignore[operator]
    times = []
    for k in range(ROUNDS):
        begun = time.process_time()
        search.run(batch.data, rows, SIMULATIONS, np.random.default_rng(k))
        times.append(time.process_time() - begun)
    return float(np.median(times[1:])) * 1e6 / (len(rows) * SIMULATIONS)


def main() -> None:
    """Measure every board and write the result."""
    found, rows = facts(), []
    for board in ("square8", "hex8", "square19", "hexagonal"):
        null = measure(board, UniformEvaluator)
        net = measure(board, lambda where: NetEvaluator(Net(where), where))
        rows.append({"board": board, "null_net_us": null, "net_32x4_us": net, "target_us": TARGET_US.get(board)})
        print(f"{board:10} {null:7.2f} us a simulation with a null net, {net:8.2f} us with 32x4")
    found |= {"load_at_end": os.getloadavg(), "games": GAMES, "simulations": SIMULATIONS, "rows": rows}
    path = Path(__file__).parent / "results/search.json"
    path.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
