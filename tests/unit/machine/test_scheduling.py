"""Who runs next: shares, ageing, fit, groups."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.unit.machine.driver import CONFIG, Driver, raw
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o
from workqueue.machine import scheduling
from workqueue.schema import EvaluatePayload, PlayerSpec, SelfplayPayload, TournamentPayload, TrainPayload

PLAYER = PlayerSpec("heuristic")
PAYLOADS = {
    "selfplay": lambda board: SelfplayPayload(board, 2, PLAYER, 10, 1),
    "train": lambda board: TrainPayload(board, 2, (), 10, 1),
    "tournament": lambda board: TournamentPayload(board, 2, (PLAYER,), 10, 1),
    "evaluate": lambda board: EvaluatePayload(board, 2, PLAYER, PLAYER, 10, 1),
}
WEIGHTS = {"selfplay": 0.54, "train": 0.27, "tournament": 0.09, "evaluate": 0.1}  # 60/30/10 of what evaluation leaves


@pytest.fixture
def crowd() -> Driver:
    """Everything waits: 600 jobs of each built-in kind; the invariants are looked at in other tests."""
    driver = Driver(checked=False)
    driver.worker()
    for kind in PAYLOADS:
        backlog(driver, kind, 600)
    return driver


def backlog(driver: Driver, kind: str, count: int, board: str = "square8", **fields: Any) -> None:
    driver.add(
        *(f"{kind} {board} {k} {driver.machine.last_seq}" for k in range(count)), kind=kind, config=f"{board}_2p",
        payload=raw(PAYLOADS[kind](board)), reserved=kind == "evaluate", **fields,
    )  # fmt: skip


def kinds(driver: Driver, count: int, limit: int = 1) -> list[str]:
    """Claim and return the kinds in the order they were given."""
    given: list[str] = []
    while len(given) < count:
        outcome = driver.claim(limit=limit, cpus=limit)
        assert isinstance(outcome, o.Granted)
        given += [lease.kind for lease in outcome.leases]
    return given


@pytest.mark.parametrize("limit", [1, 7])
def test_claims_are_shared_60_30_10_after_the_evaluation_share(crowd: Driver, limit: int) -> None:
    """After any number of claims no class is more than a claim and a half away from its share."""
    given = kinds(crowd, 1000, limit)
    seen: Counter[str] = Counter()
    for n, kind in enumerate(given, 1):
        seen[kind] += 1
        for each, weight in WEIGHTS.items():
            assert abs(seen[each] - n * weight) <= 1.5, (n, seen)


def test_shares_follow_the_settings(crowd: Driver) -> None:
    """From the next claim on."""
    kinds(crowd, 100)
    values = {"shares.selfplay": 20, "shares.training": 70, "shares.tournament": 10, "evaluation_share_milli": 500}
    crowd.do(c.PutSettings({name: raw(value) for name, value in values.items()}))
    seen = Counter(kinds(crowd, 400))
    expected = {"selfplay": 40, "train": 140, "tournament": 20, "evaluate": 200}
    assert all(abs(seen[kind] - count) <= 3 for kind, count in expected.items()), seen


def test_what_a_class_does_not_use_goes_to_the_others() -> None:
    """Two to one without tournaments and evaluations; a class that was idle claims no arrears when it comes back."""
    driver = Driver(checked=False)
    driver.worker()
    for kind in ("selfplay", "train"):
        backlog(driver, kind, 600)
    seen = Counter(kinds(driver, 300))
    assert abs(seen["selfplay"] - 200) <= 1
    backlog(driver, "tournament", 100)
    back = Counter(kinds(driver, 100))
    assert abs(back["tournament"] - 10) <= 1, back


def test_configs_share_their_class_equally() -> None:
    """A thousand jobs of one config do not keep those of eleven others waiting."""
    driver = Driver(checked=False)
    driver.worker()
    boards = [f"board{k}" for k in range(12)]
    backlog(driver, "selfplay", 500, boards[0], priority=100)
    for board in boards[1:]:
        backlog(driver, "selfplay", 20, board, priority=0)
    outcomes = [driver.lease().config for _ in range(120)]
    assert set(Counter(outcomes).values()) == {10}
    assert len(set(outcomes[:12])) == 12


def test_priority_orders_and_age_overtakes(driver: Driver) -> None:
    """Ten points are a minute of waiting, in the order of arrival among equals."""
    for name, priority in (("low", 10), ("high", 90), ("middle", 50), ("middle too", 50)):
        driver.add(name, priority=priority)
    driver.now_ms += 40 * scheduling.AGE_MS - 1
    driver.add("late and high", priority=90)
    driver.now_ms += 1
    driver.add("later", priority=90)
    order = [driver.lease().job for _ in range(6)]
    assert order == ["high", "late and high", "middle", "middle too", "later", "low"]


@pytest.mark.parametrize("priority", [0, 40, 99])
def test_nobody_is_overtaken_for_longer_than_priority_is_worth(priority: int) -> None:
    """While higher jobs keep coming, one a claim, the old one's wait has a bound."""
    driver = Driver(checked=False)
    driver.kind()
    driver.worker()
    driver.add("old", priority=priority)
    bound_ms = (100 - priority) * scheduling.AGE_MS
    began_ms = driver.now_ms
    step_ms = max(1, bound_ms // 50)
    for k in range(100):
        driver.add(f"new{k}", priority=100)
        if driver.lease().job == "old":
            break
        driver.now_ms += step_ms
    assert bound_ms <= driver.now_ms - began_ms <= bound_ms + step_ms


def test_a_released_job_keeps_its_place(driver: Driver) -> None:
    """Whoever gives a job back does not send it to the end of the queue."""
    driver.add("a")
    driver.now_ms += 1000
    driver.add("b")
    driver.do(c.Release("w1", driver.lease().job, 1))
    assert driver.lease().job == "a"


@pytest.mark.parametrize(
    ("needs", "has", "words"),
    [
        ({"cpus": 9}, {}, "has fewer than 9 CPUs: 8"),
        ({"ram_mb": 8001}, {}, "MB of memory"),
        ({"disk_mb": 8001}, {}, "MB of disk"),
        ({"vram_mb": 1}, {}, "has no device with 1 MB"),
        ({"device": True}, {}, "has no device"),
        (
            {"vram_mb": 9000},
            {"devices": (("gpu", 8000), ("gpu", 8000))},
            "has no device with 9000 MB of memory: 8000 MB",
        ),
        ({"labels": ("eu", "ecc")}, {"labels": ("eu",)}, "needs the label ecc"),
        ({"build": "b2"}, {"build": "b1"}, "needs build b2, the worker has b1"),
        ({"build": "b2"}, {}, "the worker has none"),
    ],
)
def test_a_job_runs_only_where_it_fits(needs: dict[str, Any], has: dict[str, Any], words: str) -> None:
    """The rest of the queue goes on past it, and `explain` says what is missing."""
    driver = Driver()
    driver.kind()
    driver.worker(**has)
    driver.add("big", requires=c.Requirements(**needs), priority=100)
    driver.add("small", priority=0)
    free = {"vram_mb": tuple(mb for _, mb in has.get("devices", ())), "devices": (0, 1) if "devices" in has else ()}
    assert [lease.job for lease in driver.claim(limit=5, **free).leases] == ["small"]
    explanation = driver.view("explain", job="big")
    assert explanation.verdict == "no worker can run it now"
    assert words in explanation.reasons["w1"]


def test_kinds_and_rules_must_be_the_workers(driver: Driver) -> None:
    """A worker runs what it registered for, or less when it says so; a payload of other rules is left alone."""
    driver.kind("other")
    driver.add("a", kind="other")
    assert isinstance(driver.claim(), o.Empty)
    driver.worker("w2", kinds=("other", "selfplay"), rules_version="r1")
    narrow = c.Claim("w2", "b1", c.Free(8, 8000, 8000), 1, ("selfplay",))
    assert isinstance(driver.do(narrow), o.Empty)
    assert driver.lease("w2").job == "a"
    for name, rules in (("p2", "r2"), ("p1", "r1")):
        payload = SelfplayPayload("square8", 2, PLAYER, 10, 1, rules_version=rules)
        driver.add(name, kind="selfplay", config=CONFIG, payload=raw(payload))
    assert driver.lease("w2").job == "p1"
    assert "needs rules version r2" in driver.view("explain", job="p2").reasons["w2"]


def test_one_claim_does_not_promise_more_than_is_free(driver: Driver) -> None:
    """CPUs, memory and device memory of a batch are counted off job by job; exclusive devices are given once."""
    driver.worker("w2", devices=(("gpu", 8000), ("gpu", 8000)))
    free = {"cpus": 4, "ram_mb": 3000, "vram_mb": (8000, 8000), "devices": (0, 1)}
    driver.add(*(f"r{k}" for k in range(9)), requires=c.Requirements(ram_mb=1000))
    assert len(driver.claim("w2", limit=9, **free).leases) == 3
    driver.do(c.Cancel(tuple(row.id for row in driver.view("queue", state="available").jobs)))
    driver.add(*(f"v{k}" for k in range(9)), requires=c.Requirements(vram_mb=5000))
    assert [lease.device for lease in driver.claim("w2", limit=9, **free).leases] == [0, 1]
    driver.do(c.Cancel(tuple(row.id for row in driver.view("queue", state="available").jobs)))
    driver.add(*(f"d{k}" for k in range(9)), requires=c.Requirements(device=True, vram_mb=1000))
    assert [lease.device for lease in driver.claim("w2", limit=9, **free).leases] == [0, 1]
    assert isinstance(driver.claim("w2", **{**free, "devices": ()}), o.Empty)


def test_draining_quarantined_and_strange_workers_get_nothing(driver: Driver) -> None:
    """Each is told what it is; nothing is lost."""
    driver.add("a")
    driver.do(c.DrainWorker("w1"))
    assert isinstance(driver.claim(), o.Empty)
    assert driver.view("explain", job="a").reasons == {"w1": "the worker is draining"}
    driver.do(c.DrainWorker("w1", on=False))
    driver.do(c.QuarantineWorker("w1", reason="hot"))
    assert driver.claim().code is o.Code.QUARANTINED
    driver.do(c.QuarantineWorker("w1", on=False))
    assert driver.claim("w1", "other boot").code is o.Code.NOT_FOUND
    assert driver.claim("nobody").code is o.Code.NOT_FOUND
    driver.do(c.DeregisterWorker("w1", "b1", "night"))
    assert driver.claim().code is o.Code.NOT_FOUND
    driver.worker("w1", "b2")
    assert driver.lease("w1", "b2").job == "a"


def test_a_group_spans_kinds_and_configs(driver: Driver) -> None:
    """One at a time, wherever its jobs belong; its place is free when the job ends, however it ends."""
    driver.kind("other")
    driver.worker("w2", kinds=("plain", "other"))
    for k, (kind, config) in enumerate([("plain", CONFIG), ("other", CONFIG), ("plain", "hex8_2p"), ("other", "")]):
        driver.add(f"j{k}", kind=kind, config=config, group="g", lease_ms=1_000)
    ends = [
        lambda lease: driver.complete(lease, "w2"),
        lambda lease: driver.do(c.Hold((lease.job,))),
        lambda _: driver.do(c.EndBoot("w2", "b1", "gone")),
        lambda _: driver.tick(1_000),
    ]
    for k, end in enumerate(ends):
        [lease] = driver.claim("w2", f"b{max(1, k - 1)}", limit=4).leases
        assert driver.view("explain", job=driver.view("queue", state="available").jobs[0].id).verdict.startswith(
            "group g runs as many"
        )
        end(lease)
        if k == 2:
            driver.worker("w2", "b2")
    assert isinstance(driver.restored().claim("w2", "b2"), o.Granted)


def test_a_claim_that_finds_nothing_says_when_to_look_again(driver: Driver) -> None:
    """And changes nothing but that the worker was seen."""
    driver.now_ms += 500
    empty = driver.claim()
    assert isinstance(empty, o.Empty)
    assert empty.retry_ms > 0
    assert driver.view("worker", worker="w1").seen_ms == driver.now_ms
    assert isinstance(driver.claim(limit=0), o.Empty)


def served(driver: Driver, count: int, **free: Any) -> list[str]:
    """Claim one by one and return the jobs in the order they were given."""
    return [driver.claim(**free).leases[0].job for _ in range(count)]


def test_equal_turns_go_by_name() -> None:
    """Whatever came first: a replica that restored a snapshot has seen another order."""
    driver = Driver()
    for kind in ("zulu", "alpha"):
        driver.kind(kind)
    driver.worker(kinds=("alpha", "zulu"))
    driver.add("zulu", kind="zulu")
    for config in ("b", "a"):
        driver.add(f"alpha {config}", kind="alpha", config=config)
    assert served(driver, 3) == ["alpha a", "zulu", "alpha b"]


def test_whoever_was_idle_has_no_turn_before_those_who_are_due() -> None:
    """It counts from the clock of the last served, so it is a tie, and the name decides."""
    driver = Driver()
    driver.kind()
    driver.worker()
    for config in "abc":
        driver.add(*(f"{config}{k}" for k in range(2)), config=config)
    assert served(driver, 4) == ["a0", "b0", "c0", "a1"]
    driver.add("d0", config="d")
    assert served(driver, 3) == ["b1", "c1", "d0"]


def test_turns_are_kept_among_those_behind_one_that_does_not_fit() -> None:
    """The config whose turn it is has no job that the worker has room for; the others still take turns."""
    driver = Driver()
    driver.kind()
    driver.worker()
    driver.add("a0", config="a", requires=c.Requirements(cpus=8))
    for config in "bc":
        driver.add(*(f"{config}{k}" for k in range(2)), config=config)
    assert served(driver, 4, cpus=1) == ["b0", "c0", "b1", "c1"]


def test_what_is_reserved_is_not_mixed_with_its_kind() -> None:
    """Two classes, two buckets, though the jobs have everything else in common."""
    driver = Driver()
    driver.kind()
    driver.worker()
    driver.add("plain")
    driver.add("kept", reserved=True)
    assert served(driver, 2) == ["kept", "plain"]
