"""Cheating workers are found by those who are asked again, lose their data, and honest ones are left alone."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.unit.workqueue.conftest import running_voter
from workqueue.duties import canary, trust
from workqueue.duties.bootstrap import DUTY as BOOTSTRAP
from workqueue.duties.canary import CANARY_MS, Canary
from workqueue.duties.context import DutyContext
from workqueue.machine.commands import (
    ArtifactRef,
    Capability,
    Claim,
    Complete,
    Completion,
    Enqueue,
    Free,
    JobSpec,
    PutSettings,
    QuarantineWorker,
    RegisterArtifact,
    RegisterWorker,
    Release,
)
from workqueue.machine.outcomes import Granted, Lease, Refused
from workqueue.machine.views import Match
from workqueue.schema import (
    GameResult,
    MatchesResult,
    PlayerSpec,
    SelfplayPayload,
    SelfplayResult,
    ShardRef,
    TournamentPayload,
    VerifyPayload,
    VerifyResult,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CONFIG = "square8_2p"
HEURISTIC, RANDOM = PlayerSpec("heuristic"), PlayerSpec("random")
KINDS = ("selfplay", "tournament", "verify")


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


class Cluster:
    """A real machine with workers that play by a made-up rule: who wins follows from seed and index."""

    def __init__(self, context: DutyContext) -> None:
        self.context = context
        self.duty = Canary()
        self.workers: dict[str, bool] = {}  # name -> whether it cheats
        self.lazy: set[str] = set()  # whose self-play is legal, but by another engine than asked for
        self.makers: dict[str, str] = {}  # artifact -> by whom
        self.truth: dict[str, tuple[tuple[int, ...], ...]] = {}  # artifact -> how its games end by the rules
        self.numbers = itertools.count(1)
        self.clock_ms = 500 * CANARY_MS

    async def join(self, name: str, *, cheats: bool = False, build: str = "") -> None:
        self.workers[name] = cheats
        capability = Capability(4, 10, 10, kinds=KINDS, build=build)
        await self.context.propose(RegisterWorker(name, f"boot-{name}", capability))

    async def add(self, *jobs: JobSpec) -> None:
        await self.context.propose(Enqueue(jobs))

    async def work(self) -> int:
        """Every worker does one job after the other until nothing is left; returns how many."""
        done, idle = 0, False
        while not idle:
            idle = True
            for name in self.workers:
                claim = Claim(name, f"boot-{name}", Free(4, 10, 10))
                [outcome] = await self.context.propose(claim)
                if isinstance(outcome, Granted):
                    done, idle = done + 1, False
                    await self.do(name, outcome.leases[0])
        return done

    async def do(self, name: str, lease: Lease) -> None:
        ref, result = getattr(self, f"_{lease.kind}")(name, lease)
        refs = (ref,) if ref else ()
        for each in refs:
            await self.context.propose(RegisterArtifact(each, ("voter-1",), CONFIG))
        [completed] = await self.context.propose(
            Complete(name, (Completion(lease.job, lease.attempt, raw(result), refs),))
        )
        assert not isinstance(completed.settled[0], Refused), completed  # type: ignore[union-attr]

    def _artifact(self, maker: str, kind: str, ranks: tuple[tuple[int, ...], ...]) -> ArtifactRef:
        name = f"{next(self.numbers):064d}"
        self.truth[name] = ranks
        self.makers[name] = maker
        return ArtifactRef(name, 10, kind)

    def _selfplay(self, name: str, lease: Lease) -> tuple[ArtifactRef, SelfplayResult]:
        payload = msgspec.msgpack.decode(lease.payload, type=SelfplayPayload)
        real = 0 if self.workers[name] else payload.games  # a cheat's shard holds nothing
        ref = self._artifact(name, "shard", ((1, 2),) * real)
        shards = (ShardRef(ref.sha256, 10, payload.games, 100),)
        key = payload.player.key
        return ref, SelfplayResult(payload.games, 100, 100, 1, shards, (payload.games, 0), key, "")

    def _tournament(self, name: str, lease: Lease) -> tuple[ArtifactRef, MatchesResult]:
        payload = msgspec.msgpack.decode(lease.payload, type=TournamentPayload)
        seats = tuple(player.key for player in payload.entrants)
        chance = random.Random(payload.seed)
        real = tuple(chance.choice(((1, 2), (2, 1))) for _ in range(payload.games))
        ref = self._artifact(name, "games", real)
        told = tuple((2, 1) for _ in real) if self.workers[name] else real
        games = tuple(
            GameResult(f"{payload.seed}-{k}", seats, ranks, 40, "x", f"o{k}", ref.sha256, k)
            for k, ranks in enumerate(told)
        )
        return ref, MatchesResult(games, 1, "")

    def _verify(self, name: str, lease: Lease) -> tuple[None, VerifyResult]:
        payload = msgspec.msgpack.decode(lease.payload, type=VerifyPayload)
        real = self.truth[payload.shard or payload.record]
        if self.workers[name]:
            return None, VerifyResult(ok=False, detail="I do not like it")
        told = VerifyResult(ok=True, games=len(real), outcomes=real, plies=(40,) * len(real))
        if payload.asked is None or not real:
            return None, told
        assert payload.asked.seed == 1
        decisions = 50 * len({lot % len(real) for lot in payload.again})
        share = 40 if self.makers[payload.shard] in self.lazy else 97
        return None, msgspec.structs.replace(told, decisions=decisions, agreed=decisions * share // 100)

    async def look(self, times: int = 6) -> None:
        """The duty looks, the workers work, and so on."""
        for _ in range(times):
            await self.duty.run(self.context)
            await self.work()

    async def quarantined(self) -> dict[str, str]:
        return {w["id"]: w["reason"] for w in await self.context.query("workers") if w["quarantined"]}


def selfplay(name: str) -> JobSpec:
    return JobSpec(name, "selfplay", raw(SelfplayPayload("square8", 2, HEURISTIC, 10, 1)), CONFIG)


def tournament(name: str, seed: int) -> JobSpec:
    payload = TournamentPayload("square8", 2, (HEURISTIC, RANDOM), 8, seed)
    return JobSpec(name, "tournament", raw(payload), CONFIG)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running_voter(tmp_path, real=True) as voter:
        found = Cluster(DutyContext(voter.context, "canary", lambda: found.clock_ms))
        await BOOTSTRAP.run(found.context)
        yield found


@pytest.mark.parametrize("cheats", [("w2",), ("w3",), ()])
async def test_invented_results_are_found_and_taken_back(cluster: Cluster, cheats: tuple[str, ...]) -> None:
    """From invented games to quarantine, revoked shards, struck matches and a told reason; nobody else is touched."""
    for name in ("w1", "w2", "w3"):
        await cluster.join(name, cheats=name in cheats)
    await cluster.add(*(selfplay(f"selfplay-{k}") for k in range(9)))
    await cluster.add(*(tournament(f"t-{k}", k) for k in range(9)))
    await cluster.work()
    before = await cluster.context.query("shards", config=CONFIG)
    assert {shard["worker"] for shard in before} == {"w1", "w2", "w3"}
    await cluster.look()
    found = await cluster.quarantined()
    assert set(found) == set(cheats)
    assert all(reason.startswith("cheats: ") for reason in found.values())
    assert {shard["worker"] for shard in await cluster.context.query("shards", config=CONFIG)} == (
        {"w1", "w2", "w3"} - set(cheats)
    )
    for match in await cluster.context.query("matches", limit=1000):
        assert match.get("revoked", False) == (match["worker"] in cheats)
    [row] = [row for row in (await cluster.context.query("elo"))[CONFIG] if row["player"] == HEURISTIC.key]
    honest = [m for m in await cluster.context.query("matches", limit=1000) if not m.get("revoked", False)]
    assert row["games"] == len(honest), "ratings follow from what is left"
    if cheats:
        audit = await cluster.context.query("audit")
        assert {entry["action"] for entry in audit} >= {"quarantine", "revoke"}
        assert all(entry["actor"] == "duty:canary" for entry in audit if entry["action"] == "revoke")


async def test_legal_games_of_another_engine_are_found(cluster: Cluster) -> None:
    """Some of its games are played again from their seeds by others, and do not come out the same."""
    for name in ("w1", "w2", "w3"):
        await cluster.join(name)
    cluster.lazy.add("w2")
    await cluster.add(*(selfplay(f"selfplay-{k}") for k in range(9)))
    await cluster.work()
    await cluster.look()
    [(name, reason)] = (await cluster.quarantined()).items()
    assert name == "w2"
    assert "only 40 of 100 decisions" in reason or "only 20 of 50 decisions" in reason
    assert {shard["worker"] for shard in await cluster.context.query("shards", config=CONFIG)} == {"w1", "w3"}


async def test_shards_that_several_workers_had_a_part_in_convict_nobody(cluster: Cluster) -> None:
    """Who took over a job with another's shards is not blamed for them; the shards are out of training."""
    for name in ("w1", "w2", "w3"):
        await cluster.join(name)
    await cluster.add(selfplay("s"))
    [outcome] = await cluster.context.propose(Claim("w1", "boot-w1", Free(4, 10, 10)))
    assert isinstance(outcome, Granted)
    lease = outcome.leases[0]
    await cluster.context.propose(Release("w1", lease.job, lease.attempt, reason="stopped"))
    [outcome] = await cluster.context.propose(Claim("w2", "boot-w2", Free(4, 10, 10)))
    assert isinstance(outcome, Granted)
    assert outcome.leases[0].attempt == 2
    cluster.lazy.add("w2")
    await cluster.do("w2", outcome.leases[0])
    assert len(await cluster.context.query("shards", config=CONFIG)) == 1
    await cluster.look()
    assert await cluster.quarantined() == {}
    assert await cluster.context.query("shards", config=CONFIG) == []
    [revoked] = [entry for entry in await cluster.context.query("audit") if entry["action"] == "revoke"]
    assert "several workers" in revoked["reason"]


