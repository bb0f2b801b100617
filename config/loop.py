"""`loop.yaml`: what the improvement loop aims at. These values start the cluster's replicated settings."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from config.cluster import Positive, Section

Milli = Annotated[int, Meta(ge=0, le=1000)]


class Shares(Section, frozen=True):
    """How claims are shared among kinds, in per cent."""

    selfplay: Annotated[int, Meta(ge=0, le=100)] = 60
    training: Annotated[int, Meta(ge=0, le=100)] = 30
    tournament: Annotated[int, Meta(ge=0, le=100)] = 10

    def __post_init__(self) -> None:
        if self.selfplay + self.training + self.tournament != 100:
            raise ValueError("selfplay + training + tournament must be 100")


class SelfplaySettings(Section, frozen=True):
    """How games for training are made."""

    games_per_job: Positive = 200
    simulations_full: Positive = 32
    simulations_fast: Positive = 8
    bootstrap_games: Positive = 1500
    engine: Literal["gumbel", "mcts", "policy", "mixed"] = "gumbel"  # who plays once there is a champion
    resign_below_milli: Annotated[int, Meta(ge=0, lt=500)] = 0  # chance at which a side gives up; 0 = never


class TrainSettings(Section, frozen=True):
    """How nets are trained."""

    size: str = "32x4"
    steps: Positive = 1500
    batch_size: Positive = 256
    learning_rate_micro: Positive = 1000
    games_new_min: Positive = 1000  # new games since the last training before the next one
    window_games_min: Positive = 1500
    window_exponent_milli: Milli = 650


class GateSettings(Section, frozen=True):
    """What a candidate must show. Floors are shares of points against a baseline, in thousandths."""

    floor_random_milli: tuple[int, int, int] = (850, 550, 450)  # 2, 3, 4 players
    floor_heuristic_milli: tuple[int, int, int] = (600, 450, 350)
    bootstrap_random_milli: tuple[int, int, int] = (750, 500, 400)  # while a config has no champion, the only floor
    floor_games: Positive = 100
    simulations: Positive = 16
    elo0: int = 0
    elo1: int = 50
    games_max: Positive = 1200
    wait_minutes_max: Positive = 120  # from a candidate's registration to its verdict; beyond is an alert


class LoopSettings(Section, frozen=True):
    """`loop.yaml`."""

    configs: tuple[str, ...] = ("square8_2p",)
    target_elo: Positive = 2000
    shares: Shares = Shares()
    selfplay: SelfplaySettings = SelfplaySettings()
    train: TrainSettings = TrainSettings()
    gate: GateSettings = GateSettings()
    evaluation_share_milli: Milli = 100  # reserved for candidates
    ladder_games: Positive = 40
    workers_kept_days: Positive = 7  # how long the record of a worker that is gone stays
    verify_share_milli: Milli = 50  # of the results that other workers check again
    verify_games: Annotated[int, Meta(ge=0, le=64)] = 2  # of a checked self-play result that are played again
    curriculum: tuple[tuple[str, Milli], ...] = ()  # (config, weight): how much a config is worth, 500 when not named
    tuning: tuple[tuple[str, str, int, int], ...] = ()  # written by feedback: (config, key, value, trainings then)
