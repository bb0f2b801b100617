"""Self-play: many games side by side, written as shards while they finish.

Playout-cap randomisation (Wu 2019, §3.1): a share of the moves is searched with the full budget and becomes a training
target, the others are played with a small one. Openings start with a few random plies so that games differ.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from engine.data.shards import FORMAT, TARGETS_MAX, Shard, ShardMeta
from engine.nets.encoder import Floats
from engine.nets.evaluator import NetEvaluator
from engine.nets.store import load
from engine.players.player import HeuristicPlayer, PlayerConfig, legal_of, pick
from engine.rules import RULES_VERSION
from engine.rules import layout as lay
from engine.rules.batch import GameBatch, game_seeds
from engine.rules.cells import Words
from engine.rules.geometry import Geometry, geometry
from engine.rules.kernels import new_game, ranks
from engine.search.gumbel import GumbelSearch

Progress = Callable[[dict[str, object]], None]
HEURISTIC_HEAT = 1.5  # of the soft policy target that heuristic scores make
TEMPERATURES = ("constant", "step", "linear", "cosine", "entropy")


class SelfplaySpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to play."""

    board: str
    players: int
    player: PlayerConfig
    player_key: str
    games: int
    seed: int
    variant: str = "spec"
    max_seconds: float = 0.0
    simulations_fast: int = 8
    full_share: float = 0.25
    temperature: str = "linear"
    temperature_start: float = 1.0
    temperature_end: float = 0.25
    temperature_plies: int = 40
    opening_plies: int = 4
    shard_seconds: float = 120.0
    batch_games: int = 64
    node: str = ""
    job: str = ""


class ShardInfo(msgspec.Struct, frozen=True):
    """A shard that was written."""

    sha256: str
    size_bytes: int
    games: int
    positions: int
    plies: int
    wins: tuple[int, ...]  # by seat
    policy_entropy: float  # nats, mean over the targets


class SelfplaySummary(msgspec.Struct, frozen=True):
    """What was played."""

    games: int
    plies: int
    positions: int
    seconds: float
    shards: tuple[ShardInfo, ...]
    wins: tuple[int, ...]  # by seat
    policy_entropy: float  # nats, mean over the targets


class Target(msgspec.Struct):
    """A decision that training learns from."""

    ply: int
    codes: Words
    probs: Floats
    value: float
    entropy: float


class Running:
    """A game being played."""

    __slots__ = ("codes", "number", "opening", "searched", "targets")

    def __init__(self, number: int, opening: int) -> None:
        self.number, self.opening = number, opening
        self.codes: list[int] = []
        self.targets: list[Target] = []
        self.searched = 0


def temperature_at(spec: SelfplaySpec, decision: int, entropy: float) -> float:
    """Return the temperature of a game's n-th decision; `entropy` of its policy is a share of that of a uniform one."""
    start, end = spec.temperature_start, spec.temperature_end
    done = min(1.0, decision / max(1, spec.temperature_plies))
    match spec.temperature:
        case "constant":
            return start
        case "step":
            return start if done < 1.0 else end
        case "cosine":
            return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
        case "entropy":
            return end + (start - end) * (1 - entropy)
        case _:
            return start + (end - start) * done


