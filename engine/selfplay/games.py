"""A game in progress, and the shard that finished games become."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from engine.data.shards import FORMAT, TARGETS_MAX, Shard, ShardMeta
from engine.nets.encoder import Floats
from engine.rules import RULES_VERSION
from engine.rules import layout as lay
from engine.rules.batch import game_seeds
from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.geometry import Tables
from engine.rules.kernels import apply, legal
from engine.selfplay.spec import SelfplaySpec, ShardInfo

FORCED_MAX = 256  # forced moves that one call plays; more are played by the next call


class Target(msgspec.Struct):
    """A decision that training learns from."""

    ply: int
    codes: Words
    probs: Floats
    value: float
    entropy: float


class Running:
    """A game being played; all its chances come from its own seed."""

    __slots__ = (
        "agreed", "codes", "control", "engines", "full", "given_up", "loser", "number", "opening", "ranks", "resigned",
        "rng", "searched", "targets",
    )  # fmt: skip

    def __init__(self, spec: SelfplaySpec, number: int, seed: int) -> None:
        self.number = number
        self.rng = np.random.default_rng(seed)
        self.opening = int(self.rng.integers(0, spec.opening_plies + 1))
        self.engines = engines_of(spec, self.rng)
        self.control = bool(self.rng.random() < spec.control_share)
        self.codes: list[int] = []
        self.targets: list[Target] = []
        self.ranks: Words = np.zeros(0, np.int32)
        self.searched = 0
        self.full = False
        self.given_up = -1  # seat that gave up, or in a control game would have
        self.resigned = False  # the policy alone plays it to its end
        self.agreed, self.loser = 0, -1  # how many searches in a row called this seat lost

    def learn(self, codes: Words, probs: Floats, value: float, entropy: float) -> None:
        """Keep a decision as a target: its likeliest moves."""
        order = np.argsort(-probs, kind="stable")[:TARGETS_MAX]
        kept = probs[order] / probs[order].sum()
        self.targets.append(Target(len(self.codes), codes[order].copy(), kept, value, entropy))

    def hopeless(self, spec: SelfplaySpec, mover: int, value: float) -> bool:
        """Note a searched value; returns whether a side has now been lost for long enough to give up.

        With two players a search says who loses whoever moves; with more only that the player to move has won.
        """
        loser = -1
        if value <= spec.resign_below and spec.players == 2:
            loser = mover
        elif value >= 1 - spec.resign_below:
            loser = (mover + 1) % spec.players
        self.agreed = self.agreed + 1 if loser == self.loser else 1
        self.loser = loser
        return loser >= 0 and self.agreed >= spec.resign_run


def engines_of(spec: SelfplaySpec, rng: np.random.Generator) -> tuple[str, ...]:
    """Return who sits in each seat; a mixed game has a searching seat at least, or it would teach nothing."""
    if spec.player.kind != "mixed":
        return (spec.player.kind,) * spec.players
    shares = np.array([share for share, _ in spec.seats()])
    names = [name for _, name in spec.seats()]
    seats = [names[int(k)] for k in rng.choice(len(names), spec.players, p=shares / shares.sum())]
    if "gumbel" not in seats:
        seats[int(rng.integers(0, spec.players))] = "gumbel"
    return tuple(seats)


@kernel
def advance(data: Words, rows: Words, g: Tables, codes: Words, counts: Words, forced: Words, played: Words) -> None:
    """Play forced moves in chosen rows and note them; leaves the legal codes and their counts, 0 at the end."""
    for k in range(len(rows)):
        s = data[rows[k]]
        played[k] = 0
        counts[k] = 0
        while s[lay.PHASE] != lay.OVER:
            counts[k] = legal(s, g, codes[k])
            if counts[k] != 1 or played[k] == forced.shape[1]:
                break
            apply(s, g, int(codes[k, 0]))
            forced[k, played[k]] = codes[k, 0]
            played[k] += 1
            counts[k] = 0


@kernel
def play_codes(data: Words, g: Tables, chosen: Words) -> None:
    """Play a legal code in each row, -1 for none. On one thread: for so little work others cost more than they do."""
    for k in range(len(chosen)):
        if chosen[k] >= 0:
            apply(data[k], g, int(chosen[k]))


def write_shard(spec: SelfplaySpec, games: list[Running], folder: Path) -> tuple[Path, ShardInfo]:
    """Write finished games as a shard."""
    targets = [target for game in games for target in game.targets]
    starts = np.cumsum([0, *(len(game.codes) for game in games)])[:-1]
    meta = ShardMeta(
        FORMAT, spec.board, spec.players, spec.variant, RULES_VERSION, spec.player_key, len(games), len(targets),
        spec.node, spec.job, spec.seed,
    )  # fmt: skip
    places = [start + t.ply for game, start in zip(games, starts, strict=True) for t in game.targets]
    shard = Shard(
        meta,
        np.array([len(game.codes) for game in games], np.int32),
        np.concatenate([np.array(game.codes, np.int32) for game in games]),
        np.stack([game.ranks for game in games]).astype(np.int8),
        np.array(places, np.int64),
        np.array([len(t.codes) for t in targets], np.int32),
        np.concatenate([np.zeros(0, np.int32), *(t.codes for t in targets)]),
        np.concatenate([np.zeros(0), *(t.probs for t in targets)]).astype(np.float16),
        np.array([t.value for t in targets], np.float16),
        game_seeds(spec.seed, spec.games)[[game.number for game in games]],
    )
    path, name = shard.save(folder)
    firsts = shard.ranks == 1
    info = ShardInfo(
        name, path.stat().st_size, len(games), len(targets), int(shard.plies.sum()),
        tuple(int(n) for n in firsts.sum(0)), sum(t.entropy for t in targets) / max(1, len(targets)),
    )  # fmt: skip
    return path, info
