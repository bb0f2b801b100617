"""Players: one protocol for everything that can choose a move in many games at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from engine.nets.evaluator import Evaluator, NetEvaluator
from engine.nets.store import load
from engine.players.estimate import RolloutEvaluator
from engine.players.heuristic import WEIGHTS, score_rows
from engine.players.lookahead import flat_monte_carlo, max_n
from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.geometry import Geometry, Tables
from engine.rules.kernels import legal
from engine.search.gumbel import GumbelSearch
from engine.search.kept import VALUES

KINDS = ("random", "heuristic", "flat_mc", "alphabeta", "search", "mixed", "policy", "gumbel")
WITH_NET = ("policy", "gumbel")
SIMULATIONS = {"flat_mc": 16, "search": 32, "gumbel": 16}  # where none are named


class PlayerConfig(msgspec.Struct, frozen=True):
    """What decides, and how long it may think."""

    kind: str
    simulations: int = 0
    depth: int = 0
    temperature: float = 0.0
    mix: tuple[tuple[float, PlayerConfig], ...] = ()  # mixed: the share of decisions that each takes


class Player(Protocol):
    """Chooses a legal code for each of many positions; equal seeds and positions give equal choices."""

    def choose(self, data: Words, rows: Words, rng: np.random.Generator) -> Words:
        """Return a code for each position `data[rows]`, none of which is over [n]."""
        ...


@kernel
def legal_rows(data: Words, rows: Words, g: Tables, codes: Words, counts: Words) -> None:
    """Write the legal codes of chosen rows."""
    for k in range(len(rows)):
        counts[k] = legal(data[rows[k]], g, codes[k])


def legal_of(data: Words, rows: Words, where: Geometry) -> tuple[Words, Words]:
    """Return legal codes [n, max_legal] and counts [n]."""
    codes = np.zeros((len(rows), where.tables.max_legal), np.int32)
    counts = np.zeros(len(rows), np.int32)
    legal_rows(data, rows.astype(np.int32), where.tables, codes, counts)
    return codes, counts


def pick(scores: np.ndarray, counts: Words, temperature: float, rng: np.random.Generator) -> Words:
    """Return an index a row: the best score, ties by chance; with a temperature a draw from the softmax."""
    width = scores.shape[1]
    masked = np.where(np.arange(width)[None, :] < counts[:, None], scores, -np.inf)
    if temperature > 0:
        masked = masked / temperature + rng.gumbel(size=masked.shape)
    else:
        masked = masked + rng.random(masked.shape) * 1e-4
    chosen: Words = np.argmax(masked, axis=1).astype(np.int32)
    return chosen


class RandomPlayer:
    """Any legal move with equal chance."""

    def __init__(self, where: Geometry) -> None:
        self.where = where

    def choose(self, data: Words, rows: Words, rng: np.random.Generator) -> Words:
        """See Player."""
        codes, counts = legal_of(data, rows, self.where)
        chosen: Words = codes[np.arange(len(rows)), (rng.random(len(rows)) * counts).astype(np.int32)]
        return chosen


class HeuristicPlayer:
    """One decision ahead by hand-made features."""

    def __init__(self, where: Geometry, temperature: float = 0.0) -> None:
        self.where, self.temperature = where, temperature

    def scores(self, data: Words, rows: Words) -> tuple[Words, Words, np.ndarray]:
        """Return legal codes, counts and their scores."""
        codes, counts = legal_of(data, rows, self.where)
        codes = codes[:, : max(1, int(counts.max()))].copy()
        out = np.zeros(codes.shape, np.float32)
        score_rows(data, rows.astype(np.int32), self.where.tables, codes, counts, WEIGHTS, out)
        return codes, counts, out

    def choose(self, data: Words, rows: Words, rng: np.random.Generator) -> Words:
        """See Player."""
        codes, counts, scores = self.scores(data, rows)
        chosen: Words = codes[np.arange(len(rows)), pick(scores, counts, self.temperature, rng)]
        return chosen


class LookaheadPlayer:
    """Flat Monte-Carlo or max-n: one position at a time, compiled."""

    def __init__(self, where: Geometry, *, playouts: int = 0, depth: int = 0) -> None:
        self.where, self.playouts, self.depth = where, playouts, depth

    def choose(self, data: Words, rows: Words, rng: np.random.Generator) -> Words:
        """See Player."""
        seeds = rng.integers(0, 1 << 31, len(rows))
        g = self.where.tables
        if self.playouts:
            chosen = [
                flat_monte_carlo(data[row], g, self.playouts, int(seed)) for row, seed in zip(rows, seeds, strict=True)
            ]
        else:
            chosen = [
                max_n(data[row], g, self.depth, WEIGHTS, int(seed)) for row, seed in zip(rows, seeds, strict=True)
            ]
        return np.array(chosen, np.int32)


class PolicyPlayer:
    """The net's policy alone."""

    def __init__(self, evaluator: Evaluator, temperature: float = 0.0) -> None:
        self.evaluator, self.temperature = evaluator, temperature

    def choose(self, data: Words, rows: Words, rng: np.random.Generator) -> Words:
        """See Player."""
        codes, counts = legal_of(data, rows, self.evaluator.where)
        logits, _ = self.evaluator.evaluate(data, rows.astype(np.int32), codes, counts)
        chosen: Words = codes[np.arange(len(rows)), pick(logits, counts, self.temperature, rng)]
        return chosen


