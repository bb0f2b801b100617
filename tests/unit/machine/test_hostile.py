"""Entries that mean harm: every one is answered, and the state can still be written, read and shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.unit.machine.driver import CONFIG, Driver, raw
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o
from workqueue.machine.machine import Machine
from workqueue.schema import (
    EvaluatePayload,
    GameResult,
    MatchesResult,
    PlayerSpec,
    SelfplayPayload,
    SelfplayResult,
    ShardRef,
    TournamentPayload,
)

NO_TEXT = msgspec.Raw(b"\x81\xa5board\xa2\xff\xfe")  # a map whose string is not UTF-8
HUGE = ((1 << 63) - 1, (1 << 64) - 1, -(1 << 63))


def whole(driver: Driver) -> None:
    """What is replicated can be written and read back, and every view can be shown."""
    twin = driver.restored()
    assert twin.picture() == driver.picture()
    for name in ("queue", "workers", "locks", "models", "artifacts", "settings", "audit", "loop", "status", "elo"):
        msgspec.json.encode(driver.view(name))
        msgspec.msgpack.encode(driver.view(name))
    for row in driver.view("queue").jobs:
        msgspec.json.encode(driver.view("job", job=row.id))
        driver.view("explain", job=row.id)


@pytest.mark.parametrize("kind", ["selfplay", "train", "evaluate", "plain"])
def test_text_that_is_none_is_refused(driver: Driver, kind: str) -> None:
    """A payload with a string that is not UTF-8 does not stop a voter."""
    outcome = driver.add("a", kind=kind, config=CONFIG, payload=NO_TEXT)
    assert isinstance(outcome, o.Enqueued if kind == "plain" else o.Refused)
    whole(driver)


def test_results_cursors_and_settings_that_are_no_text(driver: Driver) -> None:
    """Nor does any other field that is kept as it came."""
    lease = driver.selfplay("p")
    driver.do(c.Renew("w1", "b1", (c.LeaseRenewal("p", lease.attempt, NO_TEXT, NO_TEXT),)))
    whole(driver)
    [settled] = driver.do(c.Complete("w1", (c.Completion("p", lease.attempt, NO_TEXT),))).settled
    assert settled.code is o.Code.INVALID_RESULT
    assert driver.do(c.PutSettings({"target_elo": NO_TEXT})).code is o.Code.INVALID
    driver.store("m", kind="weights")
    assert driver.do(c.RegisterModel("m", CONFIG, NO_TEXT)) == o.Changed(("m",))
    assert driver.view("model", sha256="m").manifest is None
    whole(driver)


def test_progress_of_odd_types_can_be_shown(driver: Driver) -> None:
    """Extension types and keys that are no text are msgpack, but no JSON."""
    driver.add("a")
    lease = driver.lease()
    for odd in (b"\xd6\x05\0\0\0\0", b"\x81\x92\x01\x02\xc0", b"\x81\xcb\x7f\xf8\0\0\0\0\0\0\xc0", b"\xc4\x01\xff"):
        note = c.LeaseRenewal("a", lease.attempt, msgspec.Raw(odd), msgspec.Raw(odd))
        driver.do(c.Renew("w1", "b1", (note,)))
        whole(driver)


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize(
    "make",
    [
        lambda n: c.Acquire("lock", "me", n),
        lambda n: c.Acquire("lock", "me", 1, n),
        lambda n: c.Enqueue((c.JobSpec("h", "plain", lease_ms=n),)),
        lambda n: c.Enqueue((c.JobSpec("h", "plain", run_at_ms=n),)),
        lambda n: c.Enqueue((c.JobSpec("h", "plain", total_ms_max=n, wait_ms_max=n),)),
        lambda n: c.Enqueue((c.JobSpec("h", "plain", retry=c.RetryPolicy(n, n, n)),)),
        lambda n: c.Enqueue((c.JobSpec("h", "plain", requires=c.Requirements(n, n, n, n)),)),
        lambda n: c.RegisterWorker("w9", "b", c.Capability(n, n, n, (("gpu", n),), kinds=("plain",), rates={"x": n})),
        lambda n: c.RegisterArtifact(c.ArtifactRef("big", n, "log"), ("v1",)),
        lambda n: c.RegisterKind("greedy", share=n),
        lambda n: c.BeginTerm(n),
        lambda n: c.SilenceAlert("disk", n),
        lambda n: c.PutToken("t", "read", "hash", expires_ms=n),
        lambda n: c.Claim("w1", "b1", c.Free(n, n, n, (n,), (n,)), n),
        lambda n: c.RejectModel("m1", c.Evidence("sprt", games=n, llr_milli=n, floors={"x": (n, n, n)}), "x"),
    ],
)
def test_huge_numbers_do_not_outgrow_what_is_kept(
    driver: Driver, make: Callable[[int], c.Command], number: int
) -> None:
    """Sums of what was accepted stay numbers that a snapshot can hold."""
    driver.train("t", "m1")
    driver.add("a", "b", lease_ms=1_000)
    for _ in range(2):
        driver.do(make(number))
        driver.claim()
        driver.do(c.Fail("w1", "h", 1, "x"))
        driver.tick(2_000)
        whole(driver)


def test_results_with_huge_numbers(driver: Driver) -> None:
    """Totals of a config do not outgrow their place, however often a worker lies."""
    most = (1 << 64) - 1
    player = PlayerSpec("heuristic")
    for k in range(3):
        payload = SelfplayPayload("square8", 2, player, most, most)
        driver.add(f"p{k}", kind="selfplay", config=CONFIG, payload=raw(payload))
        lease = driver.lease()
        driver.store("s")
        result = SelfplayResult(most, most, most, most, (ShardRef("s", most, most, most),), (most,), player.key, "")
        driver.complete(lease, result=result, artifacts=("s",))
        whole(driver)


@pytest.mark.parametrize("players", [0, 1, 5, 1000])
def test_no_game_has_so_many_players(driver: Driver, players: int) -> None:
    """A match of one, or of a thousand, is refused when it is enqueued or when it is reported."""
    entrant = PlayerSpec("heuristic")
    for kind, payload in (
        ("tournament", TournamentPayload("square8", players, (entrant,), 1, 1)),
        ("evaluate", EvaluatePayload("square8", players, entrant, entrant, 1, 1)),
    ):
        refused = driver.add(kind, kind=kind, config=f"square8_{players}p", payload=raw(payload))
        assert (refused.code, "players" in refused.message) == (o.Code.INVALID, True)


def test_a_match_seats_as_many_as_its_payload(driver: Driver) -> None:
    """Fewer, more, unranked, strange, unplayed or repeated: the result is refused and the lease stays."""
    pair = (PlayerSpec("random"), PlayerSpec("heuristic"))
    keys = tuple(player.key for player in pair)
    driver.add("m", kind="tournament", config=CONFIG, payload=raw(TournamentPayload("square8", 2, pair, 1, 1)))
    lease = driver.lease()
    driver.store("games1", kind="games")
    good = GameResult("g", keys, (1, 2), 9, "x", "o", "games1")
    change = msgspec.structs.replace
    for bad in (
        (change(good, seats=keys[:1], ranks=(1,)),),
        (change(good, seats=keys * 2, ranks=(1, 2, 3, 4)),),
        (change(good, ranks=(2, 2)),),
        (change(good, seats=(keys[0], "stranger")),),
        (change(good, plies=0),),
        (change(good, record="elsewhere"),),
        (good, good),
        (),
    ):
        refused = driver.complete(lease, result=MatchesResult(bad, 1, ""), artifacts=("games1",))
        assert refused.code is o.Code.INVALID_RESULT, bad
    assert driver.complete(lease, result=MatchesResult((good,), 1, ""), artifacts=("games1",)).state == "completed"


def entry(*commands: Any, now_ms: int = 2_000_000) -> bytes:
    return msgspec.msgpack.encode([1, now_ms, [["c", k, "a", command] for k, command in enumerate(commands)]])


def at_depth(frames: int, call: Callable[[], Any]) -> Any:
    """Call below so many frames of stack."""
    return call() if not frames else at_depth(frames - 1, call)


@pytest.mark.parametrize("depth", [40, 300, 800, 900, 950, 5_000])
@pytest.mark.parametrize("place", ["payload", "unknown field", "extra argument", "setting", "progress", "request"])
def test_nesting_is_judged_alike_however_deep_the_stack(depth: int, place: str) -> None:
    """A replica that replays its log from another place in the program reads the same entries."""
    deep = msgspec.Raw(b"\x91" * depth + b"\xc0")
    job = {"id": "a", "kind": "plain"}
    lease = {"job": "x", "attempt": 1, "cursor": deep}
    good = {"type": "Enqueue", "jobs": [{"id": "good", "kind": "plain"}]}
    bad: Any = {
        "payload": {"type": "Enqueue", "jobs": [{**job, "payload": deep}]},
        "unknown field": {"type": "Enqueue", "jobs": [job], "novel": deep},
        "extra argument": {"type": "Enqueue", "jobs": [job]},
        "setting": {"type": "PutSettings", "values": {"target_elo": deep}},
        "progress": {"type": "Renew", "worker": "w1", "boot": "b1", "leases": [lease]},
        "request": deep,
    }[place]  # fmt: skip
    requests = [["c", 1, "a", bad], ["c", 2, "a", good]]
    if place == "extra argument":
        requests[0].append(deep)
    data = msgspec.msgpack.encode([1, 2_000_000, requests])
    seen = set()
    for frames in (0, 60, 200):
        driver = Driver()
        driver.kind()
        outcomes = at_depth(frames, lambda: driver.machine.apply(data))  # noqa: B023
        seen.add((msgspec.msgpack.encode(outcomes), driver.picture()))
        whole(driver)
    assert len(seen) == 1
    assert isinstance(outcomes[-1], o.Enqueued), "one bad request took another with it"
    if depth > 300:
        assert isinstance(outcomes[0], o.Refused)


def test_a_bad_request_leaves_the_others_of_its_batch_alone() -> None:
    """Of three the middle one cannot be read."""
    machine = Machine()
    outcomes = machine.apply(entry({"type": "RegisterKind", "name": "x"}, {"type": "Nonsense"}, {"type": "Tick"}))
    assert [type(outcome) for outcome in outcomes] == [o.Changed, o.Refused, o.Changed]
    assert outcomes[1].code is o.Code.MALFORMED  # type: ignore[attr-defined]


def test_entries_of_another_version_are_refused_whole() -> None:
    """With one outcome a request, and no effect on time."""
    machine = Machine()
    data = msgspec.msgpack.encode([2, 5_000_000, [["c", 1, "a", {"type": "Tick"}], ["what", "else"]]])
    assert [outcome.code for outcome in machine.apply(data)] == [o.Code.VERSION] * 2  # type: ignore[attr-defined]
    assert machine.query("status", {}).now_ms == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("data", [b"", b"\x93", b"\xc1", b"\x91\x01", b"\xff" * 100, b"\x80", b"\xdd\xff\xff\xff\xff"])
def test_what_is_no_entry_is_answered(data: bytes) -> None:
    """With one refusal that says what an entry is."""
    [outcome] = Machine().apply(data)
    assert isinstance(outcome, o.Refused)
    assert outcome.code is o.Code.MALFORMED


assert sys.getrecursionlimit() <= 1_000, "the depths above are chosen for this limit"
