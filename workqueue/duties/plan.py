"""What the improvement loop does next: pure decisions from views to commands, each with its reason.

One config at a time, without memory: everything is read from the state, so any leader goes on where another stopped,
and a repeated run proposes nothing new. From an empty cluster: games by the bootstrap engine, a first training, floors
against the baselines, the first champion; then games by the champion, trainings from the newest weights, and for every
candidate floors and a sequential test against the current champion.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from config.loop import LoopSettings
from workqueue.duties import tuning
from workqueue.duties.priority import DEVICE_WAIT_MS, Room, parts, requires, vram_mb
from workqueue.machine import commands as c
from workqueue.machine.views import ConfigView, Match, Shard, WorkerView
from workqueue.schema import (
    PlayerSpec,
    Schema,
    SelfplayPayload,
    TrainPayload,
)

RANDOM = PlayerSpec("random")
HEURISTIC = PlayerSpec("heuristic")
TRIES_MAX = 3
TRIES_KEPT = 12  # of a training: after each three the next waits for new games
TRICKLE = 1
LEASE_MS = 15_000
STUCK = "stuck:"  # how the reason of a cancelled training begins that shall be tried again
LIVE = frozenset({"scheduled", "available", "running", "retryable", "held"})


class Decision(msgspec.Struct, frozen=True):
    """A command and why."""

    command: c.AnyCommand
    why: str


class JobFacts(msgspec.Struct, frozen=True):
    """What became of a job: its state, empty when there is none, and the matches it brought."""

    id: str
    state: str = ""
    matches: tuple[Match, ...] = ()
    reason: str = ""
    workers: tuple[str, ...] = ()  # whose attempts ended without success

    @property
    def sound(self) -> bool:
        """Whether it completed and nothing that it brought was revoked since."""
        return self.state == "completed" and not any(match.revoked for match in self.matches)


class Trial(msgspec.Struct, frozen=True):
    """The jobs that test a candidate, by number of the try."""

    gauntlets: tuple[JobFacts, ...] = ()
    evaluations: tuple[JobFacts, ...] = ()  # against the current champion


def challenger(sha: str, settings: LoopSettings) -> PlayerSpec:
    """Return the player that stands for a model in tests."""
    return PlayerSpec("gumbel", sha, settings.gate.simulations)


def job(name: str, kind: str, config: str, payload: Schema, **fields: object) -> c.JobSpec:
    """Return a job of the loop."""
    raw = msgspec.Raw(msgspec.msgpack.encode(payload))
    return c.JobSpec(name, kind, raw, config, lease_ms=LEASE_MS, **fields)  # type: ignore[arg-type]


def enqueue(spec: c.JobSpec, why: str) -> Decision:
    """Return the decision to add one job."""
    return Decision(c.Enqueue((spec,)), why)


# ---- data


def target_reached(view: ConfigView, settings: LoopSettings) -> bool:
    """Whether the config's champion is as strong as was asked for."""
    return view.elo_milli >= settings.target_elo * 1000


def selfplay(view: ConfigView, settings: LoopSettings, room: Room, stamp: int) -> list[Decision]:
    """Keep as many self-play jobs live as there is room for; before the first champion what a training needs."""
    live, on_devices = view.live.get("selfplay", 0), view.on_devices.get("selfplay", 0)
    wanted, wanted_devices = room.selfplay - (live - on_devices), room.selfplay_device - on_devices
    if target_reached(view, settings):
        wanted, wanted_devices = min(wanted, TRICKLE - live), 0
    if not view.champion:
        wanted = _bootstrap(view, settings, wanted, live)
    board, _ = parts(view.config)
    device = c.Requirements(vram_mb=vram_mb(board))
    kinds = [*([c.Requirements()] * max(0, wanted)), *([device] * max(0, wanted_devices))]
    decisions = []
    for k, need in enumerate(kinds):
        payload = _selfplay_payload(view, settings, seed=(stamp * 1000 + k) % (1 << 31))
        spec = job(
            f"selfplay-{view.config}-{stamp}-{k}",
            "selfplay",
            view.config,
            payload,
            requires=need,
            wait_ms_max=DEVICE_WAIT_MS if need.vram_mb else 0,
        )
        places = room.selfplay + room.selfplay_device
        decisions.append(enqueue(spec, f"{live + k} of {places} self-play jobs are live; {view.games} games so far"))
    return decisions


