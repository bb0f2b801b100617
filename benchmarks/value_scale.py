"""How much a search should trust its values: `python -m benchmarks.value_scale model.safetensors [--games 200]`.

The same net plays itself with the same simulations: one side with each scale in turn, the other with 0.1, which mctx
uses for values that it has rescaled by the extremes seen. Writes `benchmarks/results/value-scale.json`.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from benchmarks.facts import facts
from benchmarks.learning import RESULTS
from benchmarks.learning_play import Score, one_thread
from engine.nets.evaluator import NetEvaluator
from engine.nets.store import load
from engine.players.player import GumbelPlayer
from engine.search.gumbel import GumbelSearch
from engine.tournament.play import MatchSpec, points
from engine.tournament.play import play as play_match

OTHER = 0.1


def player(evaluator: NetEvaluator, simulations: int, scale: float) -> GumbelPlayer:
    """Return a player that trusts its values so much."""
    made = GumbelPlayer(evaluator, simulations)
    made.search = GumbelSearch(evaluator, made.search.games, simulations, value_scale=scale)
    return made


def match(weights: Path, simulations: int, scale: float, games: int) -> Score:
    """Play one scale against the other."""
    net, manifest = load(weights)
    evaluator = NetEvaluator(net, manifest.geometry())
    players = [player(evaluator, simulations, each) for each in (scale, OTHER)]
    spec = MatchSpec(board=manifest.board, players=manifest.players, games=games, seed=6, format="gauntlet")
    return Score(f"scale {OTHER}", *points(play_match(spec, players, [str(scale), str(OTHER)]), 0))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.2, 0.5, 1.0, 2.0, 4.0])
    parser.add_argument("--simulations", type=int, default=32)
    parser.add_argument("--games", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    begun, rows = facts(), []
    with ProcessPoolExecutor(arguments.processes, get_context("spawn"), initializer=one_thread) as pool:
        tasks = [
            pool.submit(match, arguments.weights, arguments.simulations, scale, arguments.games)
            for scale in arguments.scales
        ]
        for scale, task in zip(arguments.scales, tasks, strict=True):
            rows.append({"scale": scale} | asdict(task.result()))
            print(f"scale {scale} against {task.result()}", flush=True)
    found = begun | {"simulations": arguments.simulations, "rows": rows, "load_at_end": os.getloadavg()}
    (RESULTS / "value-scale.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