async def test_games_are_not_played_again_where_the_settings_say_so(cluster: Cluster) -> None:
    """With `verify_games` 0 the rules alone are looked at."""
    for name in ("w1", "w2"):
        await cluster.join(name)
    settings = await cluster.context.query("settings")
    await cluster.context.propose(PutSettings({"verify_games": raw(0)}, settings["version"], ""))
    cluster.lazy.add("w2")
    await cluster.add(*(selfplay(f"selfplay-{k}") for k in range(9)))
    await cluster.work()
    await cluster.look()
    assert await cluster.quarantined() == {}
    rows = (await cluster.context.query("queue", kind="verify"))["jobs"]
    payloads = [(await cluster.context.query("job", job=row["id"]))["payload"] for row in rows]
    assert payloads
    assert not any("asked" in payload or "again" in payload for payload in payloads)


async def test_with_two_workers_the_rules_decide(cluster: Cluster) -> None:
    """The only other worker replays by the rules, and that is enough."""
    await cluster.join("honest")
    await cluster.join("cheat", cheats=True)
    await cluster.add(selfplay("a"), selfplay("b"))
    await cluster.context.propose(QuarantineWorker("honest", on=True))
    await cluster.work()
    await cluster.context.propose(QuarantineWorker("honest", on=False))
    await cluster.duty.run(cluster.context)
    assert {job["worker"] for job in (await cluster.context.query("queue", kind="selfplay"))["jobs"]} == {"cheat"}
    await cluster.look(2)
    assert set(await cluster.quarantined()) == {"cheat"}


