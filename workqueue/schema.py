"""Job kinds with their typed payloads and results: the contract between those who enqueue and those who run.

Every payload names models and data by SHA-256 and the rules by version; a worker of another version refuses the job.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

BOARDS = ("hex8", "square8", "square19", "hexagonal")  # the smallest first

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]  # of what is summed up in a config's totals
Milli = Annotated[int, msgspec.Meta(ge=0, le=1000)]  # a share or a chance
Share = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]  # thousandths of a weight; weights need not sum to one


class Schema(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A payload or result; unknown fields are refused."""


class PlayerSpec(Schema, frozen=True):
    """A player: what decides, with which weights and how long. Its key is the identity that ratings are kept for."""

    kind: str  # "random", "heuristic", "flat_mc", "alphabeta", "search", "policy", "gumbel", "mixed"; self-play: "mcts"
    model: str = ""  # sha256 of the weights; empty for players without a net
    simulations: int = 0
    depth: int = 0
    temperature_milli: int = 0
    # Of a mixed player: who decides and how often (in self-play: who gets a seat). They share its model.
    mix: Annotated[tuple[tuple[Share, PlayerSpec], ...], msgspec.Meta(max_length=16)] = ()

    def __post_init__(self) -> None:
        if self.mix and self.kind != "mixed":
            raise ValueError(f"a mix is for a mixed player, not for {self.kind}")
        if any(part.model or part.mix for _, part in self.mix):
            raise ValueError("the parts of a mixed player name no model of their own and are not mixed themselves")

    @property
    def key(self) -> str:
        """`model-or-none:kind:budget`, the participant of the match log."""
        budget = f"s{self.simulations}" if self.simulations else f"d{self.depth}" if self.depth else "-"
        if self.mix:
            parts = (f"{share / 1000:g}*{part.key.removeprefix('none:')}" for share, part in self.mix)
            budget = "+".join(parts) + (f":s{self.simulations}" if self.simulations else "")
        heat = f":t{self.temperature_milli}" if self.temperature_milli else ""
        return f"{self.model or 'none'}:{self.kind}:{budget}{heat}"


class ShardRef(Schema, frozen=True):
    """A stored shard of whole games."""

    sha256: str
    size_bytes: Count
    games: Count
    positions: Count


class SelfplayPayload(Schema, frozen=True):
    """Play games against itself and store them as shards."""

    board: str
    players: int
    player: PlayerSpec
    games: int
    seed: int
    variant: str = "spec"
    rules_version: str = ""
    max_seconds: int = 0
    simulations_fast: int = 0  # playout-cap randomisation: budget of the cheap moves
    full_share_milli: int = 250  # share of moves searched with the full budget (Wu 2019, section 3.1)
    temperature: str = "linear"  # "constant", "step", "linear", "cosine", "entropy", "curriculum"
    temperature_start_milli: int = 1000
    temperature_end_milli: int = 250
    temperature_plies: int = 40
    opening_plies: int = 4  # random plies before the first searched one, at most
    shard_seconds: int = 120
    batch_games: int = 64  # side by side; 0 = as many as the device is fast with
    resign_below_milli: Annotated[int, msgspec.Meta(ge=0, lt=500)] = 0  # chance at which a side gives up; 0 = never
    resign_run: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3  # searched decisions in a row that must agree
    control_share_milli: Milli = 100  # of the games, played on all the same
    keep: Literal["nothing", "values", "visits"] = "values"  # of a search's tree for the next search of its game

    def __post_init__(self) -> None:
        if self.resign_below_milli and not self.control_share_milli:
            raise ValueError("resignation needs control games: give control_share_milli more than 0")


class SelfplayResult(Schema, frozen=True):
    """What was played."""

    games: Count
    plies: int
    positions: Count
    seconds_milli: int
    shards: tuple[ShardRef, ...]
    wins: tuple[int, ...]  # by seat
    player_key: str
    rules_version: str
    policy_entropy_milli: int = 0
    resigned: Count = 0  # games that one side gave up
    controls: Count = 0  # games that would have been given up, played on all the same
    controls_wrong: Count = 0  # of those, won by the side that would have given up


class TrainPayload(Schema, frozen=True):
    """Train a net on a window of shards, from a parent's weights or from nothing."""

    board: str
    players: int
    shards: tuple[str, ...]
    steps: int
    seed: int
    size: str = "32x4"  # channels x blocks
    parent: str = ""  # of this config or another: what has its like is carried over
    variant: str = "spec"
    rules_version: str = ""
    batch_size: int = 256
    learning_rate_micro: int = 1000
    checkpoint_steps: int = 200
    heldout_milli: int = 50
    surprise_milli: Milli = 0  # share of picks in proportion to how far a target lies from the parent's policy


