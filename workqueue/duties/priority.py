"""Which config first: a bounded sum of terms, each explained, shares out the room that the workers have.

Every term lies between 0 and 1000 thousandths and has a fixed weight; the weights add up to 1000, so the sum is bounded
too and no term can crowd out the others. A config that has had no games for hours is served whatever its sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from config.loop import LoopSettings
from workqueue.machine.commands import Requirements
from workqueue.machine.views import AliasStep, ConfigView, WorkerView

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
STALE_MS = 4 * HOUR_MS
VELOCITY_ELO = 100  # gained a day: the term is full
GAP_ELO = 1_000
RATING_ERROR_ELO = 350  # standard error of a rating after one game; falls with the root of games
UNCERTAIN_ELO = 100
CURRICULUM = 500  # of a config without a weight of its own
QUEUE_FACTOR = 2  # jobs kept for each slot
BASE = 50  # of every config's sum
MATCHES = ("tournament", "gauntlet", "evaluate")
WEIGHTS = {
    "staleness": 250,
    "deficit": 250,
    "gap": 150,
    "velocity": 100,
    "curriculum": 100,
    "uncertainty": 50,
    "start": 100,
}
# Memory of a device that a board's nets and batches want. Boards up to 8 by 8 run anywhere.
VRAM_MB = {"hex8": 4_000, "square8": 4_000, "square19": 12_000, "hexagonal": 16_000}
VRAM_MB_OTHER = 8_000
LARGE_MB = 8_000
DEVICE_WAIT_MS = HOUR_MS // 2  # a job for a device fails as expired when none has taken it by then


class Term(msgspec.Struct, frozen=True):
    """One part of a config's sum."""

    name: str
    value: int  # 0..1000
    weight: int  # thousandths
    why: str

    @property
    def part(self) -> int:
        """What it adds to the sum."""
        return self.value * self.weight // 1000


class Room(msgspec.Struct, frozen=True):
    """How many jobs of a config may be live."""

    selfplay: int = 0  # without a device
    selfplay_device: int = 0
    tournament: int = 0


def parts(config: str) -> tuple[str, int]:
    """Return board and players of a config such as square8_2p."""
    board, _, players = config.rpartition("_")
    return board, int(players.removesuffix("p"))


def gained_elo(steps: Sequence[AliasStep], players: int, now_ms: int) -> float:
    """Return the Elo that the promotions of the last day won, by the scores of their matches."""
    total = 0.0
    for step in steps:
        evidence = step.evidence
        if step.at_ms <= now_ms - DAY_MS or evidence.rule != "sprt" or not evidence.games:
            continue
        share = (evidence.wins + evidence.draws / 2) / evidence.games
        share = min(0.99, max(0.01, share))
        total += 400 * math.log10(share * (players - 1) / (1 - share))
    return total


