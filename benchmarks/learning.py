"""From nothing to a net that beats the heuristic: `python -m benchmarks.learning --config square8-2p`.

Games of the heuristic, a first net, then generations of Gumbel self-play and training; every generation plays random,
the heuristic and its predecessor. Ends with 400 games (equal openings, every seating) against random and against the
heuristic. `--minutes` scales the games and steps of the plan, which takes about 30 minutes on two quiet cores.

`--ablation` compares 8, 16 and 32 simulations and a playout cap over one generation instead, at equal evaluations.

Writes `benchmarks/results/learning-<config>.json` and `.png`; weights and shards stay in `--folder`, and a run that was
interrupted goes on from its last generation when it is called again with that folder.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numba
import torch

from benchmarks.facts import facts
from engine.players.player import PlayerConfig, make
from engine.rules.geometry import geometry
from engine.selfplay import SelfplaySpec
from engine.selfplay import play as play_games
from engine.tournament.play import MatchSpec, points
from engine.tournament.play import play as play_match
from engine.training.train import TrainSpec, train

RESULTS = Path(__file__).parent / "results"
PLAN_MINUTES = 30.0  # what the default plan takes on two quiet cores


@dataclass(frozen=True)
class Plan:
    """What to do; counts of games are of all processes together."""

    board: str = "square8"
    players: int = 2
    size: str = "32x4"
    heuristic_games: int = 4000
    heuristic_steps: int = 2000
    generations: int = 5
    games: int = 1500
    steps: int = 700
    window: int = 3  # generations of shards that a training sees
    simulations: int = 32
    simulations_fast: int = 8
    full_share: float = 0.4
    learning_rate: float = 1e-3
    match_games: int = 100
    match_simulations: int = 16
    final_games: int = 400
    final_simulations: int = 32
    seed: int = 1
    threads: int = 2

    @property
    def config(self) -> str:
        """Name of board and player count."""
        return f"{self.board}-{self.players}p"

    def scaled(self, factor: float) -> Plan:
        """Return the plan with more or fewer games and steps to learn from; the final match stays."""
        counts = ("heuristic_games", "heuristic_steps", "games", "steps")
        return replace(self, **{name: max(8, round(getattr(self, name) * factor)) for name in counts})


@dataclass
class Score:
    """Points of a player against others."""

    opponent: str
    won: float
    games: int
    share: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __post_init__(self) -> None:
        self.share = self.won / self.games
        self.low, self.high = wilson(self.won, self.games)

    def __str__(self) -> str:
        return f"{self.opponent} {100 * self.share:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass
class Generation:
    """A net and how it did."""

    name: str
    model: str
    games: int
    positions: int
    entropy: float
    selfplay_s: float
    train_s: float
    losses: dict[str, float]
    scores: list[Score] = field(default_factory=list)
    elo: float = 0.0


def wilson(won: float, games: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    p = won / games
    centre, spread = p + z * z / (2 * games), z * math.sqrt(p * (1 - p) / games + z * z / (4 * games * games))
    return (centre - spread) / (1 + z * z / games), (centre + spread) / (1 + z * z / games)


def elo(results: Sequence[tuple[str, str, float, int]], players: int, anchor: str = "random") -> dict[str, float]:
    """Return Elo by name of (first, second, points of first, games), one `first` against `players - 1` of `second`.

    Plackett-Luce by minorise-maximise (Hunter 2004); half a point to either side keeps it finite.
    """
    names = sorted({name for first, second, _, _ in results for name in (first, second)})
    strength = dict.fromkeys(names, 1.0)
    for _ in range(2000):
        wins, load = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for first, second, won, games in results:
            wins[first] += won + 0.5
            wins[second] += games - won + 0.5
            share = (games + 1) / (strength[first] + (players - 1) * strength[second])
            load[first] += share
            load[second] += share * (players - 1)
        strength = {name: wins[name] / load[name] for name in names}
        strength = {name: value / strength[anchor] for name, value in strength.items()}
    return {name: 400 * math.log10(value) for name, value in strength.items()}


# ---- work of a process


def one_thread() -> None:
    """Leave the other cores to the other processes."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)


def selfplay_part(spec: SelfplaySpec, folder: Path, weights: Path | None) -> tuple[list[Path], int, int, float]:
    """Play; returns the shards, games, positions and the entropy of their policies."""
    shards: list[Path] = []
    done = play_games(spec, folder, weights=weights, on_shard=lambda path, _: shards.append(path))
    return shards, done.games, done.positions, done.policy_entropy