class GumbelPlayer:
    """Gumbel search without noise; with a temperature a draw from the improved policy.

    What a row's tree has evaluated is kept for the row's next position, which spares evaluations and changes no choice.
    With `keep` as `visits` a row's choices rest on what was asked of that row before, too.
    """

    def __init__(
        self, evaluator: Evaluator, simulations: int, temperature: float = 0.0, games: int = 64, keep: str = VALUES
    ) -> None:
        self.temperature = temperature
        self.simulations = simulations
        self.search = GumbelSearch(evaluator, games, simulations, keep=keep)

    def choose(self, data: Words, rows: Words, rng: np.random.Generator) -> Words:
        """See Player."""
        parts = [self._part(data, rows[k : k + self.search.games], rng) for k in range(0, len(rows), self.search.games)]
        chosen: Words = np.concatenate(parts)
        return chosen

    def _part(self, data: Words, rows: Words, rng: np.random.Generator) -> Words:
        slots = (rows % self.search.games).astype(np.int32)
        own = len(np.unique(slots)) == len(slots)  # with more games than slots two may want the same
        found = self.search.run(data, rows, self.simulations, None, slots if own else None)
        if self.temperature <= 0:
            return found.codes
        index = pick(np.log(found.policy + 1e-9), found.counts, self.temperature, rng)
        chosen: Words = found.legal[np.arange(len(rows)), index]
        return chosen


class MixedPlayer:
    """For every decision one of several players, by chance."""

    def __init__(self, parts: Sequence[tuple[float, Player]]) -> None:
        shares = np.array([share for share, _ in parts])
        if not len(parts) or (shares <= 0).any():
            raise ValueError("a mixed player needs players, each with a share above 0")
        self.shares, self.players = shares / shares.sum(), [player for _, player in parts]

    def choose(self, data: Words, rows: Words, rng: np.random.Generator) -> Words:
        """See Player."""
        who = rng.choice(len(self.players), size=len(rows), p=self.shares)
        chosen = np.zeros(len(rows), np.int32)
        for number, player in enumerate(self.players):
            mine = who == number
            if mine.any():
                chosen[mine] = player.choose(data, rows[mine], rng)
        return chosen


def make(config: PlayerConfig, where: Geometry, weights: Path | None = None, device: str = "cpu") -> Player:
    """Return a player; raises ValueError for a kind that does not exist or lacks what it needs."""
    if config.kind in WITH_NET:
        if weights is None:
            raise ValueError(f"a {config.kind} player needs the weights of a net")
        evaluator = NetEvaluator(load(weights, where)[0], where, device)
        if config.kind == "policy":
            return PolicyPlayer(evaluator, config.temperature)
        return GumbelPlayer(evaluator, config.simulations or SIMULATIONS["gumbel"], config.temperature)
    match config.kind:
        case "random":
            return RandomPlayer(where)
        case "heuristic":
            return HeuristicPlayer(where, config.temperature)
        case "flat_mc":
            return LookaheadPlayer(where, playouts=config.simulations or SIMULATIONS["flat_mc"])
        case "alphabeta":
            return LookaheadPlayer(where, depth=config.depth or 2)
        case "search":
            simulations = config.simulations or SIMULATIONS["search"]
            return GumbelPlayer(RolloutEvaluator(where), simulations, config.temperature)
        case "mixed":
            return MixedPlayer([(share, make(part, where, weights, device)) for share, part in config.mix])
        case _:
            raise ValueError(f"there is no player {config.kind!r}; choose one of {', '.join(KINDS)}")