async def test_a_canary_finds_whoever_differs(cluster: Cluster) -> None:
    """Every worker plays the same games each hour; the odd one out is found though nothing of it was replayed."""
    for name in ("w1", "w2", "w3", "w4"):
        await cluster.join(name)
    await cluster.look(2)
    assert await cluster.quarantined() == {}
    jobs = (await cluster.context.query("queue", kind="tournament"))["jobs"]
    assert sorted(job["worker"] for job in jobs) == ["w1", "w2", "w3", "w4"]
    cluster.clock_ms += CANARY_MS
    cluster.workers["w4"] = True
    cluster.duty._replays = _nothing  # type: ignore[method-assign]
    await cluster.look(2)
    assert set(await cluster.quarantined()) == {"w4"}


async def test_another_build_may_play_otherwise(cluster: Cluster) -> None:
    """An update that changes what a seed leads to makes nobody a cheat."""
    for name, build in (("w1", "1"), ("w2", "1"), ("w3", "2")):
        await cluster.join(name, build=build)
    cluster.workers["w3"] = True
    cluster.duty._replays = _nothing  # type: ignore[method-assign]
    await cluster.look(3)
    assert await cluster.quarantined() == {}


async def _nothing(*_: object) -> list[trust.Guilt]:
    return []


async def test_a_worker_that_people_let_in_again_is_not_judged_by_the_same_things(cluster: Cluster) -> None:
    """Quarantine that is lifted by hand stays lifted."""
    for name in ("w1", "w2", "w3"):
        await cluster.join(name, cheats=name == "w3")
    await cluster.add(*(selfplay(f"selfplay-{k}") for k in range(6)))
    await cluster.work()
    await cluster.look()
    assert set(await cluster.quarantined()) == {"w3"}
    await cluster.context.propose(QuarantineWorker("w3", on=False, reason="its memory was replaced"))
    await cluster.look(2)
    assert await cluster.quarantined() == {}