def match_part(spec: MatchSpec, configs: Sequence[PlayerConfig], weights: Sequence[Path | None]) -> tuple[float, int]:
    """Play a match; returns the points and games of the first player."""
    where = geometry(spec.board, spec.players)
    players = [make(config, where, path) for config, path in zip(configs, weights, strict=True)]
    return points(play_match(spec, players, [str(k) for k in range(len(players))]), 0)


class Run:
    """A run of a plan in a folder."""

    def __init__(self, plan: Plan, folder: Path, pool: ProcessPoolExecutor) -> None:
        self.plan, self.folder, self.pool = plan, folder, pool
        self.shards: list[list[Path]] = []
        self.played: list[tuple[int, int, float, float]] = []  # games, positions, entropy, seconds
        self.generations: list[Generation] = []
        self.results: list[tuple[str, str, float, int]] = []
        self.begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent so far, before an interruption too."""
        return time.monotonic() - self.begun

    def save(self) -> None:
        """Note the generations so far, so that another run goes on from here."""
        noted = {
            "plan": asdict(self.plan), "seconds": self.seconds, "results": self.results,
            "generations": [asdict(each) for each in self.generations],
            "shards": [[path.name for path in paths] for paths in self.shards], "played": self.played,
        }  # fmt: skip
        temporary = self.folder / "run.tmp"
        temporary.write_text(json.dumps(noted))
        temporary.rename(self.folder / "run.json")

    def restore(self) -> Path | None:
        """Go on from the folder's generations; returns the weights of the last one, None in a new folder."""
        noted = self.folder / "run.json"
        if not noted.exists():
            return None
        found = json.loads(noted.read_text())
        if found["plan"] != asdict(self.plan):
            raise SystemExit(f"{self.folder} holds a run of another plan; choose another --folder")
        self.begun -= found["seconds"]
        self.results = [(first, second, won, games) for first, second, won, games in found["results"]]
        self.played = [(games, positions, heat, spent) for games, positions, heat, spent in found["played"]]
        self.shards = [[self.folder / name for name in names] for names in found["shards"]]
        for each in found["generations"]:
            self.generations.append(Generation(**each | {"scores": [Score(**score) for score in each["scores"]]}))
        last = self.folder / f"generation-{len(self.generations) - 1}/model.safetensors"
        return last if self.generations else None

    def say(self, text: str) -> None:
        """Print with the minutes so far."""
        print(f"[{self.seconds / 60:5.1f} min] {self.plan.config} {text}", flush=True)

    def selfplay(self, number: int, weights: Path | None) -> None:
        """Play a generation's games."""
        plan, begun = self.plan, time.monotonic()
        games = plan.games if weights else plan.heuristic_games
        player = PlayerConfig("gumbel", plan.simulations) if weights else PlayerConfig("heuristic")
        tasks = []
        for part in range(plan.threads):
            spec = SelfplaySpec(
                board=plan.board, players=plan.players, player=player, player_key=f"generation-{number}",
                games=max(1, games // plan.threads), seed=plan.seed * 10_000 + number * 100 + part,
                simulations_fast=plan.simulations_fast, full_share=plan.full_share, batch_games=128,
            )  # fmt: skip
            tasks.append(self.pool.submit(selfplay_part, spec, self.folder, weights))
        parts = [task.result() for task in tasks]
        self.shards.append([path for part in parts for path in part[0]])
        positions = sum(part[2] for part in parts)
        entropy = sum(part[3] * part[2] for part in parts) / positions
        self.played.append((sum(part[1] for part in parts), positions, entropy, time.monotonic() - begun))
        self.save()

    def train(self, number: int, parent: Path | None) -> tuple[Path, Any]:
        """Train a generation's net on the window."""
        plan = self.plan
        out = self.folder / f"generation-{number}"
        out.mkdir(exist_ok=True)
        recent = self.shards[max(1, number - plan.window + 1) :] if number else self.shards
        spec = TrainSpec(
            board=plan.board, players=plan.players, steps=plan.steps if number else plan.heuristic_steps,
            seed=plan.seed + number, size=plan.size, checkpoint_steps=0,
            learning_rate=plan.learning_rate if number else 2 * plan.learning_rate,
        )  # fmt: skip
        torch.set_num_threads(plan.threads)
        done = train(spec, [path for shards in recent for path in shards], out, parent=parent)
        return Path(done.path), done

    def match(self, weights: Path, opponent: str, other: Path | None, games: int, simulations: int, seed: int) -> Score:
        """Play the net against an opponent, split over the processes."""
        plan = self.plan
        configs = (PlayerConfig("gumbel", simulations), PlayerConfig("gumbel" if other else opponent, simulations))
        sets = max(1, round(games / plan.players / plan.threads)) * plan.players
        tasks = []
        for part in range(plan.threads):
            spec = MatchSpec(
                board=plan.board, players=plan.players, games=sets, seed=seed * 100 + part, format="gauntlet"
            )
            tasks.append(self.pool.submit(match_part, spec, configs, (weights, other)))
        scores = [task.result() for task in tasks]
        return Score(opponent, sum(won for won, _ in scores), sum(count for _, count in scores))

    def generation(self, number: int, before: Path | None) -> Path:
        """Play, train and look; returns the weights."""
        plan = self.plan
        if len(self.played) == number:
            self.selfplay(number, before)
        games, positions, entropy, seconds = self.played[number]
        self.say(f"generation {number}: {games} games, {positions} positions, entropy {entropy:.2f}, {seconds:.0f} s")
        weights, done = self.train(number, before)
        losses = {
            "loss": done.loss, "policy": done.policy_loss, "value": done.value_loss, "heldout": done.heldout_loss,
        }  # fmt: skip
        self.say(f"generation {number}: {done.steps} steps, " + ", ".join(f"{k} {v:.3f}" for k, v in losses.items()))
        found = Generation(f"g{number}", done.model, games, positions, entropy, seconds, done.seconds, losses)
        opponents: list[tuple[str, Path | None]] = [("random", None), ("heuristic", None)]
        if before:
            opponents.append((f"g{number - 1}", before))
        for name, other in opponents:
            score = self.match(weights, name, other, plan.match_games, plan.match_simulations, 7 + number)
            found.scores.append(score)
            self.results.append((found.name, name, score.won, score.games))
        self.generations.append(found)
        ratings = elo(self.results, plan.players)
        for each in self.generations:
            each.elo = ratings[each.name]
        self.save()
        self.say(f"generation {number}: Elo {found.elo:.0f}, " + ", ".join(map(str, found.scores)))
        return weights

    def final(self, weights: Path) -> list[Score]:
        """Play the matches that count."""
        plan = self.plan
        scores = []
        for name in ("random", "heuristic"):
            scores.append(self.match(weights, name, None, plan.final_games, plan.final_simulations, 1001))
            self.say(f"final, {plan.final_simulations} simulations: {scores[-1]}")
        return scores


def run(plan: Plan, folder: Path) -> dict[str, Any]:
    """Carry out a plan; returns what was found."""
    with ProcessPoolExecutor(plan.threads, get_context("spawn"), initializer=one_thread) as pool:
        learning = Run(plan, folder, pool)
        weights = learning.restore()
        for number in range(len(learning.generations), plan.generations + 1):
            weights = learning.generation(number, weights)
        assert weights is not None
        final = learning.final(weights) if plan.final_games else []
    return {
        "plan": asdict(plan), "minutes": learning.seconds / 60,
        "elo": elo(learning.results, plan.players),
        "generations": [asdict(each) for each in learning.generations], "final": [asdict(each) for each in final],
        "weights": str(weights),
    }  # fmt: skip


def main() -> None:
    """Read the arguments, learn, write."""
    from benchmarks.learning_ablation import ablate, write
    from benchmarks.learning_picture import draw

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="square8-2p")
    parser.add_argument("--minutes", type=float, default=PLAN_MINUTES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--generations", type=int, default=Plan.generations)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="where weights and shards go")
    parser.add_argument("--ablation", action="store_true", help="compare searches over one generation instead")
    arguments = parser.parse_args()
    board, players = arguments.config.rsplit("-", 1)
    plan = Plan(
        board=board, players=int(players.removesuffix("p")), generations=arguments.generations,
        threads=arguments.threads, seed=arguments.seed,
    )  # fmt: skip
    plan = plan.scaled(arguments.minutes / PLAN_MINUTES)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="riftq-learning-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"weights and shards: {folder}", flush=True)
    begun = facts()
    if arguments.ablation:
        write(begun | ablate(plan, folder), RESULTS / f"learning-ablation-{plan.config}.json")
        return
    found = begun | run(plan, folder) | {"load_at_end": os.getloadavg()}
    del found["weights"]
    path = RESULTS / f"learning-{plan.config}.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    draw(found, path.with_suffix(".png"))
    print(f"wrote {path} and {path.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
