"""Speed of the rules: random complete games on one and four threads, against the same source as plain Python.

    python -m benchmarks.rules             all boards and player counts, about two minutes
    python -m benchmarks.rules --quick     square8 and hex8, two players

Writes benchmarks/results/rules.json. On one thread the time is CPU time; with several it is the wall clock. On a
machine with a CUDA device it also plays batches there, against all CPU threads.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numba
import numpy as np

ROOT = Path(__file__).parents[1]
THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # made by its constructor
RESULT = ROOT / "benchmarks" / "results" / "rules.json"
sys.path.insert(0, str(ROOT))

from engine.rules import kernels  # noqa: E402
from engine.rules.batch import GameBatch  # noqa: E402
from engine.rules.game import Game  # noqa: E402
from engine.rules.geometry import BOARDS, geometry  # noqa: E402
from engine.rules.records import GameRecord  # noqa: E402

TARGETS = {("square8", 2): 5000, ("hex8", 2): 4000, ("square19", 2): 300, ("hexagonal", 2): 150}
GPU_BATCHES = (1024, 4096, 16384, 65536, 262144)


def single_thread(board: str, players: int, seconds: float) -> dict[str, float]:
    """Play whole random games for some seconds of CPU time."""
    g = geometry(board, players).tables
    s = np.zeros(g.state_words, dtype=np.int32)
    rng = np.zeros(1, dtype=np.int64)
    kernels.seed_random(rng, 1)
    kernels.new_game(s, g)
    kernels.random_playout(s, g, rng)  # compiles
    games = plies = 0
    started = time.process_time()
    while (spent := time.process_time() - started) < seconds:
        kernels.new_game(s, g)
        plies += kernels.random_playout(s, g, rng)
        games += 1
    return {
        "games_s": games / spent,
        "plies_a_game": plies / games,
        "ns_a_ply": spent / plies * 1e9,  # legal moves, choice and apply
    }


def plain_python(board: str, players: int, seconds: float) -> dict[str, float]:
    """Do the same in a process without any compiler."""
    program = (
        "import json, sys; sys.path.insert(0, 'benchmarks'); from rules import single_thread; "
        f"print(json.dumps(single_thread({board!r}, {players}, {seconds})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def threads(board: str, players: int, count: int, games: int) -> float:
    """Games a second of a batch on some threads, by the wall clock; the better of two."""
    numba.set_num_threads(count)
    batch = GameBatch(geometry(board, players), games)
    best = 0.0
    for seed in (1, 2):
        batch.reset()
        started = time.perf_counter()
        batch.random_playouts(seed)
        best = max(best, games / (time.perf_counter() - started))
    numba.set_num_threads(THREADS)
    return best


def sizes(board: str, players: int) -> dict[str, float]:
    """Bytes of a state in memory, and of a recorded game."""
    rng = np.random.default_rng(1)
    packed = []
    for _ in range(3):
        start = Game.new(board, players)
        game, codes = start.clone(), []
        while not game.is_over:
            codes.append(int(rng.choice(game.legal_codes())))
            game.apply(codes[-1])
        packed.append(len(GameRecord.of(start, codes).to_bytes()))
    return {
        "state_bytes": 4 * geometry(board, players).tables.state_words,
        "record_bytes": sum(packed) / len(packed),
    }


def cold_start() -> float:
    """Seconds until a new process has played its first ply, compiled code at hand; the best of three."""
    program = (
        "from engine.rules.game import Game; g = Game.new('square8', 2); g.apply(int(g.legal_codes()[0])); g.state()"
    )
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
        best = min(best, time.perf_counter() - started)
    return best


def on_gpu(board: str, players: int) -> list[dict[str, float]] | None:
    """Games a second on a CUDA device by size of the batch; None without a device."""
    try:
        from numba import cuda

        if not cuda.is_available():  # type: ignore[no-untyped-call]
            return None
    except ImportError:
        return None
    from engine.rules import gpu

    rows = []
    cpu = threads(board, players, THREADS, 4096)
    for games in GPU_BATCHES:
        batch = GameBatch(geometry(board, players), games)
        gpu.random_playouts(batch, 1)  # compiles
        batch.reset()
        started = time.perf_counter()
        gpu.random_playouts(batch, 2)
        rate = games / (time.perf_counter() - started)
        rows.append({"games": games, "games_s": rate, "ratio_to_all_cpu_threads": rate / cpu})
    return rows


def measure(board: str, players: int, seconds: float) -> dict[str, Any]:
    large = board in ("square19", "hexagonal")
    compiled = single_thread(board, players, seconds)
    python = plain_python(board, players, seconds)
    games = 1000 if large else 8000
    one, four = (threads(board, players, n, games) for n in (1, min(4, THREADS)))
    row: dict[str, Any] = {
        "board": board,
        "players": players,
        **compiled,
        "target_games_s": TARGETS.get((board, players)),
        "python_games_s": python["games_s"],
        "ratio_to_python": compiled["games_s"] / python["games_s"],
        "batch_1_thread_games_s": one,
        "batch_4_threads_games_s": four,
        "ratio_4_threads": four / one,
        **sizes(board, players),
    }
    device = on_gpu(board, players) if players == 2 else None
    if device is not None:
        row["gpu"] = device
    print(
        f"{board:9} {players}p {compiled['games_s']:8.0f} games/s {compiled['ns_a_ply']:6.0f} ns/ply  "
        f"python {python['games_s']:6.1f}  x{row['ratio_to_python']:.0f}  "
        f"4 threads {four:8.0f} (x{four / one:.2f})  {row['state_bytes']} B/state  "
        f"{row['record_bytes']:.0f} B/record",
        flush=True,
    )
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two boards, two players, less time")
    arguments = parser.parse_args()
    seconds = 0.5 if arguments.quick else 2.0
    cases = [("square8", 2), ("hex8", 2)] if arguments.quick else [(b, n) for b in BOARDS for n in (2, 3, 4)]
    load = os.getloadavg()
    rows = [measure(board, players, seconds) for board, players in cases]
    sha = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {_processor()}",
        "load_before": load,
        "load_after": os.getloadavg(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": sha.stdout.strip(),
        "cold_start_s": cold_start(),
        "rows": rows,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    missed = [r for r in rows if r["target_games_s"] and r["games_s"] < r["target_games_s"]]
    print(f"cold start {result['cold_start_s']:.2f} s; load {load[0]:.1f}; wrote {RESULT.relative_to(ROOT)}")
    for row in missed:
        print(f"below target: {row['board']} {row['players']}p {row['games_s']:.0f} < {row['target_games_s']}")
    return 1 if missed else 0


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"


if __name__ == "__main__":
    raise SystemExit(main())