# ---- judging


DONE = trust.Done("j", "selfplay", CONFIG, "maker", 1, MatchesResult((), 1, ""))
YES, NO = trust.Opinion("a", agrees=True), trust.Opinion("a", agrees=False, detail="d")


@pytest.mark.parametrize(
    ("opinions", "live", "wrong"),
    [
        ([], "abc", ""),
        ([YES], "abc", ""),
        ([NO], "abc", ""),  # another one is heard first
        ([NO], "a", "maker"),  # there is nobody else
        ([NO, trust.Opinion("b", agrees=False)], "abc", "maker"),
        ([NO, trust.Opinion("b", agrees=True)], "abc", "a"),  # who accused falsely
    ],
)
def test_two_against_one(opinions: list[trust.Opinion], live: str, wrong: str) -> None:
    """Neither maker nor checker is believed alone where a third can be asked."""
    found = trust.judged(DONE, opinions, live)
    assert (found.worker if found else "") == wrong


@pytest.mark.parametrize(
    ("decisions", "agreed", "agrees"), [(107, 104, True), (107, 90, True), (107, 87, False), (6, 4, True), (0, 0, True)]
)
def test_agreement_is_judged_by_its_error(decisions: int, agreed: int, *, agrees: bool) -> None:
    """Rounding may move some of them; few of them say little."""
    claim = trust.Claim("s", shard=True, games=1)
    found = VerifyResult(ok=True, games=1, decisions=decisions, agreed=agreed)
    assert trust.opinion("a", claim, found).agrees is agrees


def test_the_lot_is_not_known_while_the_games_are_played() -> None:
    """It follows from the time of completion too, and differs from result to result."""
    results = [msgspec.structs.replace(DONE, ended_ms=at) for at in range(500)]
    assert len({trust.chance_milli(each.lot) for each in results}) > 300
    assert len({trust.lots_of(each, 2) for each in results}) == 500


