"""The loop's decisions, driven against the real state machine with faked work."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from config.loop import GateSettings, LoopSettings, SelfplaySettings, TrainSettings
from tests.unit.duties.rows import config_view
from tests.unit.machine.driver import CONFIG, Driver, raw
from workqueue.duties import gate, plan, priority
from workqueue.machine import commands as c
from workqueue.machine.outcomes import Lease
from workqueue.machine.views import CandidateView, ConfigView, LoopView, Match, Shard
from workqueue.schema import (
    EvaluatePayload,
    GameResult,
    GauntletPayload,
    MatchesResult,
    PlayerSpec,
    SelfplayPayload,
    TournamentPayload,
    TrainPayload,
    TrainResult,
)

SETTINGS = LoopSettings(
    selfplay=SelfplaySettings(games_per_job=10, bootstrap_games=40),
    train=TrainSettings(games_new_min=20, window_games_min=40),
    gate=GateSettings(floor_games=20, games_max=200),
)
BASELINES = {"none:random:-": 0.95, "none:heuristic:-": 0.7}


class World:
    """A machine, the loop, and workers that do everything at once; `strength` is a model's points a game."""

    def __init__(self) -> None:
        self.driver = Driver()
        self.driver.worker()
        self.strength: dict[str, float] = {}
        self.models = 0
        self.stamp = 1

    def view(self) -> ConfigView:
        loop = self.driver.machine.query("loop", {})
        assert isinstance(loop, LoopView)
        return loop.configs[0]

    def query(self, name: str, kind: type, **args: object) -> object:
        return msgspec.convert(msgspec.to_builtins(self.driver.machine.query(name, args)), kind)

    def facts(self, names: list[str]) -> tuple[plan.JobFacts, ...]:
        jobs = self.driver.machine.ledger.jobs
        found = []
        for name in names:
            if name not in jobs:
                break
            matches = self.driver.machine.query("matches", {"job": name, "limit": 1000})
            found.append(plan.JobFacts(name, jobs[name].state.value, matches))
        return tuple(found)

    def decide(self) -> list[plan.Decision]:
        """What the duty would propose now."""
        self.stamp += 1
        view = self.view()
        trials = {
            each.sha256: plan.Trial(
                self.facts([gate.gauntlet_id(each.sha256, k) for k in range(3)]),
                self.facts([gate.evaluation_id(each.sha256, view.champion, k) for k in range(3)]),
            )
            for each in view.candidates[-1:]
        }
        shards = self.driver.machine.query("shards", {"config": CONFIG})
        return [
            *gate.candidates(view, SETTINGS, trials, self.stamp),
            *plan.training(view, SETTINGS, shards, self.stamp),
            *plan.selfplay(view, SETTINGS, priority.Room(4), self.stamp),
            *gate.ladder(view, SETTINGS, "", self.stamp),
        ]

    def step(self) -> list[plan.Decision]:
        """Let the loop decide, and the workers do all of it."""
        decisions = self.decide()
        for decision in decisions:
            outcome = self.driver.do(decision.command)
            assert "Refused" not in type(outcome).__name__, outcome
        while True:
            outcome = self.driver.claim()
            if not hasattr(outcome, "leases"):
                return decisions
            self.work(outcome.leases[0])
            self.driver.now_ms += 1000

    def work(self, lease: Lease) -> None:
        payload = plan_payload(lease)
        match payload:
            case SelfplayPayload():
                self.driver.selfplay_done(lease, f"shard-{lease.job}", payload.games, payload.player.key)
            case TrainPayload():
                self.models += 1
                model = f"model{self.models}"
                self.driver.store(model, kind="weights")
                result = TrainResult(model, 10, 10, 100, 1, 1, 1, 1, 1, raw({}))
                self.driver.complete(lease, result=result, artifacts=(model,))
            case _:
                self.play(lease, payload)

    def play(self, lease: Lease, payload: GauntletPayload | EvaluatePayload | TournamentPayload) -> None:
        record = f"games-{lease.job}"
        self.driver.store(record, kind="games")
        games = []
        for me, other, count in pairs(payload):
            for k in range(count):
                chance = self.chance(me.key, other.key)
                won = (k // 2 * 2 + 1) / count < chance  # of each pair both games go alike
                seats = (me.key, other.key) if k % 2 == 0 else (other.key, me.key)
                ranks = (1, 2) if won == (k % 2 == 0) else (2, 1)
                name = f"{lease.job}-{other.key}-{k}"
                games.append(GameResult(name, seats, ranks, 50, "x", f"{other.key}/o{k // 2}", record, len(games)))
        self.driver.complete(lease, result=MatchesResult(tuple(games), 1, ""), artifacts=(record,))

    def chance(self, me: str, other: str) -> float:
        if other in BASELINES:
            return BASELINES[other] if self.strength.get(me.split(":")[0], 1.0) > 0.2 else 0.1
        mine, theirs = self.strength.get(me.split(":")[0], 0.5), self.strength.get(other.split(":")[0], 0.5)
        return mine / (mine + theirs)


def plan_payload(lease: Lease) -> Any:
    kinds: dict[str, Any] = {"selfplay": SelfplayPayload, "train": TrainPayload, "gauntlet": GauntletPayload}
    kinds |= {"evaluate": EvaluatePayload, "tournament": TournamentPayload}
    return msgspec.msgpack.decode(lease.payload, type=kinds[lease.kind])


def pairs(payload: GauntletPayload | EvaluatePayload | TournamentPayload) -> list[tuple[PlayerSpec, PlayerSpec, int]]:
    match payload:
        case GauntletPayload():
            return [(payload.candidate, other, payload.games) for other in payload.baselines]
        case EvaluatePayload():
            return [(payload.candidate, payload.champion, payload.games_max)]
        case _:
            return [(payload.entrants[0], payload.entrants[1], 4)]


@pytest.fixture
def world() -> World:
    return World()


def until_champion(world: World) -> str:
    for _ in range(20):
        world.step()
        if world.view().champion:
            return world.view().champion
    raise AssertionError("no champion came")


def test_from_an_empty_cluster_to_the_first_champion(world: World) -> None:
    """Exactly the games that the first training needs, one training, the floors, the promotion with its evidence."""
    assert until_champion(world) == "model1"
    view = world.view()
    assert (view.games, view.trainings, view.promotions) == (40, 1, 1)
    step = world.driver.machine.ledger.state.aliases[f"champion/{CONFIG}"][-1]
    assert step.evidence.rule == "bootstrap"
    assert set(step.evidence.floors) == set(BASELINES)
    assert set(step.evidence.match_ids) <= set(world.driver.machine.ledger.match_ids)


def test_a_stronger_candidate_is_promoted_by_the_sequential_test(world: World) -> None:
    """The alias moves with the champion it was tested against and a log-likelihood ratio beyond its bound."""
    first = until_champion(world)
    world.strength = {first: 0.3, "model2": 0.7}
    for _ in range(12):
        world.step()
        if world.view().champion == "model2":
            break
    evidence = world.driver.machine.ledger.state.aliases[f"champion/{CONFIG}"][-1].evidence
    assert (evidence.rule, evidence.champion) == ("sprt", first)
    assert evidence.llr_milli >= evidence.bound_milli > 0
    log = world.driver.machine.ledger
    matches = [log.matches[log.match_ids[name]] for name in evidence.match_ids]
    duel = [match for match in matches if any(seat.startswith(first) for seat in match.seats)]
    again = gate.verdict_of(duel, plan.challenger("model2", SETTINGS).key, 2, SETTINGS)
    assert round(again.llr * 1000) == evidence.llr_milli, "the evidence follows from the log alone"


@pytest.mark.parametrize(("strength", "words"), [(0.1, "% of the points"), (0.5, "against the champion")])
def test_a_candidate_that_is_not_better_is_rejected(world: World, strength: float, words: str) -> None:
    """Random weights fall at the floors, an equal one in the duel; the champion stays."""
    first = until_champion(world)
    world.strength = {first: 0.5, "model2": strength}
    for _ in range(12):
        world.step()
        if world.models >= 2 and world.driver.machine.ledger.state.models["model2"].status == "rejected":
            break
    model = world.driver.machine.ledger.state.models["model2"]
    assert words in model.reason
    assert world.view().champion == first


def test_a_second_look_proposes_nothing_new(world: World) -> None:
    """What was proposed and not yet done is seen and waited for."""
    for decision in world.decide():
        world.driver.do(decision.command)
    assert world.decide() == []


def test_a_failed_gauntlet_is_tried_again_and_given_up() -> None:
    """Three tries, then the candidate is rejected and an alert raised: the loop is not wedged."""
    view = config_view(candidates=(CandidateView("m", 1, ()),))
    failed = tuple(plan.JobFacts(gate.gauntlet_id("m", k), "failed") for k in range(3))
    [again] = gate.candidates(view, SETTINGS, {"m": plan.Trial(failed[:1])}, 1)
    assert isinstance(again.command, c.Enqueue)
    assert again.command.jobs[0].id == gate.gauntlet_id("m", 1)
    commands = [decision.command for decision in gate.candidates(view, SETTINGS, {"m": plan.Trial(failed)}, 1)]
    assert [type(command) for command in commands] == [c.RejectModel, c.SetAlert]


def test_a_regression_rolls_back_and_the_fourth_halts() -> None:
    """Enough games that show the previous champion ahead; after three rollbacks in a day somebody must look."""
    now, before = plan.challenger("now", SETTINGS).key, plan.challenger("old", SETTINGS).key
    view = config_view(champion="now", champion_since_ms=5, promotions=2)
    matches = [
        Match(
            f"m{k}",
            CONFIG,
            (before, now)[:: 1 if k % 2 else -1],
            (1, 2)[:: 1 if k % 2 else -1],
            9,
            "x",
            f"o{k // 2}",
            "ladder",
            "j",
            "w",
            10,
        )
        for k in range(60)
    ]
    [decision] = gate.regression(view, SETTINGS, "old", matches)
    assert isinstance(decision.command, c.Rollback)
    assert gate.regression(view, SETTINGS, "old", matches[:6]) == []
    busy = msgspec.structs.replace(view, rollbacks_day=3)
    assert [type(d.command) for d in gate.regression(busy, SETTINGS, "old", matches)] == [c.Halt, c.SetAlert]


def test_champions_that_lose_are_rolled_back_until_the_day_is_used_up(world: World) -> None:
    """Promoted by luck, beaten on the ladder, rolled back and rejected, three times; then the config is halted."""
    first = until_champion(world)
    state = world.driver.machine.ledger.state
    for undone in range(4):
        world.strength = {first: 0.3}
        for _ in range(30):
            world.strength[f"model{world.models + 1}"] = 0.7
            world.step()
            if world.view().champion != first:
                break
        lucky = world.view().champion
        assert lucky != first
        world.strength = {first: 0.8, lucky: 0.1}
        world.driver.now_ms += 1000
        for _ in range(20):
            world.stamp += 1
            [ladder] = gate.ladder(world.view(), SETTINGS, first, world.stamp)
            world.driver.do(ladder.command)
            world.work(world.driver.claim().leases[0])
        matches = [match for match in world.driver.machine.ledger.matches if match.config == CONFIG]
        decisions = gate.regression(world.view(), SETTINGS, first, matches)
        for decision in decisions:
            world.driver.do(decision.command)
        if undone < 3:
            assert (world.view().champion, state.models[lucky].status) == (first, "rejected")
            assert world.view().rollbacks_day == undone + 1
    assert world.view().champion == lucky, "somebody must look first"
    assert "3 rollbacks" in world.view().halted
    assert [alert.name for alert in state.alerts.values()] == ["rollbacks"]
    assert {entry.action for entry in state.audit} >= {"halt", f"set champion/{CONFIG}"}


@pytest.mark.parametrize("players", [2, 3, 4])
def test_the_ladder_brings_games_that_a_regression_can_be_seen_in(players: int) -> None:
    """Seated by the real tournament: of any number of players, some sets are of the two champions alone."""
    from engine.tournament.play import Match as Seated
    from engine.tournament.play import MatchSpec

    config = f"hex8_{players}p"
    view = msgspec.structs.replace(World().view(), config=config, champion="new", champion_since_ms=1)
    old = plan.challenger("old", SETTINGS).key
    found: list[Match] = []
    for decision in gate.ladder(view, SETTINGS, "old", 5):
        assert isinstance(decision.command, c.Enqueue)
        [spec] = decision.command.jobs
        payload = msgspec.msgpack.decode(spec.payload, type=TournamentPayload)
        keys = [entrant.key for entrant in payload.entrants]
        match = MatchSpec(
            board="hex8",
            players=players,
            games=payload.games,
            seed=payload.seed,
            format=payload.format,
            opening_plies=2,
        )
        # Line-ups and openings alone matter here: nobody decides a move.
        for opening, seatings in itertools.chain(*Seated(match, [None] * len(keys), keys).rounds([])):  # type: ignore[list-item]
            for seating in seatings:
                seats = tuple(keys[seat] for seat in seating)
                best = seats.index(old) if old in seats else 0  # the old one wins where it plays
                ranks = tuple(1 if seat == best else 2 for seat in range(players))
                name = f"{spec.id}/{opening.name}/{seats}"
                found.append(Match(name, config, seats, ranks, 9, "x", opening.name, "ladder", spec.id, "w", 2))
    later = [msgspec.structs.replace(each, job=f"{each.job}-{k}") for k in range(8) for each in found]
    [decision] = gate.regression(view, SETTINGS, "old", later)
    assert isinstance(decision.command, c.Rollback)


def test_windows_grow_slower_than_the_data() -> None:
    """All of little, a shrinking share of much, whole shards, newest first."""
    assert plan.window_games(30, SETTINGS) == 30
    assert plan.window_games(40, SETTINGS) == 40
    assert 40 < plan.window_games(400, SETTINGS) < 200
    shards = [Shard(f"s{k}", 10, 100, "", "w") for k in range(9)]
    assert plan.window(shards, 25) == ("s0", "s1", "s2")


def test_settings_say_how_games_are_made() -> None:
    """The champion's games are played as the settings say; what they leave open is the payload's default."""
    chosen = SelfplaySettings(engine="mixed", resign_below_milli=40)
    view = msgspec.structs.replace(World().view(), champion="ab")
    payload = plan._selfplay_payload(view, msgspec.structs.replace(SETTINGS, selfplay=chosen), 1)
    assert (payload.player.kind, payload.player.model) == ("mixed", "ab")
    assert (payload.resign_below_milli, payload.control_share_milli, payload.batch_games) == (40, 100, 0)
    assert plan._selfplay_payload(view, SETTINGS, 1).player.kind == "gumbel"


@pytest.mark.parametrize("wrong", [{"engine": "heuristic"}, {"resign_below_milli": 500}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    """When they are set, not when a worker plays."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, SelfplaySettings)
