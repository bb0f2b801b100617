"""Speed of self-play against the net's own speed: `python -m benchmarks.selfplay [--seconds 20] [--processes 4]`.

For each size: positions a second that the net alone evaluates in batches, then positions that self-play evaluates
(8 and 32 simulations mixed), taken in turns on one core; then games an hour of several processes at once. With a CUDA
device the same there, for several batch sizes. Nets are random, games as long as such nets make them.

Writes `benchmarks/results/selfplay.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numba
import torch

from benchmarks.facts import facts
from benchmarks.search import measure
from engine.nets.encoder import PLANES, SCALARS
from engine.nets.evaluator import NetEvaluator, UniformEvaluator
from engine.nets.net import Net, parse_size
from engine.players.player import PlayerConfig
from engine.rules.geometry import geometry
from engine.selfplay import Selfplay, SelfplaySpec

RESULT = Path(__file__).parent / "results/selfplay.json"
GAMES_AN_HOUR = {("square8", "32x4"): 60_000, ("square8", "96x6"): 8_000}  # goals, on four cores
SHARE_GOAL = 0.75
ROUNDS = 5


WHOLE_GAMES = 12  # that each process plays to their ends, for what a game takes


def new_run(
    board: str, size: str, batch: int, device: str, seed: int = 1, games: int = 1 << 20
) -> tuple[Selfplay, NetEvaluator]:
    """Return a run that has not begun."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    torch.manual_seed(1)
    where = geometry(board, 2)
    evaluator = NetEvaluator(Net(where, *parse_size(size)), where, device)
    spec = SelfplaySpec(
        board=board, players=2, player=PlayerConfig("gumbel", 32), player_key="benchmark", games=games, seed=seed,
        batch_games=batch,
    )  # fmt: skip
    return Selfplay(spec, Path(tempfile.gettempdir()), evaluator), evaluator


def start(board: str, size: str, batch: int, device: str, seed: int = 1) -> tuple[Selfplay, NetEvaluator]:
    """Return a run that is under way, so that its games are at different plies."""
    run, evaluator = new_run(board, size, batch, device, seed)
    for _ in range(40):
        run.step()
    return run, evaluator


def raw_rate(evaluator: NetEvaluator, batch: int, seconds: float) -> tuple[float, float]:
    """Positions a second that the net alone evaluates, by the wall clock and by CPU time."""
    size, device = evaluator.where.size, evaluator.device
    planes = torch.randn(batch, PLANES, size, size, device=device).to(memory_format=torch.channels_last)
    scalars = torch.randn(batch, SCALARS, device=device)
    done, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=evaluator.half):
            evaluator.net.answer(planes, scalars)
        if device.type == "cuda":
            torch.cuda.synchronize()
        done += batch
    return done / (time.perf_counter() - wall), done / (time.process_time() - cpu)


def play_rate(run: Selfplay, seconds: float) -> tuple[float, float]:
    """Positions a second that self-play evaluates, by the wall clock and by CPU time."""
    assert run.search is not None
    before, wall, cpu = run.search.evaluations, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        run.step()
        run.finished.clear()
    done = run.search.evaluations - before
    return done / (time.perf_counter() - wall), done / (time.process_time() - cpu)


def one_core(board: str, size: str, batch: int, seconds: float, device: str = "cpu") -> dict[str, float]:
    """Compare self-play with the net alone, in turns."""
    run, evaluator = start(board, size, batch, device)
    raw_rate(evaluator, batch, 0.2)
    rows = [
        (*raw_rate(evaluator, batch, seconds / ROUNDS / 2), *play_rate(run, seconds / ROUNDS / 2))
        for _ in range(ROUNDS)
    ]
    raw, raw_cpu, play, play_cpu = (statistics.median(column) for column in zip(*rows, strict=True))
    return {
        "batch": batch, "net_s": raw, "selfplay_s": play, "share": play / raw, "share_of_cpu_time": play_cpu / raw_cpu,
    }  # fmt: skip


def games_part(board: str, size: str, batch: int, seconds: float, seed: int) -> tuple[float, int, int, int]:
    """Play; returns evaluations a second, and the games, plies and evaluations of whole games."""
    run, _ = start(board, size, batch, "cpu", seed)
    rate = play_rate(run, seconds)[0]
    whole, _ = new_run(board, size, WHOLE_GAMES, "cpu", seed, WHOLE_GAMES)
    while whole.step():
        pass
    assert whole.search is not None
    return rate, whole.done, whole.plies, whole.search.evaluations


def games_an_hour(board: str, size: str, batch: int, seconds: float, processes: int) -> dict[str, float]:
    """Games an hour of several processes, one thread each: evaluations a second over what whole games take."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        tasks = [pool.submit(games_part, board, size, batch, seconds, k) for k in range(processes)]
        parts = [task.result() for task in tasks]
    games, plies, evaluations = (sum(part[k] for part in parts) for k in (1, 2, 3))
    rate = sum(part[0] for part in parts)
    return {
        "processes": processes, "evaluations_s": rate, "evaluations_a_game": evaluations / games,
        "plies_a_game": plies / games, "games_an_hour": 3600 * rate * games / evaluations,
    }  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", nargs="+", default=["square8"])
    parser.add_argument("--sizes", nargs="+", default=["32x4", "96x6"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each measurement")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    found = facts() | {"share_goal": SHARE_GOAL, "search_us": measure("square8", UniformEvaluator), "rows": []}
    print(f"search: {found['search_us']:.1f} us a simulation with a null net")
    rows = []
    for board in arguments.boards:
        for size in arguments.sizes:
            row: dict[str, Any] = {"board": board, "size": size, "goal": GAMES_AN_HOUR.get((board, size))}
            row |= one_core(board, size, arguments.batch, arguments.seconds)
            row |= games_an_hour(board, size, arguments.batch, arguments.seconds, arguments.processes)
            if torch.cuda.is_available():
                row["gpu"] = [one_core(board, size, n, arguments.seconds, "cuda") for n in (256, 1024, 4096)]
            rows.append(row)
            print(
                f"{board} {size}: net {row['net_s']:.0f}/s, self-play {row['selfplay_s']:.0f}/s, "
                f"{100 * row['share']:.0f} % ({100 * row['share_of_cpu_time']:.0f} % of CPU time), "
                f"{row['games_an_hour']:.0f} games an hour in {row['processes']} processes"
            )
    arguments.out.write_text(json.dumps(found | {"rows": rows, "load_at_end": os.getloadavg()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
