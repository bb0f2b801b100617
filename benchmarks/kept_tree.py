"""What keeping the tree between moves is worth: `python -m benchmarks.kept_tree model.safetensors [--games 400]`.

Strength: one net plays itself with equal simulations, one side keeping the evaluations or the visits of what its tree
knows of the next position, the other side nothing; equal openings, every seating. Speed: the same self-play games with
each, by evaluations and CPU time. Writes `benchmarks/results/kept-tree.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from benchmarks.facts import facts
from benchmarks.learning import RESULTS
from benchmarks.learning_play import Score, one_thread
from engine.nets.evaluator import NetEvaluator
from engine.nets.store import load
from engine.players.player import GumbelPlayer, PlayerConfig
from engine.search.kept import KEEP, NOTHING, VISITS
from engine.selfplay import Selfplay, SelfplaySpec
from engine.tournament.play import MatchSpec, points
from engine.tournament.play import play as play_match


def evaluator_of(weights: Path) -> NetEvaluator:
    """Return the net."""
    net, manifest = load(weights)
    return NetEvaluator(net, manifest.geometry())


def match(weights: Path, simulations: int, games: int, seed: int) -> tuple[float, int]:
    """Play one that keeps its visits against one that keeps nothing; returns its points and the games."""
    evaluator = evaluator_of(weights)
    where = evaluator.where
    # One slot for each game that is played at once, so that each keeps its own tree.
    players = [GumbelPlayer(evaluator, simulations, games=128, keep=keep) for keep in (VISITS, NOTHING)]
    spec = MatchSpec(board=where.board, players=where.players, games=games, seed=seed, format="gauntlet")
    return points(play_match(spec, players, [VISITS, NOTHING]), 0)


def self_play(weights: Path, simulations: int, games: int) -> list[dict[str, float | str]]:
    """Play the same games with each way of keeping, in turns; returns what each took."""
    evaluator = evaluator_of(weights)
    where, rows = evaluator.where, []
    for keep in KEEP:
        spec = SelfplaySpec(
            board=where.board, players=where.players, player=PlayerConfig("gumbel", simulations), keep=keep,
            player_key="benchmark", games=games, seed=3,
        )  # fmt: skip
        run, begun = Selfplay(spec, Path(tempfile.gettempdir()), evaluator), time.process_time()
        while run.step():
            pass
        assert run.search is not None
        rows.append(
            {
                "keep": keep,
                "evaluations_a_game": run.search.evaluations / games,
                "plies_a_game": run.plies / games,
                "cpu_ms_a_game": 1000 * (time.process_time() - begun) / games,
                "policy_entropy": run.entropy / max(1, run.positions),
            }
        )
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--simulations", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--games", type=int, default=400, help="of each match")
    parser.add_argument("--self-play-games", type=int, default=64)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "kept-tree.json")
    arguments = parser.parse_args()
    found = facts() | {"speed": [], "strength": []}
    one_thread()
    self_play(arguments.weights, 32, 2)  # compiles
    for row in self_play(arguments.weights, 32, arguments.self_play_games):
        found["speed"].append(row)
        print(
            f"keeping {row['keep']:8}: {row['evaluations_a_game']:.0f} evaluations and "
            f"{row['cpu_ms_a_game']:.0f} ms of CPU time a game",
            flush=True,
        )
    with ProcessPoolExecutor(arguments.processes, get_context("spawn"), initializer=one_thread) as pool:
        share = arguments.games // arguments.processes
        for simulations in arguments.simulations:
            tasks = [
                pool.submit(match, arguments.weights, simulations, share, 11 + k) for k in range(arguments.processes)
            ]
            parts = [task.result() for task in tasks]
            score = Score("nothing kept", sum(part[0] for part in parts), sum(part[1] for part in parts))
            found["strength"].append({"simulations": simulations} | asdict(score))
            print(f"{simulations} simulations, visits kept against {score}", flush=True)
    arguments.out.write_text(json.dumps(found | {"load_at_end": os.getloadavg()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
