"""Self-play: many games side by side, written as shards while they finish.

Playout-cap randomisation (Wu 2019, §3.1): a share of the moves is searched with the full budget and becomes a training
target, the others are played with a small one. Openings start with a few random plies so that games differ. Games do
not wait for each other: each searches at its own pace, so that every evaluation serves as many games as are played.
A side that gives up has its game played to the end by the policy alone: every stored game ends by the rules.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.nets.batch import batch_for
from engine.nets.encoder import Floats
from engine.nets.evaluator import Evaluator, NetEvaluator
from engine.nets.store import load
from engine.players.player import HeuristicPlayer
from engine.rules import layout as lay
from engine.rules.batch import game_seeds
from engine.rules.cells import Words
from engine.rules.geometry import Geometry, geometry
from engine.rules.kernels import new_game, ranks
from engine.search.gumbel import Found, GumbelSearch
from engine.selfplay.games import FORCED_MAX, Running, advance, play_codes, write_shard
from engine.selfplay.spec import WITH_NET, SelfplaySpec, SelfplaySummary, ShardInfo, temperature_at

Progress = Callable[[dict[str, object]], None]
SIDE_BY_SIDE = 64  # games, where no number is given and there is no net to fill batches for
HEURISTIC_HEAT = 1.5  # of the soft policy target that heuristic scores make


class Selfplay:
    """One run."""

    def __init__(self, spec: SelfplaySpec, folder: Path, evaluator: Evaluator | None) -> None:
        self.spec, self.folder = spec, folder
        self.where: Geometry = geometry(spec.board, spec.players, spec.variant)
        self.slots = max(1, min(spec.batch_games or SIDE_BY_SIDE, spec.games))
        self.data: Words = np.zeros((self.slots, self.where.tables.state_words), np.int32)
        self.simulations = spec.player.simulations or 32
        self.search: GumbelSearch | None = None
        if spec.player.kind in WITH_NET:
            if evaluator is None:
                raise ValueError(f"{spec.player.kind} self-play needs the weights of a net")
            root = "puct" if spec.player.kind == "mcts" else "gumbel"
            most = max(self.simulations, spec.simulations_fast)
            self.search = GumbelSearch(evaluator, self.slots, most, root=root, keep=spec.keep)
        self.heuristic = HeuristicPlayer(self.where)
        self.seeds = game_seeds(spec.seed, spec.games)
        self.due = spec.games  # how many are to be started
        self.games: list[Running | None] = [None] * self.slots
        self.searching: NDArray[np.bool_] = np.zeros(self.slots, np.bool_)
        self.finished: list[Running] = []
        self.shards: list[ShardInfo] = []
        self.wins = [0] * spec.players
        self.started = self.plies = self.done = self.positions = 0
        self.resigned = self.controls = self.controls_wrong = 0
        self.entropy = 0.0

    # ---- one step of all games

    def step(self) -> bool:
        """Bring every game to its next decision and evaluate one position of each; returns whether any game runs."""
        rows = self._to_decisions()
        if self.started == self.due and not any(self.games):
            return False
        engines = np.array([self._engine(k) for k in rows.tolist()])
        by_heuristic = rows[engines == "heuristic"] if len(rows) else rows
        if len(by_heuristic):
            self._decide_by_heuristic(by_heuristic)
        by_search = rows[engines != "heuristic"] if len(rows) else rows
        if len(by_search):
            self._begin(by_search)
        if self.search is not None and self.searching.any():
            ended = self.search.step()
            if len(ended):
                self._end(ended, self.search.take(ended))
        return True

    def _game(self, slot: int) -> Running:
        game = self.games[slot]
        assert game is not None
        return game

    def _engine(self, slot: int) -> str:
        game = self._game(slot)
        return "policy" if game.resigned else game.engines[self.data[slot, lay.PLAYER] - 1]

    def _to_decisions(self) -> Words:
        """Start games, play forced moves and openings, end games; returns the slots at a decision of an engine."""
        at_decision: list[int] = []
        self._start(range(self.slots))
        rows = [k for k in range(self.slots) if self.games[k] is not None and not self.searching[k]]
        while rows:
            counts, codes = self._advance(np.array(rows, np.int32))
            again: list[int] = []
            chosen = np.full(self.slots, -1, np.int32)
            for j, k in enumerate(rows):
                game, n = self._game(k), int(counts[j])
                if n == 0:
                    self._finish(k)
                    again += self._start([k])
                elif n == 1 or len(game.codes) < game.opening:
                    chosen[k] = codes[j, int(game.rng.integers(0, n))]
                    again.append(k)
                else:
                    at_decision.append(k)
            self._apply(chosen)
            rows = again
        return np.array(sorted(at_decision), np.int32)

    def _start(self, slots: range | list[int]) -> list[int]:
        begun = []
        for slot in slots:
            if self.games[slot] is None and self.started < self.due:
                new_game(self.data[slot], self.where.tables)
                self.games[slot] = Running(self.spec, self.started, int(self.seeds[self.started]))
                self.started += 1
                begun.append(slot)
        return begun

    def _advance(self, rows: Words) -> tuple[Words, Words]:
        counts, played = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int32)
        codes = np.zeros((len(rows), self.where.tables.max_legal), np.int32)
        forced = np.zeros((len(rows), FORCED_MAX), np.int32)
        advance(self.data, rows, self.where.tables, codes, counts, forced, played)
        for j, slot in enumerate(rows.tolist()):
            self._game(slot).codes += forced[j, : played[j]].tolist()
        return counts, codes

    def _apply(self, chosen: Words) -> None:
        play_codes(self.data, self.where.tables, chosen)
        for slot in np.flatnonzero(chosen >= 0).tolist():
            self._game(slot).codes.append(int(chosen[slot]))

    # ---- decisions

    def _begin(self, rows: Words) -> None:
        """Begin a search in each slot; the policy alone is a search without simulations."""
        assert self.search is not None
        budgets = np.zeros(len(rows), np.int32)
        for j, slot in enumerate(rows.tolist()):
            game = self._game(slot)
            if self._engine(slot) == "policy":
                continue
            game.full = bool(game.rng.random() < self.spec.full_share)
            budgets[j] = self.simulations if game.full else self.spec.simulations_fast
        rngs = [self._game(slot).rng for slot in rows.tolist()]
        self.search.begin(rows, self.data, rows, budgets, rngs)
        self.searching[rows] = True

    def _end(self, rows: Words, found: Found) -> None:
        chosen = np.full(self.slots, -1, np.int32)
        for j, slot in enumerate(rows.tolist()):
            game, n = self._game(slot), int(found.counts[j])
            engine = self._engine(slot)
            probs, value = found.policy[j, :n], float(found.value[j])
            chosen[slot] = found.legal[j, self._draw(game, probs)]
            if game.resigned:
                continue
            if engine == "policy" and self.spec.player.kind == "policy":
                self._learn(game, found.legal[j, :n], probs, value)
            elif engine != "policy":
                if game.full:
                    self._learn(game, found.legal[j, :n], probs, value)
                if self.spec.resign_below:
                    self._resign(game, int(self.data[slot, lay.PLAYER]) - 1, value)
        self.searching[rows] = False
        self._apply(chosen)

    def _resign(self, game: Running, mover: int, value: float) -> None:
        if game.hopeless(self.spec, mover, value) and game.given_up < 0:
            game.given_up = game.loser
            game.resigned = not game.control

    def _decide_by_heuristic(self, rows: Words) -> None:
        codes, counts, scores = self.heuristic.scores(self.data, rows)
        chosen = np.full(self.slots, -1, np.int32)
        for j, slot in enumerate(rows.tolist()):
            game, n = self._game(slot), int(counts[j])
            heat = scores[j, :n] / HEURISTIC_HEAT
            probs = np.exp(heat - heat.max())
            probs = (probs / probs.sum()).astype(np.float32)
            chosen[slot] = codes[j, self._draw(game, probs)]
            if self.spec.player.kind == "heuristic":
                self._learn(game, codes[j, :n], probs, -1.0)
        self._apply(chosen)

    def _draw(self, game: Running, probs: Floats) -> int:
        """Return the place of the move to play, drawn at the temperature of this decision."""
        share = entropy_of(probs) / math.log(max(2, len(probs))) if self.spec.temperature == "entropy" else 0.0
        heat = max(temperature_at(self.spec, game.searched, share, game.number), 1e-3)
        game.searched += 1
        return int(np.argmax(np.log(probs + 1e-9) / heat + game.rng.gumbel(size=len(probs))))

    def _learn(self, game: Running, codes: Words, probs: Floats, value: float) -> None:
        game.learn(codes, probs, value, entropy_of(probs))

    # ---- ends

    def _finish(self, slot: int) -> None:
        game = self._game(slot)
        game.ranks = np.zeros(self.spec.players, np.int32)
        ranks(self.data[slot], game.ranks)
        self.finished.append(game)
        self.games[slot] = None
        if self.search is not None:
            self.search.forget(np.array([slot], np.int32))
        self.done += 1
        self.plies += len(game.codes)
        self.positions += len(game.targets)
        self.entropy += sum(target.entropy for target in game.targets)
        winner = int(self.data[slot, lay.WINNER])
        if winner:
            self.wins[winner - 1] += 1
        if game.resigned:
            self.resigned += 1
        elif game.given_up >= 0:
            self.controls += 1
            self.controls_wrong += winner == game.given_up + 1

    def flush(self) -> tuple[Path, ShardInfo] | None:
        """Write the finished games as a shard; returns it, None when no game has finished."""
        if not self.finished:
            return None
        games, self.finished = self.finished, []
        path, info = write_shard(self.spec, games, self.folder)
        resigned, controls, wrong = resignations(games)
        info = msgspec.structs.replace(info, resigned=resigned, controls=controls, controls_wrong=wrong)
        self.shards.append(info)
        return path, info

    def summary(self, seconds: float) -> SelfplaySummary:
        """Return what was played so far."""
        return SelfplaySummary(
            self.done, self.plies, self.positions, seconds, tuple(self.shards), tuple(self.wins),
            self.entropy / max(1, self.positions), self.resigned, self.controls, self.controls_wrong,
            self.search.evaluations if self.search else 0,
        )  # fmt: skip


def resignations(games: list[Running]) -> tuple[int, int, int]:
    """Count games that a side gave up, controls that it would have given up, and those of them that it won."""
    controls = [game for game in games if game.given_up >= 0 and not game.resigned]
    wrong = sum(int(game.ranks[game.given_up]) == 1 for game in controls)
    return sum(game.resigned for game in games), len(controls), wrong


def entropy_of(probs: Floats) -> float:
    """Return the entropy of a policy in nats."""
    return float(-(probs * np.log(probs + 1e-12)).sum())


def play(
    spec: SelfplaySpec,
    out_dir: Path,
    *,
    weights: Path | None = None,
    device: str = "cpu",
    batches: Path | None = None,
    progress: Progress = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_shard: Callable[[Path, ShardInfo], None] = lambda *_: None,
) -> SelfplaySummary:
    """Play until the games, the time or the patience are used up; every finished game is in a shard.

    Without a number of games side by side (`batch_games`) as many as the device is fast with, remembered in `batches`.
    """
    where = geometry(spec.board, spec.players, spec.variant)
    evaluator = NetEvaluator(load(weights, where)[0], where, device) if weights is not None else None
    if not spec.batch_games and evaluator is not None:
        found = batch_for(evaluator, batches)
        spec = msgspec.structs.replace(spec, batch_games=found.size)
    run = Selfplay(spec, out_dir, evaluator)
    begun = last_shard = last_word = time.monotonic()
    while run.step():
        now = time.monotonic()
        if now - last_word >= 0.5:
            last_word = now
            progress(_progress(run, now - begun))
        if now - last_shard >= spec.shard_seconds:
            last_shard = now
            _emit(run, on_shard)
        if should_stop() or (spec.max_seconds and now - begun >= spec.max_seconds):
            break
    _emit(run, on_shard)
    seconds = time.monotonic() - begun
    progress(_progress(run, seconds))
    return run.summary(seconds)


def _emit(run: Selfplay, on_shard: Callable[[Path, ShardInfo], None]) -> None:
    written = run.flush()
    if written:
        on_shard(*written)


def _progress(run: Selfplay, seconds: float) -> dict[str, object]:
    rate = run.done / seconds if seconds > 0 else 0.0
    return {
        "done": run.done,
        "total": run.spec.games,
        "games_s": round(rate, 2),
        "positions": run.positions,
        "left_s": round((run.spec.games - run.done) / rate) if rate else None,
    }
