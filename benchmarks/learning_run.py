"""A run of learning: generations of self-play, training and matches in a folder, where it goes on when it was cut."""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.facts import facts
from benchmarks.learning_play import (
    ANCHORS,
    Games,
    Played,
    Result,
    Score,
    match_part,
    one_thread,
    rate,
    ratings,
    selfplay_part,
    steps,
    summed,
    timed,
    train_part,
)
from engine.nets.net import Net, parse_size
from engine.nets.store import Manifest, save
from engine.players.player import PlayerConfig
from engine.rules.geometry import geometry
from engine.selfplay import SelfplaySpec
from engine.tournament.play import MatchSpec
from engine.training.train import TrainSpec

ALIVE_S = 5.0


@dataclass(frozen=True)
class Plan:
    """What to do; counts of games are of all processes together."""

    board: str = "square8"
    players: int = 2
    size: str = "32x4"
    generations: int = 6
    heuristic_games: int = 0  # from which the first generation learns; 0 = its own
    games: int = 3000  # of a generation, on average: from half of that in the first to one and a half in the last
    steps: int = 600  # likewise
    window: int = 3  # generations of games that a training sees
    simulations: int = 32
    simulations_fast: int = 8
    full_share: float = 0.25
    learning_rate: float = 4e-3
    precision: str = "bfloat16"
    match_games: int = 300  # against the predecessor; half of that against the one before and the heuristic
    match_simulations: int = 16
    final_games: int = 400
    final_simulations: int = 32
    seed: int = 1
    threads: int = 4

    @property
    def config(self) -> str:
        """Name of board and player count."""
        return f"{self.board}-{self.players}p"

    def share(self, number: int) -> float:
        """Return a generation's part of the average one: a weak player's games soon have nothing more to teach."""
        return 0.5 + (number - 1) / (self.generations - 1) if self.generations > 1 else 1.0

    def scaled(self, factor: float) -> Plan:
        """Return the plan with more or fewer games and steps to learn from; the matches stay."""
        counts = ("heuristic_games", "games", "steps")
        return replace(self, **{name: round(getattr(self, name) * factor) for name in counts})


@dataclass
class Generation:
    """A net, what it learnt from and how it did."""

    name: str
    model: str
    games: int = 0
    positions: int = 0
    entropy: float = 0.0
    selfplay_s: float = 0.0
    selfplay_cpu_s: float = 0.0
    train_s: float = 0.0
    train_cpu_s: float = 0.0
    match_s: float = 0.0
    match_cpu_s: float = 0.0
    minutes: float = 0.0  # of the run when it was made
    losses: dict[str, float] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)


