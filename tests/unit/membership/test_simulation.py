"""Whole groups on a virtual clock: what the protocol promises, over many seeds."""

from __future__ import annotations

import pytest

from membership.simulation import World

SEEDS = range(3)


def pairs(count: int) -> int:
    return count * (count - 1)


def all_see_all(world: World, count: int, limit_ms: int) -> int | None:
    return world.run_until(lambda: world.holding("alive") == pairs(count), limit_ms, step_ms=100)


def false_deaths(world: World, *dead: int) -> list[object]:
    return [seen for seen in world.seen if seen.kind == "dead" and seen.subject not in dead]


@pytest.mark.parametrize("count", [2, 5, 32])
def test_a_cold_group_finds_together(count: int) -> None:
    """All join by the first three and see each other within two seconds."""
    for seed in SEEDS:
        world = World(count, seed, cold=True)
        assert all_see_all(world, count, 2000) is not None


@pytest.mark.parametrize(("count", "limit_ms"), [(2, 5000), (5, 5000), (32, 5000), (100, 6000)])
def test_a_death_is_known_to_all_within_seconds_and_nobody_else_dies(count: int, limit_ms: int) -> None:
    """The promise of the whole."""
    for seed in SEEDS:
        world = World(count, seed)
        world.run(3000 + 137 * seed)
        world.kill(count - 1)
        assert world.run_until(lambda: world.knows("dead", count - 1) == count - 1, limit_ms) is not None  # noqa: B023
        world.run(10_000)
        assert false_deaths(world, count - 1) == []


def test_many_deaths_at_once_are_all_known() -> None:
    """A rack loses power: a third of the group."""
    world = World(30, seed=1)
    world.run(3000)
    for index in range(20, 30):
        world.kill(index)
    assert world.run_until(lambda: all(world.knows("dead", i) == 20 for i in range(20, 30)), 15_000) is not None
    assert false_deaths(world, *range(20, 30)) == []


@pytest.mark.parametrize("loss", [0.1, 0.3])
def test_lost_packets_bury_nobody(loss: float) -> None:
    """A minute of 32 members at ten and at thirty per cent loss."""
    world = World(32, seed=9, loss=loss)
    world.run(60_000)
    assert false_deaths(world) == []


def test_a_parted_group_heals() -> None:
    """Both halves go on alone and merge within ten seconds of the healing."""
    for seed in SEEDS:
        world = World(16, seed)
        world.run(2000)
        world.part(range(8), range(8, 16))
        world.run(40_000)
        assert world.holding("dead") == 128
        world.part()
        assert all_see_all(world, 16, 10_000) is not None


def test_a_short_sleep_is_survived_and_a_long_one_ends_at_once() -> None:
    """SIGSTOP for two seconds never kills; after ten the member is back within two seconds."""
    for seed in SEEDS:
        for count in (5, 32):
            world = World(count, seed)
            world.run(3000 + 91 * seed)
            world.sleep(3)
            world.run(2000)
            world.wake(3)
            assert all_see_all(world, count, 5000) is not None
            world.run(10_000)
            assert [seen for seen in world.seen if seen.kind == "dead"] == []
            world.sleep(3)
            world.run(10_000)
            assert world.knows("dead", 3) == count - 1
            world.wake(3)
            assert all_see_all(world, count, 2000) is not None
            assert false_deaths(world, 3) == []


@pytest.mark.parametrize("gap_ms", [0, 1000, 20_000])
def test_a_restart_on_the_same_address_is_seen_as_a_new_boot(gap_ms: int) -> None:
    """Before, during and after the suspicion of the old boot."""
    for seed in SEEDS:
        world = World(32, seed)
        world.run(3000)
        world.kill(9)
        world.run(gap_ms)
        world.restart(9)

        def joined(world: World = world) -> bool:
            return sum(s.kind == "joined" and s.boot_id == "boot-2" for s in world.seen) == 31

        assert world.run_until(joined, 3000) is not None
        world.run(5000)
        assert world.holding("alive") == pairs(32)


def test_a_farewell_is_known_at_once_and_is_no_death() -> None:
    """Within a second, without a suspicion."""
    for seed in SEEDS:
        world = World(32, seed)
        world.run(3000)
        world.leave(9)
        assert world.run_until(lambda: world.knows("left", 9) == 31, 1000) is not None  # noqa: B023
        world.run(10_000)
        assert {seen.kind for seen in world.seen} == {"left"}


def test_the_cost_does_not_grow_with_the_group() -> None:
    """Bytes a second a member, at 5 and at 100 members, within a quarter."""
    rates = []
    for count in (5, 100):
        world = World(count, seed=1)
        world.run(30_000)
        rates.append(world.sent()[0] / count / 30)
    assert max(rates) / min(rates) < 1.25
    assert max(rates) < 1100


def test_a_seed_repeats_exactly() -> None:
    """A failure in simulation is a failure for ever."""

    def story() -> list[object]:
        world = World(20, seed=42, loss=0.2)
        world.run(5000)
        world.kill(4)
        world.run(8000)
        return [*world.seen, world.sent()]

    assert story() == story()
