"""Feedback moves settings within bounds and says why; the watchdog acts on what stands still or rests on lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.loop import LoopSettings, SelfplaySettings, TrainSettings
from tests.unit.duties.rows import CONFIG, config_view, worker_view
from tests.unit.workqueue.conftest import running_voter
from workqueue.duties import gate, plan, tuning
from workqueue.duties.bootstrap import DUTY as BOOTSTRAP
from workqueue.duties.context import DutyContext
from workqueue.duties.feedback import Feedback
from workqueue.duties.improve import Improve
from workqueue.duties.priority import Room
from workqueue.duties.tuning import BOUNDS, Data, Training
from workqueue.duties.watchdog import Watchdog
from workqueue.machine import commands as c
from workqueue.machine.outcomes import AliasSet, Granted, Lease
from workqueue.machine.views import AliasStep, Shard, WorkerView
from workqueue.schema import (
    GameResult,
    MatchesResult,
    SelfplayPayload,
    SelfplayResult,
    ShardRef,
    TournamentPayload,
    TrainPayload,
    TrainResult,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

VIEW = config_view(champion="m")
VARIED = Data(500, 900, (260, 240))
WEAK = Training(900, 950, "rejected", "reject: 10-2-20 against the champion, LLR -3.0")
GOOD = Training(900, 950, "champion", "")


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def moved(data: Data, *trainings: Training, settings: LoopSettings | None = None, at: int = 1) -> dict[str, Any]:
    view = msgspec.structs.replace(VIEW, trainings=at)
    found = tuning.changes(view, settings or LoopSettings(), data, trainings)
    assert all(change.why for change in found)
    return {change.key: (change.old, change.new) for change in found}


@pytest.mark.parametrize(
    ("data", "trainings", "key", "way"),
    [
        (Data(500, 200, (250, 250)), (GOOD,), "selfplay.opening_plies", 1),
        (Data(500, 0, (450, 50)), (GOOD,), "selfplay.opening_plies", 1),
        (Data(500, 0, (40, 420, 40)), (GOOD,), "selfplay.opening_plies", 1),
        (VARIED, (Training(990, 1000, "candidate"), Training(900, 950, "rejected")), "train.learning_rate_micro", -1),
        (VARIED, (Training(500, 700, "candidate"),), "train.steps", -1),
        (VARIED, (WEAK, WEAK), "selfplay.simulations_full", 1),
        (VARIED, (GOOD, WEAK), "", 0),
        (Data(50, 100, (50, 0)), (GOOD,), "", 0),
    ],
)
def test_each_cause_moves_its_setting(data: Data, trainings: tuple[Training, ...], key: str, way: int) -> None:
    """Alike games open wider, a rising loss slows learning, overfitting shortens it, weak candidates search more."""
    found = moved(data, *trainings)
    assert set(found) == ({key} if key else set())
    if key:
        old, new = found[key]
        assert (new > old) == (way > 0)


@given(st.lists(st.sampled_from([WEAK, GOOD, Training(950, 2000, "rejected", "x")]), min_size=2, max_size=40))
def test_no_history_moves_a_setting_out_of_its_bounds(history: list[Training]) -> None:
    """One step a training, never beyond the bounds around what people set, and every step is entered once."""
    settings = LoopSettings()
    for at in range(1, len(history)):
        view = msgspec.structs.replace(VIEW, trainings=at)
        recent = tuple(reversed(history[: at + 1]))
        changes = tuning.changes(view, settings, Data(500, 100, (1, 1)), recent)
        entries = tuning.applied(settings, view, changes)
        settings = msgspec.structs.replace(settings, tuning=entries)
        assert tuning.changes(view, settings, Data(500, 100, (1, 1)), recent) == [], "a second look moves nothing"
        for key, (low, high) in BOUNDS.items():
            base = tuning.base(settings, key)
            assert base * low // 1000 <= tuning.value(settings, CONFIG, key) <= base * high // 1000


def test_what_people_set_later_holds_and_success_goes_back_to_it() -> None:
    """A new base brings its own bounds; a promotion takes the extra search back; other configs are not touched."""
    key = "selfplay.simulations_full"
    settings = LoopSettings(tuning=((CONFIG, key, 64, 3),))
    assert tuning.value(settings, CONFIG, key) == 64
    assert tuning.value(settings, "hex8_2p", key) == 32
    lower = msgspec.structs.replace(settings, selfplay=SelfplaySettings(simulations_full=20))
    assert tuning.value(lower, CONFIG, key) == 40
    assert moved(VARIED, GOOD, settings=settings, at=4)[key] == (64, 51)
    assert moved(VARIED, GOOD, settings=settings, at=3) == {}


# ---- watchdog, pure


def worker(name: str) -> WorkerView:
    return worker_view(name)


SETTINGS = LoopSettings(
    selfplay=SelfplaySettings(bootstrap_games=10), train=TrainSettings(games_new_min=10, window_games_min=10)
)


def tries(*states: str, reason: str = "runner.hung") -> tuple[plan.JobFacts, ...]:
    return tuple(plan.JobFacts(f"t{k}", state, (), reason, ("w1",)) for k, state in enumerate(states))


@pytest.mark.parametrize(
    ("states", "reason", "number", "avoid"),
    [
        (("failed",), "runner.hung", 1, ("w1",)),
        (("failed", "cancelled"), "stuck: no progress", 2, ("w1",)),
        (("failed", "failed", "failed"), "x", None, ()),
        (("cancelled",), "by hand", None, ()),
        (("completed",), "", None, ()),
    ],
)
def test_a_failed_training_is_tried_elsewhere_three_times(
    states: tuple[str, ...], reason: str, number: int | None, avoid: tuple[str, ...]
) -> None:
    """At once and without new games, away from where it failed; what people cancelled stays cancelled."""
    view = msgspec.structs.replace(VIEW, games=100, trainings=1)
    shards = (Shard("s", 100, 1000, "", "w"),)
    found = plan.training(view, SETTINGS, shards, 5, tries(*states, reason=reason), (worker("w1"), worker("w2")))
    if number is None:
        assert found == []
        return
    [spec] = found[0].command.jobs  # type: ignore[union-attr]
    assert (spec.id, spec.requires.avoid) == (plan.training_id(view, number), avoid)
    assert reason in found[0].why
    alone = plan.training(view, SETTINGS, shards, 5, tries(*states, reason=reason), (worker("w1"),))
    assert alone[0].command.jobs[0].requires.avoid == (), "the only worker gets it again"  # type: ignore[union-attr]


def test_a_champion_on_revoked_matches_is_rolled_back() -> None:
    """Its evidence is gone, so the one before it plays again; one whose matches stand stays."""
    steps = [
        AliasStep("old", 1, "d", c.Evidence("bootstrap", match_ids=("m1",))),
        AliasStep("m", 2, "d", c.Evidence("sprt", match_ids=("m2", "m3"))),
    ]
    [decision] = gate.tainted(VIEW, steps, frozenset({"m3"}))
    assert isinstance(decision.command, c.Rollback)
    assert "1 of the matches" in decision.why
    assert gate.tainted(VIEW, steps, frozenset({"m1"})) == []
    assert gate.tainted(VIEW, steps[1:], frozenset({"m3"})) == [], "there is nothing to go back to"


# ---- against the real machine


class Cluster:
    """A voter with the real machine and two workers that are driven by hand."""

    def __init__(self, context: DutyContext) -> None:
        self.context = context
        self.now_ms = 1_900_000_000_000
        self.shards = 0

    async def claim(self, worker: str, kind: str) -> Lease:
        claim = c.Claim(worker, f"b-{worker}", c.Free(4, 10, 10), 1, (kind,))
        [outcome] = await self.context.propose(claim)
        assert isinstance(outcome, Granted), (worker, kind)
        return outcome.leases[0]

    async def complete(self, worker: str, lease: Lease, result: object, kind: str, name: str) -> None:
        ref = c.ArtifactRef(name, 10, kind)
        await self.context.propose(c.RegisterArtifact(ref, ("voter-1",), CONFIG))
        done = c.Complete(worker, (c.Completion(lease.job, lease.attempt, raw(result), (ref,)),))
        [outcome] = await self.context.propose(done)
        assert outcome.settled[0].state == "completed"  # type: ignore[union-attr]

    async def play(self, worker: str, entropy_milli: int) -> None:
        lease = await self.claim(worker, "selfplay")
        payload = msgspec.msgpack.decode(lease.payload, type=SelfplayPayload)
        self.shards += 1
        name, games = f"s{self.shards}", payload.games
        shards = (ShardRef(name, 10, games, 100),)
        wins = (games // 2, games - games // 2)
        result = SelfplayResult(games, 100, 100, 1, shards, wins, payload.player.key, "", entropy_milli)
        await self.complete(worker, lease, result, "shard", name)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running_voter(tmp_path, real=True) as voter:
        found = Cluster(DutyContext(voter.context, "improve", lambda: found.now_ms))
        await BOOTSTRAP.run(found.context)
        small = {"selfplay.games_per_job": 100, "selfplay.bootstrap_games": 400}
        await found.context.propose(c.PutSettings({name: raw(value) for name, value in small.items()}))
        for name in ("w1", "w2"):
            kinds = ("selfplay", "train", "tournament")
            await found.context.propose(c.RegisterWorker(name, f"b-{name}", c.Capability(4, 10, 10, kinds=kinds)))
        yield found


async def test_a_stuck_training_is_cancelled_and_starts_elsewhere(cluster: Cluster) -> None:
    """Its lease is renewed and nothing moves: the watchdog cancels it, and the loop gives it to the other worker."""
    context, watchdog = cluster.context, Watchdog(stuck_ms=60_000)
    await Improve().run(context)
    for _ in range(4):
        await cluster.play("w1", 900)
    await Improve().run(context)
    lease = await cluster.claim("w1", "train")
    for step in (1, 2, 3, 4, 5, 5):  # as long as it moves it may take its time
        renewal = c.LeaseRenewal(lease.job, lease.attempt, raw({"step": step}))
        [outcome] = await context.propose(c.Renew("w1", "b-w1", (renewal,)))
        await watchdog.run(context)
        cluster.now_ms += 40_000
    assert outcome.leases[0].state == "ok"  # type: ignore[union-attr]
    await watchdog.run(context)
    [outcome] = await context.propose(c.Renew("w1", "b-w1", (c.LeaseRenewal(lease.job, lease.attempt),)))
    assert (outcome.leases[0].state, outcome.leases[0].reason[:6]) == ("cancel", "stuck:")  # type: ignore[union-attr]
    await context.propose(c.Release("w1", lease.job, lease.attempt, "told to"))
    await Improve().run(context)
    again = await cluster.claim("w2", "train")
    assert again.job == f"train-{CONFIG}-0-1"
    assert again.requires.avoid == ("w1",)


async def test_alike_games_change_the_next_jobs_with_a_reason_in_the_audit(cluster: Cluster) -> None:
    """From results to a setting, an audit entry by the duty, and the payload of what is enqueued next."""
    context = cluster.context
    await Improve().run(context)
    for _ in range(4):
        await cluster.play("w1", 100)
    await Feedback().run(context)
    assert (await context.query("settings"))["effective"]["tuning"] == [], "nothing before the first training"
    await Improve().run(context)
    lease = await cluster.claim("w2", "train")
    assert msgspec.msgpack.decode(lease.payload, type=TrainPayload).steps == LoopSettings().train.steps
    result = TrainResult("m1", 10, 10, 100, 900, 1, 1, 950, 1, raw({}))
    await cluster.complete("w2", lease, result, "weights", "m1")
    for _ in range(2):
        await Feedback().run(context)
    [entry] = (await context.query("settings"))["effective"]["tuning"]
    assert entry == [CONFIG, "selfplay.opening_plies", 6, 1]
    changed = [entry for entry in await context.query("audit") if entry["subject"] == "tuning"]
    [audit] = [entry for entry in changed if entry["reason"] != "loop.yaml of a new cluster"]
    assert "games have become alike" in audit["reason"]
    assert "4 -> 6" in audit["reason"]
    settings = LoopSettings(tuning=(tuple(entry),))  # type: ignore[arg-type]
    view = msgspec.structs.replace(VIEW, champion="m1")
    [decision] = plan.selfplay(view, settings, Room(1), 9)
    payload = msgspec.msgpack.decode(decision.command.jobs[0].payload, type=SelfplayPayload)  # type: ignore[union-attr]
    assert payload.opening_plies == 6


async def promoted(cluster: Cluster, *shas: str) -> None:
    """Make models champion one after the other, by hand."""
    for sha in shas:
        ref = c.ArtifactRef(sha, 10, "weights")
        await cluster.context.propose(
            c.RegisterArtifact(ref, ("voter-1",), CONFIG), c.RegisterModel(sha, CONFIG, raw({}))
        )
    await crown(cluster, shas[0], "", c.Evidence("manual", note="first"))


async def crown(cluster: Cluster, sha: str, expected: str, evidence: c.Evidence) -> None:
    [outcome] = await cluster.context.propose(c.SetAlias(f"champion/{CONFIG}", sha, expected, evidence))
    assert isinstance(outcome, AliasSet), outcome


async def match(cluster: Cluster, name: str, games: int, *, winner: str, loser: str) -> tuple[str, ...]:
    """Have w1 report games that one of two models wins; returns the ids of the matches."""
    entrants = (plan.challenger(winner, LoopSettings()), plan.challenger(loser, LoopSettings()))
    payload = TournamentPayload("square8", 2, entrants, games, 1)
    await cluster.context.propose(c.Enqueue((c.JobSpec(name, "tournament", raw(payload), CONFIG),)))
    lease = await cluster.claim("w1", "tournament")
    keys = tuple(player.key for player in entrants)
    played = tuple(
        GameResult(
            f"{name}-{k}", keys[:: 1 if k % 2 else -1], (1, 2)[:: 1 if k % 2 else -1], 40, "x", f"o{k // 2}",
            f"record-{name}", k,
        )
        for k in range(games)
    )  # fmt: skip
    await cluster.complete("w1", lease, MatchesResult(played, 1, ""), "games", f"record-{name}")
    return tuple(f"{CONFIG}/{game.id}" for game in played)


async def champion(cluster: Cluster) -> tuple[str, str]:
    steps = (await cluster.context.query("aliases"))[f"champion/{CONFIG}"]
    return steps[-1]["sha256"], steps[-1]["evidence"]["rule"]


async def test_a_promotion_on_a_cheats_matches_is_undone(cluster: Cluster) -> None:
    """When the matches of its evidence are revoked, the one before is champion again, without anybody's word."""
    await promoted(cluster, "model-a", "model-b")
    ids = await match(cluster, "duel", 20, winner="model-b", loser="model-a")
    evidence = c.Evidence("sprt", "model-a", ids, 20, 20, 0, 0, llr_milli=3000, bound_milli=2944)
    await crown(cluster, "model-b", "model-a", evidence)
    watchdog = Watchdog()
    await watchdog.run(cluster.context)
    assert await champion(cluster) == ("model-b", "sprt")
    await cluster.context.propose(c.Revoke(worker="w1", reason="cheats: it invents results"))
    await watchdog.run(cluster.context)
    assert await champion(cluster) == ("model-a", "rollback")
    await watchdog.run(cluster.context)
    assert await champion(cluster) == ("model-a", "rollback"), "once is enough"


async def test_a_champion_that_loses_on_the_ladder_is_rolled_back(cluster: Cluster) -> None:
    """The duty itself reads the games since the promotion and acts on them."""
    await promoted(cluster, "model-a", "model-b")
    await crown(cluster, "model-b", "model-a", c.Evidence("manual", note="it looked strong"))
    watchdog = Watchdog()
    await match(cluster, "few", 10, winner="model-a", loser="model-b")
    await watchdog.run(cluster.context)
    assert (await champion(cluster))[0] == "model-b", "too few games"
    await match(cluster, "many", 60, winner="model-a", loser="model-b")
    await watchdog.run(cluster.context)
    assert await champion(cluster) == ("model-a", "regression")
