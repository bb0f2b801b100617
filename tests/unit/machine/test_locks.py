"""Named locks and semaphores: places with a time to live, fenced by a rising token."""

from __future__ import annotations

from tests.unit.machine.driver import Driver
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o

NAME = "train/square8_2p"


def take(driver: Driver, holder: str, ttl_ms: int = 1_000, limit: int = 1) -> o.Locked | o.Refused:
    outcome = driver.do(c.Acquire(NAME, holder, ttl_ms, limit))
    assert isinstance(outcome, o.Locked | o.Refused)
    return outcome


def token(outcome: o.Locked | o.Refused) -> int:
    assert isinstance(outcome, o.Locked)
    return outcome.token


def test_a_place_lives_as_long_as_it_is_renewed(driver: Driver) -> None:
    """Renewal extends, never shortens, and does not bring an expired place back."""
    mine = token(take(driver, "me"))
    driver.now_ms += 900
    assert driver.do(c.RenewLock(NAME, mine, 1_000)) == o.Locked(NAME, mine, driver.now_ms + 1_000)
    assert driver.do(c.RenewLock(NAME, mine, 10)) == o.Locked(NAME, mine, driver.now_ms + 1_000)
    driver.tick(999)
    assert isinstance(take(driver, "you"), o.Refused)
    driver.now_ms += 1
    assert driver.do(c.RenewLock(NAME, mine, 1_000)).code is o.Code.STALE_TOKEN


def test_a_lock_may_be_taken_the_moment_it_expires(driver: Driver) -> None:
    """Also before the next tick; the old holder is fenced off, and cannot give the new one's place back."""
    old = token(take(driver, "me"))
    busy = take(driver, "you")
    assert isinstance(busy, o.Refused)
    assert (busy.code, busy.retry_ms, busy.current) == (o.Code.BUSY, 1_000, "me")
    driver.now_ms += busy.retry_ms
    new = token(take(driver, "you"))
    assert new > old
    assert driver.do(c.Unlock(NAME, old)).code is o.Code.STALE_TOKEN
    assert driver.do(c.RenewLock(NAME, old, 1_000)).code is o.Code.STALE_TOKEN
    assert driver.do(c.Unlock(NAME, new)) == o.Changed((NAME,))
    assert driver.view("locks") == ()


def test_tokens_rise_over_all_locks_and_snapshots(driver: Driver) -> None:
    """A token is never given twice."""
    seen = []
    for k in range(3):
        outcome = driver.do(c.Acquire(f"lock{k}", "me", 1_000))
        seen.append(outcome.token)
        driver.do(c.Unlock(f"lock{k}", outcome.token))
        driver = driver.restored()
    assert seen == sorted(set(seen))


def test_a_semaphore_has_places(driver: Driver) -> None:
    """As many as its limit; each expires alone."""
    first = token(take(driver, "a", 1_000, limit=2))
    driver.now_ms += 500
    token(take(driver, "b", 1_000, limit=2))
    assert isinstance(take(driver, "c", limit=2), o.Refused)
    assert driver.do(c.RenewLock("other", first, 1_000)).code is o.Code.STALE_TOKEN
    assert driver.tick(500).ids == (NAME,)
    token(take(driver, "c", limit=2))
    [lock] = driver.view("locks")
    assert [place.holder for place in lock.places] == ["b", "c"]


def test_whoever_wants_to_be_alone_waits_for_all_others(driver: Driver) -> None:
    """A smaller limit than before is kept: two hold places, the one who asks for a single place is refused."""
    first, second = (token(take(driver, name, limit=3)) for name in "ab")
    assert isinstance(take(driver, "alone", limit=1), o.Refused)
    assert isinstance(take(driver, "alone", limit=2), o.Refused)
    driver.do(c.Unlock(NAME, first))
    assert isinstance(take(driver, "alone", limit=1), o.Refused)
    driver.do(c.Unlock(NAME, second))
    token(take(driver, "alone", limit=1))
    assert isinstance(take(driver, "greedy", limit=5), o.Refused), "a larger limit does not break in"


def test_a_broken_lock_fences_its_holders(driver: Driver) -> None:
    """An operator frees it; whoever held it learns it at the next renewal."""
    mine = token(take(driver, "me"))
    assert driver.do(c.BreakLock(NAME, "holder is gone"), actor="ada") == o.Changed((NAME,))
    assert driver.do(c.RenewLock(NAME, mine, 1_000)).code is o.Code.STALE_TOKEN
    assert driver.do(c.BreakLock(NAME, "again")).code is o.Code.NOT_FOUND
    assert driver.view("audit")[0].action == "break lock"
    token(take(driver, "you"))


def test_bad_locks_are_refused(driver: Driver) -> None:
    """No name, no time, no place."""
    for wrong in (c.Acquire("", "me", 1), c.Acquire("x", "me", 0), c.Acquire("x", "me", 1, 0)):
        assert driver.do(wrong).code is o.Code.INVALID
    assert driver.view("locks") == ()


def test_a_restored_replica_expires_locks_alike(driver: Driver) -> None:
    """Places that were renewed before the snapshot end at the same moment after it."""
    mine = token(take(driver, "me", 1_000, limit=2))
    token(take(driver, "you", 1_500, limit=2))
    driver.now_ms += 900
    driver.do(c.RenewLock(NAME, mine, 2_000))
    twin = driver.restored()
    for ms in (500, 100, 1_300, 100):
        assert driver.tick(ms) == twin.tick(ms)
        assert driver.picture() == twin.picture()
    assert driver.view("locks") == ()


def test_a_new_leader_gives_every_place_another_term(driver: Driver) -> None:
    """While nobody led nobody could renew: the holder keeps its lock, on a restored replica too."""
    mine = token(take(driver, "me", 1_000))
    driver.now_ms += 5_000
    driver.do(c.BeginTerm(2))
    assert isinstance(take(driver, "you"), o.Refused)
    twin = driver.restored()
    for each in (driver, twin):
        each.tick(999)
        assert isinstance(each.do(c.RenewLock(NAME, mine, 1_000)), o.Locked)
        assert isinstance(each.do(c.BeginTerm(2)), o.Changed)
        each.tick(1_000)
        assert each.view("locks") == ()
    assert driver.picture() == twin.picture()