@pytest.mark.parametrize(
    ("answers", "odd"),
    [
        ({"a": "x", "b": "x", "c": "y"}, ["c"]),
        ({"a": "x", "b": "y"}, []),
        ({"a": "x"}, []),
        ({}, []),
        ({"a": "x", "b": "x", "c": "y", "d": "y"}, []),
        ({"a": "x", "b": "y", "c": "z"}, []),
    ],
)
def test_only_a_majority_finds_odd_ones(answers: dict[str, str], odd: list[str]) -> None:
    """Without one the disagreement is said, and nobody is blamed."""
    assert [guilt.worker for guilt in trust.odd_ones(answers)] == odd
    assert trust.disagree(answers) == (len(set(answers.values())) > 1 and not odd)


def matches(worker: str, games: int, chance: float, rng: random.Random) -> list[Match]:
    return [
        Match(
            f"{worker}-{k}", CONFIG, ("a", "b"), (1, 2) if rng.random() < chance else (2, 1), 40, "x", f"o{k}",
            "ladder", "j", worker, k,
        )
        for k in range(games)
    ]  # fmt: skip


def test_residuals_find_results_that_nobody_else_gets() -> None:
    """A worker for whom one side wins nearly always is found; honest ones are not, in 300 simulated leagues."""
    rng = random.Random(5)
    found = missed = 0
    for _ in range(300):
        chance = rng.uniform(0.2, 0.8)
        games = [match for name in "pqr" for match in matches(name, 80, chance, rng)]
        assert trust.out_of_line(games) == []
        cheat = trust.out_of_line([*games, *matches("cheat", 80, 0.99 if chance < 0.5 else 0.01, rng)])
        assert {guilt.worker for guilt in cheat} <= {"cheat"}
        found, missed = found + bool(cheat), missed + (not cheat)
    assert found > 9 * missed


def test_little_or_one_sided_evidence_blames_nobody() -> None:
    """Two workers that differ, or few games, are no proof."""
    rng = random.Random(6)
    assert trust.out_of_line([*matches("p", 200, 0.5, rng), *matches("q", 200, 0.99, rng)]) == []
    few = [match for name in "pqr" for match in matches(name, 20, 0.5, rng)]
    assert trust.out_of_line([*few, *matches("cheat", 20, 0.99, rng)]) == []


async def test_checks_that_wait_are_bounded(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn by lot gives way to what must be checked; beyond the outer bound the oldest go, whatever they are.

    All events are read at once, however many pages they fill.
    """
    monkeypatch.setattr(canary, "EVENTS_PAGE", 3)
    monkeypatch.setattr(canary, "OPEN_MAX", 4)
    await cluster.context.propose(PutSettings({"verify_share_milli": raw(1000)}))
    for name in ("w1", "w2"):
        await cluster.join(name)
    await cluster.add(*(selfplay(f"selfplay-{k}") for k in range(12)))
    await cluster.work()
    await cluster.duty.run(cluster.context)
    makers = [done.worker for done in cluster.duty._open.values()]
    assert set(makers) == {"w1", "w2"}
    assert 4 <= len(makers) <= 5  # four by lot, or with the first of a worker that came later one more
    monkeypatch.setattr(canary, "OPEN_MAX_ALL", 2)
    newest = list(cluster.duty._open)[-2:]
    await cluster.duty.run(cluster.context)
    assert list(cluster.duty._open) == newest


async def test_whoever_is_in_quarantine_is_not_checked(cluster: Cluster) -> None:
    """What it made is settled already."""
    for name in ("w1", "w2"):
        await cluster.join(name)
    await cluster.add(selfplay("selfplay-1"))
    await cluster.work()
    await cluster.duty.run(cluster.context)
    [checked] = cluster.duty._open.values()
    await cluster.context.propose(QuarantineWorker(checked.worker, reason="by hand"))
    await cluster.duty.run(cluster.context)
    assert not cluster.duty._open