class Selfplay:
    """One run."""

    def __init__(self, spec: SelfplaySpec, folder: Path, weights: Path | None, device: str = "cpu") -> None:
        if spec.temperature not in TEMPERATURES:
            raise ValueError(f"temperature schedule {spec.temperature!r}: choose one of {', '.join(TEMPERATURES)}")
        self.spec, self.folder = spec, folder
        self.where: Geometry = geometry(spec.board, spec.players, spec.variant)
        self.rng = np.random.default_rng(np.random.SeedSequence([spec.seed, spec.players]))
        self.slots = max(1, min(spec.batch_games, spec.games))
        self.batch = GameBatch(self.where, self.slots)
        self.search: GumbelSearch | None = None
        if spec.player.kind == "gumbel":
            if weights is None:
                raise ValueError("gumbel self-play needs the weights of a net")
            evaluator = NetEvaluator(load(weights, self.where)[0], self.where, device)
            full = max(spec.player.simulations or 32, spec.simulations_fast)
            self.search = GumbelSearch(evaluator, self.slots, full)
        elif spec.player.kind != "heuristic":
            raise ValueError(f"self-play is made by gumbel or heuristic players, not {spec.player.kind!r}")
        self.heuristic = HeuristicPlayer(self.where)
        self.started = 0
        self.games: list[Running | None] = [None] * self.slots
        self.finished: list[tuple[Running, Words]] = []
        self.shards: list[ShardInfo] = []
        self.wins = [0] * spec.players
        self.plies = self.done = self.positions = 0
        self.entropy = 0.0

    # ---- one step of all games

    def _start(self) -> None:
        for slot in range(self.slots):
            if self.games[slot] is None and self.started < self.spec.games:
                new_game(self.batch.data[slot], self.where.tables)
                opening = int(self.rng.integers(0, self.spec.opening_plies + 1))
                self.games[slot] = Running(self.started, opening)
                self.started += 1

    def step(self) -> bool:
        """Play one ply in every running game; returns whether any runs."""
        self._start()
        rows = np.array([k for k, game in enumerate(self.games) if game is not None], np.int32)
        if not len(rows):
            return False
        codes, counts = legal_of(self.batch.data, rows, self.where)
        chosen = np.full(self.slots, -1, np.int32)
        forced = counts == 1
        chosen[rows[forced]] = codes[forced, 0]
        opening = np.array([len(self._game(k).codes) < self._game(k).opening for k in rows]) & ~forced
        draws = (self.rng.random(len(rows)) * counts).astype(np.int32)
        chosen[rows[opening]] = codes[opening, draws[opening]]
        open_rows = rows[~forced & ~opening]
        if len(open_rows):
            self._decide(open_rows, chosen)
        self.batch.apply(chosen)
        for k in rows:
            self._game(k).codes.append(int(chosen[k]))
        self._finish(rows)
        return True

    def _game(self, slot: int) -> Running:
        game = self.games[slot]
        assert game is not None
        return game

    def _decide(self, rows: Words, chosen: Words) -> None:
        if self.search is None:
            self._decide_by_heuristic(rows, chosen)
            return
        full = self.rng.random(len(rows)) < self.spec.full_share
        for is_full in (True, False):
            part = rows[full == is_full]
            if len(part):
                self._decide_by_search(part, chosen, full=is_full)

    def _decide_by_search(self, rows: Words, chosen: Words, *, full: bool) -> None:
        assert self.search is not None
        simulations = (self.spec.player.simulations or 32) if full else self.spec.simulations_fast
        found = self.search.run(self.batch.data, rows, simulations, self.rng)
        for j, slot in enumerate(rows):
            game, n = self._game(slot), int(found.counts[j])
            probs = found.policy[j, :n]
            entropy = float(-(probs * np.log(probs + 1e-12)).sum())
            heat = temperature_at(self.spec, game.searched, entropy / math.log(max(2, n)))
            game.searched += 1
            index = pick(np.log(probs[None, :] + 1e-9), np.array([n]), max(heat, 1e-3), self.rng)[0]
            chosen[slot] = found.legal[j, index]
            if full:
                self._learn(game, found.legal[j, :n], probs, float(found.value[j]), entropy)

    def _decide_by_heuristic(self, rows: Words, chosen: Words) -> None:
        codes, counts, scores = self.heuristic.scores(self.batch.data, rows)
        for j, slot in enumerate(rows):
            n = int(counts[j])
            heat = scores[j, :n] / HEURISTIC_HEAT
            probs = np.exp(heat - heat.max())
            probs /= probs.sum()
            game = self._game(slot)
            warm = temperature_at(self.spec, game.searched, 0.0)
            game.searched += 1
            index = pick(np.log(probs[None, :] + 1e-9), np.array([n]), max(warm, 1e-3), self.rng)[0]
            chosen[slot] = codes[j, index]
            entropy = float(-(probs * np.log(probs + 1e-12)).sum())
            self._learn(game, codes[j, :n], probs.astype(np.float32), -1.0, entropy)

    def _learn(self, game: Running, codes: Words, probs: Floats, value: float, entropy: float) -> None:
        order = np.argsort(-probs, kind="stable")[:TARGETS_MAX]
        kept = probs[order] / probs[order].sum()
        game.targets.append(Target(len(game.codes), codes[order].copy(), kept, value, entropy))
        self.entropy += entropy

    def _finish(self, rows: Words) -> None:
        for slot in rows[self.batch.over[rows]]:
            game = self._game(slot)
            found = np.zeros(self.spec.players, np.int32)
            ranks(self.batch.data[slot], found)
            self.finished.append((game, found))
            self.games[slot] = None
            self.done += 1
            self.plies += len(game.codes)
            self.positions += len(game.targets)
            winner = int(self.batch.data[slot, lay.WINNER])
            if winner:
                self.wins[winner - 1] += 1

    # ---- shards

    def flush(self) -> tuple[Path, ShardInfo] | None:
        """Write the finished games as a shard; returns it, None when no game has finished."""
        if not self.finished:
            return None
        games, self.finished = self.finished, []
        targets = [target for game, _ in games for target in game.targets]
        starts = np.cumsum([0, *(len(game.codes) for game, _ in games)])[:-1]
        meta = ShardMeta(
            FORMAT, self.spec.board, self.spec.players, self.spec.variant, RULES_VERSION, self.spec.player_key,
            len(games), len(targets), self.spec.node, self.spec.job, self.spec.seed,
        )  # fmt: skip
        shard = Shard(
            meta,
            np.array([len(game.codes) for game, _ in games], np.int32),
            np.concatenate([np.array(game.codes, np.int32) for game, _ in games]),
            np.stack([found for _, found in games]).astype(np.int8),
            np.array(
                [start + t.ply for (game, _), start in zip(games, starts, strict=True) for t in game.targets], np.int64
            ),
            np.array([len(t.codes) for t in targets], np.int32),
            np.concatenate([np.zeros(0, np.int32), *(t.codes for t in targets)]),
            np.concatenate([np.zeros(0), *(t.probs for t in targets)]).astype(np.float16),
            np.array([t.value for t in targets], np.float16),
            game_seeds(self.spec.seed, self.spec.games)[[game.number for game, _ in games]],
        )
        path, name = shard.save(self.folder)
        firsts = shard.ranks == 1
        info = ShardInfo(
            name, path.stat().st_size, len(games), len(targets), int(shard.plies.sum()),
            tuple(int(n) for n in firsts.sum(0)), sum(t.entropy for t in targets) / max(1, len(targets)),
        )  # fmt: skip
        self.shards.append(info)
        return path, info


def play(
    spec: SelfplaySpec,
    out_dir: Path,
    *,
    weights: Path | None = None,
    device: str = "cpu",
    progress: Progress = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_shard: Callable[[Path, ShardInfo], None] = lambda *_: None,
) -> SelfplaySummary:
    """Play until the games, the time or the patience are used up; every finished game is in a shard."""
    run = Selfplay(spec, out_dir, weights, device)
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
    return SelfplaySummary(
        run.done, run.plies, run.positions, seconds, tuple(run.shards), tuple(run.wins),
        run.entropy / max(1, run.positions),
    )  # fmt: skip


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