class TrainResult(Schema, frozen=True):
    """The model that came out."""

    model: str
    size_bytes: Count
    steps: int
    samples: int
    loss_milli: int
    policy_loss_milli: int
    value_loss_milli: int
    heldout_loss_milli: int
    seconds_milli: int
    manifest: msgspec.Raw  # msgpack map, as in the model's JSON manifest
    curves: str = ""  # sha256 of a PNG


class TournamentPayload(Schema, frozen=True):
    """Games among players: paired openings, all seat permutations."""

    board: str
    players: int
    entrants: tuple[PlayerSpec, ...]
    games: int
    seed: int
    purpose: str = "ladder"  # "ladder", "canary", "manual"
    format: str = "round_robin"  # "round_robin", "gauntlet"
    variant: str = "spec"
    rules_version: str = ""
    opening_plies: int = 6


class GauntletPayload(Schema, frozen=True):
    """Games of one player against fixed baselines."""

    board: str
    players: int
    candidate: PlayerSpec
    baselines: tuple[PlayerSpec, ...]
    games: int  # against each baseline
    seed: int
    variant: str = "spec"
    rules_version: str = ""
    opening_plies: int = 6


class EvaluatePayload(Schema, frozen=True):
    """A sequential match of a candidate against the champion; stops early both ways."""

    board: str
    players: int
    candidate: PlayerSpec
    champion: PlayerSpec
    games_max: int
    seed: int
    elo0_milli: int = 0
    elo1_milli: int = 50_000
    alpha_milli: int = 50  # chance to promote what is no stronger than elo0
    beta_milli: int = 50  # and to reject what is as strong as elo1
    variant: str = "spec"
    rules_version: str = ""
    opening_plies: int = 6


class GameResult(Schema, frozen=True):
    """One finished game of the match log; `id` follows from players, opening and seats: a replay counts once."""

    id: str
    seats: tuple[str, ...]  # player keys by seat
    ranks: tuple[int, ...]  # 1 = winner; ties share a rank
    plies: int
    reason: str
    opening: str  # id of the opening; games with the same opening form a pair or permutation set
    record: str = ""  # sha256 of the artifact that holds the game's record
    index: int = 0  # place of the game in that artifact


class MatchesResult(Schema, frozen=True):
    """Result of tournament, gauntlet and evaluate jobs."""

    games: tuple[GameResult, ...]
    seconds_milli: int
    rules_version: str
    verdict: str = ""  # evaluate: "accept", "reject", "undecided"
    llr_milli: int = 0


class ExportPayload(Schema, frozen=True):
    """Write positions of a window as NPZ or Parquet."""

    board: str
    players: int
    shards: tuple[str, ...]
    format: str = "npz"
    rules_version: str = ""


class ExportResult(Schema, frozen=True):
    """What was written."""

    sha256: str
    size_bytes: int
    positions: int


class VerifyPayload(Schema, frozen=True):
    """Replay the games of a shard or of a match's records, or check that a model can be used; name one of them."""

    shard: str = ""
    model: str = ""
    rules_version: str = ""
    record: str = ""
    asked: SelfplayPayload | None = None  # what the shard's games were to be played by; some are played again
    again: tuple[int, ...] = ()  # lots, each of which draws a game of the shard


class VerifyResult(Schema, frozen=True):
    """What was found."""

    ok: bool
    games: int = 0
    detail: str = ""
    outcomes: tuple[tuple[int, ...], ...] = ()  # ranks by seat of each game, in order
    plies: tuple[int, ...] = ()  # of each game
    decisions: Count = 0  # that were made again
    agreed: Count = 0  # of those the ones that came out the same


class BenchmarkPayload(Schema, frozen=True):
    """Measure a worker."""

    board: str
    players: int
    seconds: int = 10
    model: str = ""


class BenchmarkResult(Schema, frozen=True):
    """Rates in thousandths a second, by name."""

    rates: dict[str, int]
    batches: dict[str, int] = {}  # games side by side that it is fast with, by device, backend, config and net's shape


KINDS: dict[str, tuple[type[Schema], type[Schema]]] = {
    "selfplay": (SelfplayPayload, SelfplayResult),
    "train": (TrainPayload, TrainResult),
    "tournament": (TournamentPayload, MatchesResult),
    "gauntlet": (GauntletPayload, MatchesResult),
    "evaluate": (EvaluatePayload, MatchesResult),
    "export": (ExportPayload, ExportResult),
    "verify": (VerifyPayload, VerifyResult),
    "benchmark": (BenchmarkPayload, BenchmarkResult),
}


def config_key(board: str, players: int) -> str:
    """The name that queue, models, matches and ratings use for a board and a player count: `square8_2p`."""
    return f"{board}_{players}p"
