"""Error rates of the test that promotes: `python -m benchmarks.sequential [--matches 10000]`.

Plays simulated matches through `workqueue.sequential.judge` itself, looking at it as often as a worker does, and counts
wrong verdicts. "A candidate is d Elo stronger" means that its expected points a game are those of d Elo, whatever the
luck of openings and seats and the share of ties. Writes `benchmarks/results/sequential.json` and
`docs/images/sequential.png`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workqueue.sequential import ERROR, Observed, judge, share

ELO0, ELO1, ALPHA, BETA = 0.0, 50.0, ERROR, ERROR
LOOK_EVERY = 32  # games between two looks, as a worker's match plays them
LIMITS = (400, 800, 1200)  # games that a match may have at most
GAMES_END = 20_000  # a match that is undecided by then counts as such: none was
LN = math.log(10) / 400
ROOT = Path(__file__).parents[1]


class World(NamedTuple):
    """What makes results other than strength."""

    players: int
    ties: float = 0.0  # share of games whose first place is shared by two
    opening: float = 80.0  # Elo: spread of an opening's advantage for the first seat
    seat: float = 30.0  # Elo of the first seat


WORLDS = (
    World(2),
    World(2, ties=0.1),
    World(2, ties=0.3, opening=30.0),
    World(2, opening=300.0),
    World(3, ties=0.02),
    World(4, ties=0.02),
)


def sets_of(world: World, strength: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the candidate's points [sets, seats] in sets: one opening, the candidate in every seat once."""
    n = world.players
    seats = rng.normal(0.0, world.opening, (count, 1, n))  # each opening favours seats in its own way
    seats[:, :, 0] += world.seat
    elo = np.broadcast_to(seats, (count, n, n)).copy()
    games = np.arange(n)
    elo[:, games, games] += strength
    order = np.argsort(-(elo * LN + rng.gumbel(size=elo.shape)), axis=2)
    first = order[:, :, 0] == games
    second = order[:, :, 1] == games
    shared = rng.random((count, n)) < world.ties
    scores: np.ndarray[Any, Any] = np.where(shared, (first | second) * 0.5, first * 1.0)
    return scores


@cache
def strength_for(world: World, elo: float) -> float:
    """Return the strength whose points are those of `elo`: openings and ties pull them to the middle."""
    low, high, wanted = -1500.0, 1500.0, share(elo, world.players)
    for _ in range(20):
        middle = (low + high) / 2
        if sets_of(world, middle, 100_000, np.random.default_rng(7)).mean() < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


class Match(NamedTuple):
    verdict: str
    games: int