class Run:
    """A run of a plan in a folder."""

    def __init__(self, plan: Plan, folder: Path, pool: ProcessPoolExecutor) -> None:
        self.plan, self.folder, self.pool = plan, folder, pool
        self.played: list[Games] = []  # of each generation, the untrained one's being none
        self.generations: list[Generation] = []
        self.results: list[Result] = []
        self.sessions: list[dict[str, Any]] = [facts()]
        self.lost_s = self.pool_cpu_s = 0.0
        self.begun, self.begun_cpu = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        """Wall time spent so far; in earlier sessions too, with what was lost when they were cut."""
        return time.monotonic() - self.begun

    @property
    def cpu_s(self) -> float:
        """Processor time so far, without what an interruption threw away."""
        return time.process_time() - self.begun_cpu + self.pool_cpu_s

    # ---- where an interrupted run goes on

    def save(self) -> None:
        """Note what is done, so that another run goes on from here."""
        noted = {
            "plan": asdict(self.plan), "seconds": self.seconds, "cpu_s": self.cpu_s, "lost_s": self.lost_s,
            "saved": time.time_ns(), "sessions": self.sessions, "results": [asdict(each) for each in self.results],
            "generations": [asdict(each) for each in self.generations],
            "played": [asdict(each) for each in self.played],
        }  # fmt: skip
        temporary = self.folder / "run.tmp"
        temporary.write_text(json.dumps(noted))
        temporary.rename(self.folder / "run.json")

    def restore(self) -> None:
        """Go on from the folder's generations; what ran after the last of them counts as time lost."""
        noted = self.folder / "run.json"
        if not noted.exists():
            return
        found = json.loads(noted.read_text())
        if found["plan"] != asdict(self.plan):
            raise SystemExit(f"{self.folder} holds a run of another plan; choose another --folder")
        alive = self.folder / "alive"
        lost = max(0, alive.stat().st_mtime_ns - found["saved"]) / 1e9 if alive.exists() else 0.0
        self.lost_s = found["lost_s"] + lost
        self.begun -= found["seconds"] + lost
        self.pool_cpu_s = found["cpu_s"]
        self.sessions = [*found["sessions"], *self.sessions]
        self.results = [Result(tuple(e["seats"]), tuple(e["ranks"]), e["games"]) for e in found["results"]]
        self.played = [Games(**each) for each in found["played"]]
        for each in found["generations"]:
            self.generations.append(Generation(**each | {"scores": [Score(**score) for score in each["scores"]]}))

    def weights(self, number: int) -> Path:
        """Return where a generation's weights are."""
        return self.folder / f"generation-{number}" / "model.safetensors"

    def say(self, text: str) -> None:
        """Print with the minutes so far."""
        print(f"[{self.seconds / 60:5.1f} min] {self.plan.config} {text}", flush=True)

    def gather(self, tasks: list[Future[Any]]) -> tuple[list[Any], float]:
        """Return what the processes found and their processor time, showing meanwhile that the run is alive."""
        while wait(tasks, ALIVE_S).not_done:
            self.alive()
        found = [task.result() for task in tasks]
        cpu_s = sum(each for _, each in found)
        self.pool_cpu_s += cpu_s
        return [each for each, _ in found], cpu_s

    def alive(self) -> None:
        """Show that the run is alive."""
        (self.folder / "alive").touch()

    # ---- a generation

    def untrained(self) -> None:
        """Make generation 0, the net that knows nothing."""
        plan, out = self.plan, self.weights(0).parent
        out.mkdir(exist_ok=True)
        torch.manual_seed(plan.seed)
        net = Net(geometry(plan.board, plan.players), *parse_size(plan.size))
        _, model = save(net, Manifest(plan.board, plan.players, plan.size), out)
        self.generations, self.played = [Generation("g0", model)], [Games()]

    def selfplay(self, number: int, weights: Path | None) -> Games:
        """Play a generation's games, the heuristic's without weights."""
        plan, begun = self.plan, time.monotonic()
        games = round(plan.games * plan.share(number)) if weights else plan.heuristic_games
        player = PlayerConfig("gumbel", plan.simulations) if weights else PlayerConfig("heuristic")
        tasks: list[Future[Any]] = []
        for part in range(plan.threads):
            spec = SelfplaySpec(
                board=plan.board, players=plan.players, player=player, player_key=f"generation-{number - 1}",
                games=max(1, games // plan.threads), seed=plan.seed * 10_000 + number * 100 + part,
                simulations_fast=plan.simulations_fast, full_share=plan.full_share, batch_games=128,
            )  # fmt: skip
            tasks.append(self.pool.submit(timed, selfplay_part, spec, self.folder, weights))
        parts, cpu_s = self.gather(tasks)
        positions = sum(part.positions for part in parts)
        return Games(
            [name for part in parts for name in part.shards], sum(part.games for part in parts), positions,
            sum(part.entropy * part.positions for part in parts) / max(1, positions), time.monotonic() - begun, cpu_s,
        )  # fmt: skip

    def train(self, number: int) -> Future[Any]:
        """Begin to train a generation's net on the window, in one process.

        Threads of one training wait for each other at every layer, which costs more than they bring as soon as anything
        else runs; the other processes rate the parent meanwhile.
        """
        plan, out = self.plan, self.weights(number).parent
        out.mkdir(exist_ok=True)
        shards = [self.folder / name for games in self.played[-plan.window :] for name in games.shards]
        spec = TrainSpec(
            board=plan.board, players=plan.players, steps=round(plan.steps * plan.share(number)), size=plan.size,
            seed=plan.seed + number, checkpoint_steps=0, learning_rate=plan.learning_rate, precision=plan.precision,
        )  # fmt: skip
        return self.pool.submit(timed, train_part, spec, shards, out, self.weights(number - 1))

    def match(self, number: int, other: str, games: int, simulations: int, seed: int) -> Played:
        """Play a generation against an anchor or an earlier one, split over the processes that do not train."""
        plan, processes = self.plan, max(1, self.plan.threads - 1)
        theirs = None if other in ANCHORS else self.weights(int(other.removeprefix("g")))
        configs = (PlayerConfig("gumbel", simulations), PlayerConfig("gumbel" if theirs else other, simulations))
        sets = math.ceil(games / plan.players / processes) * plan.players
        tasks: list[Future[Any]] = []
        for part in range(processes):
            spec = MatchSpec(
                board=plan.board, players=plan.players, games=sets, seed=seed * 100 + part, format="gauntlet"
            )
            weights, names = (self.weights(number), theirs), (f"g{number}", other)
            tasks.append(self.pool.submit(timed, match_part, spec, configs, weights, names))
        parts, cpu_s = self.gather(tasks)
        score = Score(other, sum(won for won, _, _ in parts), sum(count for _, count, _ in parts))
        return Played(score, [result for _, _, results in parts for result in results], cpu_s)

    def learn(self, number: int, *, rate_parent: bool = True) -> None:
        """Make a generation: games, then training, and matches of its parent meanwhile."""
        by_heuristic = number == 1 and self.plan.heuristic_games
        if len(self.played) == number:
            self.played.append(self.selfplay(number, None if by_heuristic else self.weights(number - 1)))
            self.save()
        games = self.played[number]
        self.say(
            f"generation {number}: {games.games} games of {'the heuristic' if by_heuristic else f'g{number - 1}'}, "
            f"{games.positions} positions, entropy {games.entropy:.2f}, {games.seconds:.0f} s"
        )
        training = self.train(number)
        if rate_parent:
            self.rate(number - 1)
        (done,), cpu_s = self.gather([training])
        losses = {
            "loss": done.loss, "policy": done.policy_loss, "value": done.value_loss, "heldout": done.heldout_loss,
        }  # fmt: skip
        self.say(
            f"generation {number}: {done.steps} steps, {done.seconds:.0f} s, "
            + ", ".join(f"{k} {v:.3f}" for k, v in losses.items())
        )
        self.generations.append(
            Generation(
                f"g{number}", done.model, games.games, games.positions, games.entropy, games.seconds, games.cpu_s,
                done.seconds, cpu_s, minutes=self.seconds / 60, losses=losses,
            )
        )  # fmt: skip
        self.save()

    def rate(self, number: int) -> None:
        """Let a generation meet its opponents, if it has not."""
        found = self.generations[number]
        if found.scores:
            return
        begun = time.monotonic()
        for other, games in self.opponents(number):
            played = self.match(number, other, games, self.plan.match_simulations, 7 + number)
            found.scores.append(played.score)
            self.results += played.results
            found.match_cpu_s += played.cpu_s
        found.match_s = time.monotonic() - begun
        self.save()
        elo = ratings(rate(self.plan.config, self.results))[found.name]["elo"]
        self.say(f"generation {number}: Elo {elo:.0f}, " + ", ".join(map(str, found.scores)))

    def opponents(self, number: int) -> list[tuple[str, int]]:
        """Return whom a generation meets and how often."""
        games = self.plan.match_games
        earlier = [(f"g{number - back}", games // back) for back in (1, 2) if number >= back]
        return [("random", games // 4), ("heuristic", games // 2), *earlier]

    def final(self) -> list[Score]:
        """Play the matches that count."""
        plan, last, scores = self.plan, len(self.generations) - 1, []
        for name in ANCHORS:
            played = self.match(last, name, plan.final_games, plan.final_simulations, 1001)
            scores.append(played.score)
            self.say(f"final, {plan.final_simulations} simulations: {played.score}")
        return scores


def run(plan: Plan, folder: Path) -> dict[str, Any]:
    """Carry out a plan; returns what was found."""
    with ProcessPoolExecutor(plan.threads, get_context("spawn"), initializer=one_thread) as pool:
        learning = Run(plan, folder, pool)
        learning.restore()
        if not learning.generations:
            learning.untrained()
        for number in range(len(learning.generations), plan.generations + 1):
            learning.learn(number)
        learning.rate(plan.generations)
        final = learning.final() if plan.final_games else []
    fitted = rate(plan.config, learning.results)
    return {
        "plan": asdict(plan), "minutes": learning.seconds / 60, "minutes_lost": learning.lost_s / 60,
        "cpu_minutes": learning.cpu_s / 60, "sessions": learning.sessions, "elo": ratings(fitted),
        "steps": steps(fitted, [each.name for each in learning.generations]),
        "generations": [asdict(each) for each in learning.generations], "final": [asdict(each) for each in final],
        "results": [asdict(each) for each in summed(learning.results)],
    }  # fmt: skip
