"""Plays recorded games again: the same player, settings and seed must come to the same decisions.

Every chance of a game comes from its own seed, and how many are drawn follows from the position alone. So each decision
can be made anew at the recorded position, with the chances that it had, whatever the other decisions are. Another
device or batch rounds otherwise, which moves a few decisions; another net, budget or engine moves most of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from engine.data.shards import Shard
from engine.nets.encoder import Floats
from engine.nets.evaluator import Evaluator, NetEvaluator
from engine.nets.store import load
from engine.rules.batch import game_seeds
from engine.rules.cells import Words
from engine.rules.geometry import geometry
from engine.rules.kernels import new_game
from engine.selfplay.games import Running, Target
from engine.selfplay.run import Progress, Selfplay
from engine.selfplay.spec import SelfplaySpec

DISTANCE_MAX = 0.1  # between a recorded policy and the one found again, in total variation


class Agreement(msgspec.Struct, frozen=True):
    """How far recorded games are those of their seeds; `detail` names what rounding cannot explain."""

    decisions: int = 0
    agreed: int = 0  # same move, and where a target is due a like policy
    detail: str = ""


class Again(Selfplay):
    """A run that makes every decision of recorded games, and plays what is recorded."""

    def __init__(self, spec: SelfplaySpec, shard: Shard, games: Sequence[int], evaluator: Evaluator | None) -> None:
        super().__init__(msgspec.structs.replace(spec, batch_games=len(games)), Path(), evaluator)
        self.due = len(games)
        numbers = {int(seed): number for number, seed in enumerate(self.seeds)}
        ends = np.cumsum(shard.plies)
        starts = ends - shard.plies
        self.recorded = [shard.codes[starts[game] : ends[game]] for game in games]
        self.targets = [targets_of(shard, int(starts[game]), int(ends[game])) for game in games]
        self.numbers = [numbers[int(shard.seeds[game])] for game in games]
        self.agrees: list[dict[int, bool]] = [{} for _ in games]  # ply of a decision -> same move
        self.detail = ""

    def _start(self, slots: range | list[int]) -> list[int]:
        begun = []
        for slot in slots:
            if slot == self.started < self.due:
                number = self.numbers[slot]
                new_game(self.data[slot], self.where.tables)
                self.games[slot] = Running(self.spec, number, int(self.seeds[number]))
                self.started += 1
                begun.append(slot)
        return begun

    def _apply(self, chosen: Words) -> None:
        recorded = np.full(self.slots, -1, np.int32)
        for slot in np.flatnonzero(chosen >= 0).tolist():
            game = self._game(slot)
            ply = len(game.codes)
            recorded[slot] = self.recorded[slot][ply]
            same = bool(recorded[slot] == chosen[slot])
            if ply >= game.opening:
                self.agrees[slot][ply] = same
            elif not same:
                self.detail = f"the opening of game {game.number} is not that of its seed"
        super()._apply(recorded)

    def _finish(self, slot: int) -> None:
        """Hold the policies that are due against the recorded ones."""
        agrees, recorded = self.agrees[slot], self.targets[slot]
        found = {target.ply: target for target in self._game(slot).targets}
        for ply in found.keys() | recorded.keys():
            alike = ply in found and ply in recorded and distance(found[ply], *recorded[ply]) <= DISTANCE_MAX
            agrees[ply] = alike and agrees.get(ply, False)
        super()._finish(slot)

    def agreement(self) -> Agreement:
        """Return what was found so far."""
        found = [same for agrees in self.agrees for same in agrees.values()]
        return Agreement(len(found), sum(found), self.detail)


def targets_of(shard: Shard, start: int, end: int) -> dict[int, tuple[Words, Floats]]:
    """Return the recorded policies of the game in `codes[start:end]` by ply: codes and their shares."""
    ends = np.cumsum(shard.targets_count)
    of_game = np.flatnonzero((shard.targets_ply >= start) & (shard.targets_ply < end))
    found = {}
    for k in of_game.tolist():
        entries = slice(int(ends[k] - shard.targets_count[k]), int(ends[k]))
        probs = shard.targets_prob[entries].astype(np.float32)
        found[int(shard.targets_ply[k]) - start] = (shard.targets_code[entries], probs)
    return found


def distance(target: Target, codes: Words, probs: Floats) -> float:
    """Return the total variation between a policy and a recorded one."""
    mine = dict(zip(target.codes.tolist(), target.probs.tolist(), strict=True))
    theirs = dict(zip(codes.tolist(), probs.tolist(), strict=True))
    return sum(abs(float(mine.get(code, 0.0) - theirs.get(code, 0.0))) for code in mine.keys() | theirs.keys()) / 2


def agreement(
    spec: SelfplaySpec,
    shard: Shard,
    games: Sequence[int],
    *,
    weights: Path | None = None,
    device: str = "cpu",
    progress: Progress = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Agreement:
    """Play games of a shard again, whose moves follow the rules; `spec` says how they should have been played."""
    known = {int(seed) for seed in game_seeds(spec.seed, spec.games)}
    seeds = [int(seed) for seed in shard.seeds]
    if not known.issuperset(seeds) or len(set(seeds)) < len(seeds):
        return Agreement(detail="its games are not those of the seeds that were asked for, each once")
    where = geometry(spec.board, spec.players, spec.variant)
    evaluator = NetEvaluator(load(weights, where)[0], where, device) if weights is not None else None
    run = Again(spec, shard, games, evaluator)
    last_word = time.monotonic()
    while run.step() and not should_stop():
        if time.monotonic() - last_word >= 0.5:
            last_word = time.monotonic()
            progress({"decisions": run.agreement().decisions})
    return run.agreement()