def matches(world: World, elo: float, count: int, seed: int, games_max: int = GAMES_END) -> Iterator[Match]:
    """Play matches until the test decides or `games_max`."""
    rng = np.random.default_rng([seed, world.players, round(elo) % 4096])
    strength, n = strength_for(world, elo), world.players
    per_look = max(1, LOOK_EVERY // n)
    for _ in range(count):
        seen: list[Observed] = []
        said = "undecided"
        while said == "undecided" and len(seen) + per_look * n <= games_max:
            for points in sets_of(world, strength, per_look, rng).tolist():
                name = str(len(seen))
                seen += [Observed(name, each) for each in points]
            said = judge(seen, n, elo0=ELO0, elo1=ELO1, alpha=ALPHA, beta=BETA).verdict
        yield Match(said, len(seen))


def interval(wrong: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    z, p = 1.959964, wrong / count
    middle, half = p + z * z / (2 * count), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def measure(world: World, elo: float, count: int, seed: int, games_max: int = GAMES_END) -> dict[str, object]:
    """Return how often the test accepts, with its interval, and how many games it takes."""
    found = list(matches(world, elo, count, seed, games_max))
    accepted = sum(match.verdict == "accept" for match in found)
    low, high = interval(accepted, count)
    games = np.array([match.games for match in found])
    return {
        "elo": elo, "matches": count, "accepted": accepted / count, "low": low, "high": high,
        "undecided": sum(match.verdict == "undecided" for match in found) / count,
        "games_mean": float(games.mean()), "games_p95": float(np.quantile(games, 0.95)),
    }  # fmt: skip


def cut_off(world: World, games_max: int, count: int) -> dict[str, object]:
    """Return how often a candidate `elo1` stronger is promoted when a match may have that many games at most."""
    found = measure(world, ELO1, count, seed=2, games_max=games_max)
    accepted, undecided = (100 * float(str(found[name])) for name in ("accepted", "undecided"))
    print(
        f"{label(world):48} at most {games_max:4} games: {accepted:.1f} % accepted, {undecided:.1f} % undecided",
        flush=True,
    )
    return {"world": label(world), "games_max": games_max, **found}


def draw(rows: list[dict[str, object]], path: Path) -> None:
    """Draw acceptance and games over the true difference."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in dict.fromkeys(str(row["world"]) for row in rows):
        own = sorted((row for row in rows if row["world"] == name), key=lambda row: float(str(row["elo"])))
        x = [row["elo"] for row in own]
        left.plot(x, [row["accepted"] for row in own], marker="o", markersize=3, label=name)
        right.plot(x, [row["games_mean"] for row in own], marker="o", markersize=3, label=name)
    left.axhline(ALPHA, color="grey", linestyle="--", linewidth=1)
    left.axhline(1 - BETA, color="grey", linestyle="--", linewidth=1)
    for bound in (ELO0, ELO1):
        left.axvline(bound, color="grey", linestyle=":", linewidth=1)
    left.set(xlabel="true difference, Elo", ylabel="share of matches accepted", title="Verdicts")
    right.set(xlabel="true difference, Elo", ylabel="games, mean", title="Length of a match")
    left.legend(fontsize=7)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def label(world: World) -> str:
    """Return a world's name."""
    return f"{world.players} players, {100 * world.ties:g} % ties, openings ± {world.opening:g} Elo"


def main() -> None:
    """Measure every world and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--matches", type=int, default=10_000, help="at elo0 and elo1; a tenth at other differences")
    parser.add_argument("--out", type=Path, default=ROOT)
    options = parser.parse_args()
    begun, rows = time.monotonic(), []
    for world in WORLDS:
        for elo in (-50.0, ELO0, 15.0, 25.0, 35.0, ELO1, 100.0):
            count = options.matches if elo in (ELO0, ELO1) else max(1, options.matches // 10)
            row = {"world": label(world), **world._asdict(), **measure(world, elo, count, seed=1)}
            rows.append(row)
            kind = "type I " if elo == ELO0 else "type II" if elo == ELO1 else "       "
            wrong = 1 - float(str(row["accepted"])) if elo == ELO1 else float(str(row["accepted"]))
            print(
                f"{row['world']:48} {elo:6.0f} Elo  {kind} {100 * wrong:6.2f} %  "
                f"accepted {100 * float(str(row['low'])):.2f}-{100 * float(str(row['high'])):.2f} %  "
                f"{row['games_mean']:.0f} games (95 %: {row['games_p95']:.0f})",
                flush=True,
            )
    limited = [cut_off(world, games_max, max(1, options.matches // 10)) for world in WORLDS for games_max in LIMITS]
    bounds = {
        "type_1_within": all(r["low"] <= ALPHA for r in rows if r["elo"] == ELO0),
        "type_2_within": all(1 - r["high"] <= BETA for r in rows if r["elo"] == ELO1),
    }
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "load": os.getloadavg(),
        "date": datetime.now(UTC).isoformat(), "git": git, "seconds": time.monotonic() - begun,
        "elo0": ELO0, "elo1": ELO1, "alpha": ALPHA, "beta": BETA, "look_every_games": LOOK_EVERY,
        **bounds, "rows": rows, "limited": limited,
    }  # fmt: skip
    path = options.out / "benchmarks/results/sequential.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    draw(rows, options.out / "docs/images/sequential.png")
    print(bounds)


if __name__ == "__main__":
    main()
