"""Which config first: bounded terms that say why, room by their sum, devices by what boards need."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.loop import LoopSettings
from tests.unit.duties.rows import CONFIG, NOW, worker_view
from tests.unit.duties.rows import config_view as view
from workqueue.duties import plan, priority
from workqueue.duties.priority import HOUR_MS, Room
from workqueue.machine import commands as c
from workqueue.machine.views import AliasStep, ConfigView, WorkerView

ALL = tuple(f"{board}_{n}p" for board in ("hex8", "square8", "square19", "hexagonal") for n in (2, 3, 4))


def worker(name: str = "w", vram_mb: int = 0, **fields: Any) -> WorkerView:
    devices = (("gpu", vram_mb),) if vram_mb else ()
    return worker_view(name, c.Capability(4, 1, 1, devices), **fields)


def rooms(views: list[ConfigView], settings: LoopSettings, slots: int, *workers: WorkerView) -> dict[str, Room]:
    scores = {each.config: priority.score(each, settings, (), NOW) for each in views}
    return priority.rooms(views, settings, scores, slots, workers)


def won(score: int, at_ms: int = NOW - HOUR_MS) -> AliasStep:
    """A promotion with so many points of 100."""
    return AliasStep("m", at_ms, "duty", c.Evidence("sprt", games=100, wins=score, losses=100 - score))


@given(st.integers(0, 10**9), st.integers(0, NOW), st.integers(0, 4_000_000), st.integers(0, 10**6), st.integers(1, 99))
def test_every_term_is_bounded_and_explained(games: int, last_ms: int, elo: int, rated: int, points: int) -> None:
    """Whatever the state: 0 to 1000, a reason, and weights that add up to 1000."""
    found = priority.score(
        view(games=games, last_selfplay_ms=last_ms, elo_milli=elo, elo_games=rated), LoopSettings(), (won(points),), NOW
    )
    assert [term.name for term in found] == list(priority.WEIGHTS)
    assert all(0 <= term.value <= 1000 and term.why for term in found)
    assert 0 <= priority.total(found) <= 1000 == sum(priority.WEIGHTS.values())


@pytest.mark.parametrize(
    ("name", "little", "much"),
    [
        ("staleness", {"last_selfplay_ms": NOW}, {"last_selfplay_ms": NOW - 3 * HOUR_MS}),
        ("deficit", {"games": 10_000}, {"games": 100}),
        ("gap", {"elo_milli": 1_990_000}, {"elo_milli": 1_500_000}),
        ("uncertainty", {"elo_games": 10_000}, {"elo_games": 50}),
        ("start", {"champion": "m"}, {}),
    ],
)
def test_terms_rise_with_what_they_measure(name: str, little: dict[str, Any], much: dict[str, Any]) -> None:
    """The config that needs it more has the higher term."""

    def term(fields: dict[str, Any]) -> int:
        [found] = [t for t in priority.score(view(**fields), LoopSettings(), (), NOW) if t.name == name]
        return found.value

    assert term(little) < term(much)


def test_velocity_and_curriculum() -> None:
    """Elo won by promotions of the last day counts, older ones do not; a weight of its own replaces the default."""
    assert priority.gained_elo([won(64)], 2, NOW) == pytest.approx(100, abs=1)
    assert priority.gained_elo([won(64), won(64)], 2, NOW) == pytest.approx(200, abs=2)
    assert priority.gained_elo([won(64, at_ms=NOW - 25 * HOUR_MS)], 2, NOW) == 0
    assert priority.gained_elo([won(34)], 3, NOW) == pytest.approx(0, abs=15), "a third of the points is even for three"
    settings = LoopSettings(curriculum=((CONFIG, 900),))
    terms = {t.name: t for t in priority.score(view(), settings, (won(64),), NOW)}
    assert (terms["curriculum"].value, terms["velocity"].value) == (900, pytest.approx(1000, abs=5))


def test_room_is_twice_the_slots_and_goes_to_those_who_need_it() -> None:
    """A config without a champion gets more; halted ones and those not asked for get none."""
    old = view("hex8_2p", games=100_000, champion="m", elo_milli=1_900_000, last_selfplay_ms=NOW)
    halted = view("square8_3p", halted="because")
    settings = LoopSettings(configs=(CONFIG, "hex8_2p", "square8_3p"))
    found = rooms([view(), old, halted, view("hex8_4p")], settings, 8)
    assert set(found) == {CONFIG, "hex8_2p"}
    assert found[CONFIG].selfplay > found["hex8_2p"].selfplay > 0
    assert sum(room.selfplay for room in found.values()) == 16
    assert (found["hex8_2p"].tournament, found[CONFIG].tournament) == (1, 0)


def test_live_trainings_and_matches_take_their_shares_of_the_queue() -> None:
    """60/30/10: what others have queued is taken off, at most to their shares; self-play keeps at least its own."""
    busy = view(live={"train": 1, "evaluate": 1})
    settings = LoopSettings()
    assert rooms([busy], settings, 10)[CONFIG].selfplay == 20 - 2
    crowded = view(live={"train": 50, "evaluate": 50, "gauntlet": 9})
    assert rooms([crowded], settings, 10)[CONFIG].selfplay == 20 * 60 // 100


@given(st.dictionaries(st.sampled_from(ALL), st.integers(1, 1000), min_size=1), st.integers(0, 500))
def test_seats_are_apportioned_exactly(sums: dict[str, int], seats: int) -> None:
    """All seats, none twice, and each within one of its quota."""
    found = priority.apportion(sums, seats)
    assert sum(found.values()) == seats
    whole = sum(sums.values())
    assert all(seats * value // whole <= found[name] <= seats * value // whole + 1 for name, value in sums.items())


def test_no_config_starves() -> None:
    """With twelve configs and one slot, the one without games for hours is served."""
    settings = LoopSettings(configs=ALL)
    views = [view(name, champion="m", last_selfplay_ms=NOW, games=10) for name in ALL]
    views[0] = view(ALL[0], champion="m", games=10**9, elo_milli=3_000_000, elo_games=10**6, last_selfplay_ms=1)
    found = rooms(views, settings, 1)
    assert found[ALL[0]].selfplay >= 1
    assert sum(room.selfplay for room in found.values()) <= 3


def test_devices_are_matched_to_boards() -> None:
    """Large boards go to devices with the memory, small ones anywhere; where no device is large enough, to the CPU."""
    small, large = worker("a", 8_000), worker("b", 80_000)
    assert priority.requires("selfplay", "hexagonal", [small]) == c.Requirements()
    assert priority.requires("evaluate", "hexagonal", [small, large]).vram_mb == 16_000
    assert priority.requires("evaluate", "square8", [small, large]) == c.Requirements()
    assert priority.requires("train", "square8", [small]) == c.Requirements(vram_mb=4_000, device=True)
    assert priority.requires("train", "square8", [worker()]) == c.Requirements()
    assert priority.requires("train", "square8", [worker("a", 8_000, drain=True)]) == c.Requirements()
    views = [view("hexagonal_2p", champion="m"), view("hex8_2p", champion="m"), view("hex8_3p")]
    found = rooms(views, LoopSettings(configs=("hexagonal_2p", "hex8_2p", "hex8_3p")), 8, small, large)
    assert found["hexagonal_2p"].selfplay_device >= 1, "the large device is the large board's first"
    assert found["hex8_2p"].selfplay_device >= 2
    assert found["hex8_3p"].selfplay_device == 0, "the bootstrap engine needs no device"


def test_selfplay_fills_devices_and_processors_apart() -> None:
    """A backlog for processors takes no place on devices; jobs for devices end when nobody has one any more."""
    busy = view(champion="m", live={"selfplay": 5}, on_devices={"selfplay": 1})
    decisions = plan.selfplay(busy, LoopSettings(), Room(4, 3), 7)
    specs = [d.command.jobs[0] for d in decisions if isinstance(d.command, c.Enqueue)]
    assert [(spec.requires.vram_mb, bool(spec.wait_ms_max)) for spec in specs] == [(4_000, True)] * 2
    assert len({spec.id for spec in specs}) == 2


def test_at_the_target_a_trickle_goes_on() -> None:
    """One job at a time, and no training."""
    done = view(champion="m", elo_milli=2_000_000, games=10**6, games_new=10**6)
    assert len(plan.selfplay(done, LoopSettings(), Room(8, 8), 1)) == plan.TRICKLE
    trickling = msgspec.structs.replace(done, live={"selfplay": 1})
    assert plan.selfplay(trickling, LoopSettings(), Room(8, 8), 1) == []
    assert plan.training(done, LoopSettings(), (), 1) == []
