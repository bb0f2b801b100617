"""Training on several devices: `torchrun --nproc-per-node 2 -m engine.training.distributed spec.json out shard.npz …`.

`spec.json` holds the fields of TrainSpec. `--parent` and `--resume` name weights and a checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from engine.training.ranks import join, leave
from engine.training.train import TrainSpec, TrainSummary, train


def main() -> TrainSummary:
    """Train with the other processes; the first one reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("shards", type=Path, nargs="+")
    parser.add_argument("--parent", type=Path)
    parser.add_argument("--resume", type=Path)
    arguments = parser.parse_args()
    spec = msgspec.json.decode(arguments.spec.read_bytes(), type=TrainSpec)
    ranks, device = join()

    def tell(values: dict[str, object]) -> None:
        if ranks.first:
            sys.stderr.write(" ".join(f"{name} {value}" for name, value in values.items()) + "\n")

    try:
        return train(
            spec, arguments.shards, arguments.out, parent=arguments.parent, resume=arguments.resume, device=device,
            progress=tell, ranks=ranks,
        )  # fmt: skip
    finally:
        leave()


if __name__ == "__main__":
    main()
