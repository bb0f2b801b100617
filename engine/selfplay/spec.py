"""What to play, what was played, and how hot."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from engine.players.player import PlayerConfig
from engine.search.kept import KEEP, VALUES

TEMPERATURES = ("constant", "step", "linear", "cosine", "entropy", "curriculum")
ENGINES = ("heuristic", "gumbel", "mcts", "policy", "mixed")
WITH_NET = ("gumbel", "mcts", "policy", "mixed")
# Who sits in a seat of a mixed game where the player names no mix; only the searched moves become targets.
MIXED: Final = ((0.6, "gumbel"), (0.2, "policy"), (0.2, "heuristic"))


LEAST: Final = {"games": 1, "simulations_fast": 0, "temperature_plies": 0, "opening_plies": 0, "batch_games": 0}


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
    resign_below: float = 0.0  # chance at which a side gives up; 0 = never
    resign_run: int = 3  # searched decisions in a row that must agree
    control_share: float = 0.1  # of the games that nobody may give up, so that wrong resignations are seen
    shard_seconds: float = 120.0
    batch_games: int = 64
    keep: str = VALUES  # of a search's tree for the next search of its game: see engine.search.kept
    node: str = ""
    job: str = ""

    def __post_init__(self) -> None:
        if self.temperature not in TEMPERATURES:
            raise ValueError(f"temperature schedule {self.temperature!r}: choose one of {', '.join(TEMPERATURES)}")
        if self.player.kind not in ENGINES:
            raise ValueError(f"self-play is made by {', '.join(ENGINES)}, not {self.player.kind!r}")
        if any(name not in ("gumbel", "policy", "heuristic") or share <= 0 for share, name in self.seats()):
            raise ValueError("a seat of mixed self-play is gumbel, policy or heuristic, each with a share above 0")
        if not (0 <= self.resign_below < 0.5 and 0 <= self.control_share <= 1 and self.resign_run >= 1):
            raise ValueError("resign_below lies in 0 to 0.5, control_share in 0 to 1, resign_run is 1 or more")
        if self.keep not in KEEP:
            raise ValueError(f"a search keeps one of {', '.join(KEEP)}, not {self.keep!r}")
        if self.resign_below and not self.control_share:
            raise ValueError("resignation needs control games: give control_share more than 0")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {least} or more, not {getattr(self, name)}")
        if not (self.player.simulations >= 0 and 0 <= self.full_share <= 1):
            raise ValueError("simulations are 0 or more, full_share lies in 0 to 1")
        if not (self.temperature_start >= 0 and self.temperature_end >= 0):
            raise ValueError("temperature_start and temperature_end are 0 or more")

    def seats(self) -> tuple[tuple[float, str], ...]:
        """Return who may sit in a seat, and how often."""
        if self.player.kind != "mixed":
            return ()
        return tuple((share, part.kind) for share, part in self.player.mix) or MIXED


class ShardInfo(msgspec.Struct, frozen=True):
    """A shard that was written."""

    sha256: str
    size_bytes: int
    games: int
    positions: int
    plies: int
    wins: tuple[int, ...]  # by seat
    policy_entropy: float  # nats, mean over the targets
    resigned: int = 0  # as in SelfplaySummary
    controls: int = 0
    controls_wrong: int = 0


class SelfplaySummary(msgspec.Struct, frozen=True):
    """What was played."""

    games: int
    plies: int
    positions: int
    seconds: float
    shards: tuple[ShardInfo, ...]
    wins: tuple[int, ...]  # by seat
    policy_entropy: float  # nats, mean over the targets
    resigned: int = 0  # games that one side gave up
    controls: int = 0  # games that would have been given up, but were played on as controls
    controls_wrong: int = 0  # of those, the ones that the side that would have given up did win
    evaluations: int = 0  # positions that the net looked at


def temperature_at(spec: SelfplaySpec, decision: int, entropy: float, game: int = 0) -> float:
    """Return the temperature of a game's n-th decision; `entropy` of its policy is a share of that of a uniform one.

    `curriculum` cools from game to game of a run instead of from move to move.
    """
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
        case "curriculum":
            return start + (end - start) * game / max(1, spec.games - 1)
        case _:
            return start + (end - start) * done