def score(view: ConfigView, settings: LoopSettings, steps: Sequence[AliasStep], now_ms: int) -> tuple[Term, ...]:
    """Return the terms of a config's sum."""
    _, players = parts(view.config)
    idle_ms = now_ms - view.last_selfplay_ms if view.last_selfplay_ms else STALE_MS
    wanted = 5 * settings.train.window_games_min
    gap = max(0, settings.target_elo - view.elo_milli // 1000)
    gained = gained_elo(steps, players, now_ms)
    error = RATING_ERROR_ELO / math.sqrt(1 + view.elo_games)
    curriculum = dict(settings.curriculum).get(view.config, CURRICULUM)
    found = {
        "staleness": (idle_ms * 1000 / STALE_MS, f"{idle_ms // 60_000} minutes since the last games"),
        "deficit": (1000 - view.games * 1000 / wanted, f"{view.games} of {wanted} games"),
        "gap": (gap * 1000 / GAP_ELO, f"{gap} Elo below the target of {settings.target_elo}"),
        "velocity": (gained * 1000 / VELOCITY_ELO, f"promotions won {gained:.0f} Elo within a day"),
        "curriculum": (
            curriculum,
            "its weight in `curriculum`" if curriculum != CURRICULUM else "no weight of its own",
        ),
        "uncertainty": (error * 1000 / UNCERTAIN_ELO, f"its rating is known to ±{error:.0f} Elo"),
        "start": (0 if view.champion else 1000, "has a champion" if view.champion else "has no champion yet"),
    }
    return tuple(
        Term(name, round(min(1000, max(0, value))), WEIGHTS[name], why) for name, (value, why) in found.items()
    )


def total(terms: Sequence[Term]) -> int:
    """Return the sum, 0 to 1000."""
    return sum(term.part for term in terms)


# ---- what machines can do


def vram_mb(board: str) -> int:
    """Return the device memory that a board's jobs want."""
    return VRAM_MB.get(board, VRAM_MB_OTHER)


def able(workers: Sequence[WorkerView]) -> list[WorkerView]:
    """Return the workers that may claim."""
    return [worker for worker in workers if worker.live and not worker.quarantined and not worker.drain]


def device_slots(workers: Sequence[WorkerView], board: str) -> int:
    """Return how many devices are large enough for a board."""
    need = vram_mb(board)
    return sum(vram >= need for worker in able(workers) for _, vram in worker.capability.devices)


def requires(kind: str, board: str, workers: Sequence[WorkerView]) -> Requirements:
    """Return what a job with a net asks for: a device where one is large enough, else processors.

    Matches of small boards run anywhere, so that no candidate waits for a device; large boards and trainings want one.
    """
    small = vram_mb(board) < LARGE_MB and kind != "train"
    if small or not device_slots(workers, board):
        return Requirements()
    return Requirements(vram_mb=vram_mb(board), device=kind == "train")


# ---- sharing out


def apportion(sums: Mapping[str, int], seats: int) -> dict[str, int]:
    """Share seats out in proportion by largest remainders (Hare-Niemeyer); ties go to the first name."""
    whole = sum(sums.values())
    if not whole:
        return dict.fromkeys(sums, 0)
    found = {name: seats * value // whole for name, value in sums.items()}
    order = sorted(sums, key=lambda name: (-(seats * sums[name] % whole), name))
    for name in order[: seats - sum(found.values())]:
        found[name] += 1
    return found


def on_devices(sums: Mapping[str, int], workers: Sequence[WorkerView]) -> dict[str, int]:
    """Return how many jobs for devices each config may have: two a device that is large enough for a board.

    One goes to the largest boards that fit the device, the other to any that fit, so that large devices are not filled
    by what small ones can do.
    """
    found = dict.fromkeys(sums, 0)
    need = {name: vram_mb(parts(name)[0]) for name in sums}
    for size in sorted({vram for worker in able(workers) for _, vram in worker.capability.devices}):
        devices = sum(vram == size for worker in able(workers) for _, vram in worker.capability.devices)
        fitting = {name: value for name, value in sums.items() if need[name] <= size}
        most = max((need[name] for name in fitting), default=0)
        largest = {name: value for name, value in fitting.items() if need[name] == most}
        for share in (largest, fitting):
            for name, seats in apportion(share, devices).items():
                found[name] += seats
    return found


def rooms(
    views: Sequence[ConfigView],
    settings: LoopSettings,
    scores: Mapping[str, Sequence[Term]],
    slots: int,
    workers: Sequence[WorkerView],
) -> dict[str, Room]:
    """Return the room of each config: twice the slots in all, by score.

    Trainings and matches that are live count up to their `shares`; self-play takes the rest. Claims are shared 60/30/10
    again by the scheduler, so that a queue of one kind delays no other. A config whose games are stale gets one job at
    least, and every champion one tournament.
    """
    active = [view for view in views if not view.halted and view.config in settings.configs]
    jobs = QUEUE_FACTOR * slots
    matches = sum(view.live.get(kind, 0) for view in active for kind in MATCHES)
    trainings = sum(view.live.get("train", 0) for view in active)
    shares = settings.shares
    others = min(matches, jobs * shares.tournament // 100) + min(trainings, jobs * shares.training // 100)
    sums = {view.config: BASE + total(scores[view.config]) for view in active}
    plays = apportion(sums, jobs - others)
    devices = on_devices({view.config: sums[view.config] for view in active if view.champion}, workers)
    found = {}
    for view in active:
        name = view.config
        stale = any(term.name == "staleness" and term.value >= 1000 for term in scores[name])
        least = 1 if stale and slots else 0
        found[name] = Room(max(plays[name], least), devices.get(name, 0), 1 if view.champion else 0)
    return found