def _bootstrap(view: ConfigView, settings: LoopSettings, room: int, live: int) -> int:
    """Return how many jobs the bootstrap engine gets."""
    per_job = settings.selfplay.games_per_job
    begun = view.games_new < view.games
    if begun and not view.candidates and not view.live.get("train"):
        return room  # the first trainings failed or their candidates were rejected: more games, then another
    missing = settings.selfplay.bootstrap_games - view.games - live * per_job
    return min(room, -(-missing // per_job)) if missing > 0 else 0


def _selfplay_payload(view: ConfigView, settings: LoopSettings, seed: int) -> SelfplayPayload:
    board, players = parts(view.config)
    if view.champion:
        budget = tuning.value(settings, view.config, "selfplay.simulations_full")
        player = PlayerSpec(settings.selfplay.engine, view.champion, budget)
    else:
        player = PlayerSpec("heuristic")  # plays until there is a first model
    return SelfplayPayload(
        board,
        players,
        player,
        settings.selfplay.games_per_job,
        seed=seed,
        simulations_fast=settings.selfplay.simulations_fast,
        resign_below_milli=settings.selfplay.resign_below_milli,
        batch_games=0,  # as many as the worker's device is fast with
        opening_plies=tuning.value(settings, view.config, "selfplay.opening_plies"),
    )


def window_games(total: int, settings: LoopSettings) -> int:
    """Return how many of the newest games training looks at: grows with a power of all games (Wu 2019, appendix C)."""
    least = settings.train.window_games_min
    if total <= least:
        return total
    exponent = settings.train.window_exponent_milli / 1000
    return int(least * (1 + 0.4 * ((total / least) ** exponent - 1) / exponent))


def window(shards: Sequence[Shard], games: int) -> tuple[str, ...]:
    """Return the newest shards that hold at least `games` games."""
    chosen, held = [], 0
    for shard in shards:
        if held >= games:
            break
        chosen.append(shard.sha256)
        held += shard.games
    return tuple(chosen)


def training_id(view: ConfigView, number: int) -> str:
    """Return the id of the n-th try of the training that comes next."""
    return f"train-{view.config}-{view.trainings}-{number}"


def training(
    view: ConfigView,
    settings: LoopSettings,
    shards: Sequence[Shard],
    stamp: int,
    tries: Sequence[JobFacts] = (),
    workers: Sequence[WorkerView] = (),
) -> list[Decision]:
    """Train when there is enough data, enough of it new, and nothing is being trained or tested already.

    A training that failed or was stuck is tried again at once, on another worker where there is one; after three tries
    the next waits for new games.
    """
    first = not view.trainings
    enough = view.games >= (settings.selfplay.bootstrap_games if first else settings.train.window_games_min)
    last = tries[-1] if tries else JobFacts("")
    failed = last.state == "failed" or (last.state == "cancelled" and last.reason.startswith(STUCK))
    again = failed and len(tries) % TRIES_MAX != 0
    fresh = (first and not tries) or again or view.games_new >= settings.train.games_new_min
    if not enough or not fresh or view.live.get("train") or view.candidates or not shards:
        return []
    if target_reached(view, settings):
        return []
    why = f"{view.games_new} games are new since the last training, {view.games} in all"
    if again:
        why = f"{last.id} ended without success: {last.reason}"
    payload = _train_payload(view, settings, shards, stamp)
    need = requires("train", payload.board, workers)
    avoid = tuple(sorted({worker for each in tries for worker in each.workers})) if again else ()
    if any(worker.live and worker.id not in avoid for worker in workers):
        need = msgspec.structs.replace(need, avoid=avoid)
    name = training_id(view, len(tries))
    return [
        enqueue(job(name, "train", view.config, payload, unique=f"train/{view.config}", requires=need), why),
    ]


def _train_payload(view: ConfigView, settings: LoopSettings, shards: Sequence[Shard], stamp: int) -> TrainPayload:
    board, players = parts(view.config)
    return TrainPayload(
        board,
        players,
        window(shards, window_games(view.games, settings)),
        tuning.value(settings, view.config, "train.steps"),
        seed=stamp % (1 << 31),
        size=settings.train.size,
        parent=view.champion,
        batch_size=settings.train.batch_size,
        learning_rate_micro=tuning.value(settings, view.config, "train.learning_rate_micro"),
    )


def stuck(view: ConfigView, job_id: str, worker: str, still_ms: int) -> Decision:
    """Return the decision to cancel a training that tells no progress, so that it is tried elsewhere."""
    reason = f"{STUCK} no progress for {still_ms // 1000} s on {worker}"
    return Decision(c.Cancel((job_id,), reason), f"{view.config}: {reason}")
