"""Feedback: what a config's data, losses and matches say about its next jobs.

Pure. The settings that people set are the base; feedback moves a few of them for one config, one step a training,
within fixed bounds around the base, and back again when the cause is gone. Each move is a change of the setting
`tuning` with its reason in the audit; taking an entry out of it (or setting `tuning=[]`) undoes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from config.loop import LoopSettings
from workqueue.machine.views import ConfigView

OPENING_PLIES = 4  # of self-play: random plies before the first searched one, at most
STEP = 1250  # thousandths: a move is a quarter up, or as much down
BOUNDS = {  # key -> (lowest, highest) in thousandths of the base
    "selfplay.simulations_full": (1000, 2000),
    "selfplay.opening_plies": (1000, 3000),
    "train.learning_rate_micro": (250, 1000),
    "train.steps": (500, 1500),
}
ENTROPY_MILLI_MIN = 300  # nats of the searched policy: below that games have become alike
SEAT_SHARE_MAX = 0.8  # of the games won by one seat
GAMES_MIN = 100  # below that nothing is said about data
LOSS_RISE = 1.05
OVERFIT = 1.25  # held-out loss against the loss on the training data
REJECTED_MAX = 2  # candidates in a row that were not stronger


class Data(msgspec.Struct, frozen=True):
    """Newest self-play results, added up."""

    games: int = 0
    entropy_milli: int = 0  # mean over positions; 0 = not told
    wins: tuple[int, ...] = ()


class Training(msgspec.Struct, frozen=True):
    """A training's result and what became of its model, newest first in a list."""

    loss_milli: int
    heldout_milli: int
    status: str  # of the model
    reason: str = ""


class Change(msgspec.Struct, frozen=True):
    """One move of one key."""

    key: str
    old: int
    new: int
    why: str


def base(settings: LoopSettings, key: str) -> int:
    """Return what people set."""
    section, _, name = key.partition(".")
    return OPENING_PLIES if name == "opening_plies" else int(getattr(getattr(settings, section), name))


def value(settings: LoopSettings, config: str, key: str) -> int:
    """Return what is in force for a config: the tuned value, held within its bounds around the base."""
    whole = base(settings, key)
    tuned = next((value for of, name, value, _ in settings.tuning if (of, name) == (config, key)), whole)
    return clamp(key, whole, tuned)


def clamp(key: str, whole: int, wanted: int) -> int:
    """Keep a value within the bounds of its key."""
    low, high = BOUNDS[key]
    return max(1, whole * low // 1000, min(whole * high // 1000, wanted))


def moved_at(settings: LoopSettings, config: str, key: str) -> int:
    """Return how many trainings there were at the last move of a key, 0 when it never moved."""
    return next((at for of, name, _, at in settings.tuning if (of, name) == (config, key)), 0)


def wanted(data: Data, trainings: Sequence[Training]) -> dict[str, tuple[int, str]]:
    """Return for each key the direction it should go (+1, -1 away from, 0 back to the base) and why."""
    found = {"selfplay.opening_plies": _of_data(data)}
    if len(trainings) >= 2:
        found["train.learning_rate_micro"] = _of_loss(trainings[0], trainings[1])
    if trainings:
        found["train.steps"] = _of_fit(trainings[0])
        found["selfplay.simulations_full"] = _of_strength(trainings)
    return found


def _of_data(data: Data) -> tuple[int, str]:
    if data.games < GAMES_MIN:
        return 0, "little data"
    if 0 < data.entropy_milli < ENTROPY_MILLI_MIN:
        return 1, f"games have become alike: policy entropy {data.entropy_milli / 1000:.2f} nats"
    if data.wins and max(data.wins) > SEAT_SHARE_MAX * sum(data.wins):
        return 1, f"one seat wins {max(data.wins)} of {sum(data.wins)} games"
    return 0, "the data is varied again"


def _of_loss(new: Training, old: Training) -> tuple[int, str]:
    if new.loss_milli > LOSS_RISE * old.loss_milli:
        return -1, f"the loss rose from {old.loss_milli / 1000:.3f} to {new.loss_milli / 1000:.3f}"
    return 0, f"the loss is {new.loss_milli / 1000:.3f} after {old.loss_milli / 1000:.3f}"


def _of_fit(new: Training) -> tuple[int, str]:
    if new.heldout_milli > OVERFIT * new.loss_milli > 0:
        return -1, f"held-out loss {new.heldout_milli / 1000:.3f} against {new.loss_milli / 1000:.3f} on its own data"
    return 0, "no more overfitting"


def _of_strength(trainings: Sequence[Training]) -> tuple[int, str]:
    recent = trainings[:REJECTED_MAX]
    weak = [each for each in recent if each.status == "rejected" and "against the champion" in each.reason]
    if len(weak) == REJECTED_MAX:
        return 1, f"{REJECTED_MAX} candidates in a row were not stronger than the champion"
    if recent[0].status == "champion":
        return 0, "a candidate was promoted"
    return 0, ""


def changes(view: ConfigView, settings: LoopSettings, data: Data, trainings: Sequence[Training]) -> list[Change]:
    """Return the moves that are due: one step a key and training; back to the base only for a reason."""
    found = []
    for key, (way, why) in wanted(data, trainings).items():
        if not why or moved_at(settings, view.config, key) >= view.trainings:
            continue
        whole, now = base(settings, key), value(settings, view.config, key)
        if way:
            step = now * STEP // 1000 + 1 if way > 0 else now * 1000 // STEP
        else:
            step = max(whole, now * 1000 // STEP) if now > whole else min(whole, now * STEP // 1000 + 1)
        new = clamp(key, whole, step)
        if new != now:
            found.append(Change(key, now, new, why))
    return found


def applied(settings: LoopSettings, view: ConfigView, moves: Sequence[Change]) -> tuple[tuple[str, str, int, int], ...]:
    """Return the setting `tuning` with the moves entered; what is back at its base is dropped."""
    keys = {move.key for move in moves}
    kept = [entry for entry in settings.tuning if entry[0] != view.config or entry[1] not in keys]
    kept += [(view.config, move.key, move.new, view.trainings) for move in moves]
    return tuple(sorted(kept))
