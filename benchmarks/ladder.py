"""How far each difficulty level is above the one below: `python -m benchmarks.ladder [--games 200] [--model FILE]`.

Neighbours play each other; the levels that need a net are left out without one. Writes
`benchmarks/results/ladder.json` with ratings fitted over all games and the milliseconds a decision takes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from engine.players.ladder import LEVELS, WITHOUT_NET, describe
from engine.players.names import parse
from engine.players.player import Player, make
from engine.rating.fit import fit
from engine.rating.games import rated
from engine.rules.geometry import geometry
from engine.tournament.commands import match_of
from engine.tournament.play import MatchSpec, play, points


class Timed:
    """A player and how long its decisions take."""

    def __init__(self, player: Player) -> None:
        self.player, self.seconds, self.decisions = player, 0.0, 0

    def choose(self, data: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        begun = time.perf_counter()
        chosen = self.player.choose(data, rows, rng)
        self.seconds += time.perf_counter() - begun
        self.decisions += len(rows)
        return chosen


def main() -> None:
    """Play the pairs and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--games", type=int, default=200, help="of each pair of neighbours")
    parser.add_argument("--board", default="square8")
    parser.add_argument("--players", type=int, default=2)
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    where = geometry(options.board, options.players)
    top = max(LEVELS) if options.model else WITHOUT_NET
    names = {level: parse(f"level:{level}", options.model) for level in range(1, top + 1)}
    players = {level: Timed(make(each.config, where, each.weights)) for level, each in names.items()}
    config, matches, rows = f"{options.board}_{options.players}p", [], []
    for level in range(2, top + 1):
        pair = (level, level - 1)
        spec = MatchSpec(
            board=options.board, players=options.players, games=options.games, seed=level, format="gauntlet"
        )
        keys = [names[each].key for each in pair]
        played = play(spec, [players[each] for each in pair], keys)
        matches += [match_of(game, keys, config) for game in played]
        won, count = points(played, 0)
        error = 1.96 * (won / count * (1 - won / count) / count) ** 0.5
        rows.append({"level": level, "games": count, "share": won / count, "error_95": error})
        print(
            f"D{level} {describe(level):42} {100 * won / count:5.1f} % ± {100 * error:.1f} against D{level - 1} "
            f"({100 / options.players:.0f} % is equal)", flush=True,
        )  # fmt: skip
    fitted = fit(rated(matches))
    levels = []
    for level, each in names.items():
        row = fitted.standing(each.key)
        spent = 1000 * players[level].seconds / max(1, players[level].decisions)
        levels.append({"level": level, "plays": describe(level), "elo": row.elo_milli / 1000, "ms_a_decision": spent})
        half = (row.high_milli - row.low_milli) / 2000
        print(f"D{level:<2} {row.elo_milli / 1000:6.0f} ± {half:.0f} Elo  {spent:.2f} ms a decision")
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "load": os.getloadavg(),
        "date": datetime.now(UTC).isoformat(), "git": git, "config": config, "steps": rows, "levels": levels,
    }  # fmt: skip
    path = Path(__file__).parent / "results/ladder.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
