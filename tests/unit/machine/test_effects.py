"""What completions bring about, exactly once: data, models, matches and Elo."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.machine.driver import CONFIG, Driver, raw
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o
from workqueue.schema import (
    EvaluatePayload,
    GameResult,
    GauntletPayload,
    MatchesResult,
    PlayerSpec,
    SelfplayResult,
    ShardRef,
    TrainPayload,
    TrainResult,
)

RANDOM, HEURISTIC, NET = PlayerSpec("random"), PlayerSpec("heuristic"), PlayerSpec("gumbel", "net", 16)


def games(*ranks: tuple[int, int], seats: tuple[str, str] = (NET.key, HEURISTIC.key)) -> list[GameResult]:
    return [GameResult(f"g{k}", seats, each, 40, "x", f"o{k}", "games1", k) for k, each in enumerate(ranks)]


def test_self_play_makes_data(driver: Driver) -> None:
    """Shards enter the window, the totals grow, and a completion that is repeated does nothing more."""
    lease = driver.selfplay("p1")
    driver.selfplay_done(lease, "s1", games=7)
    before = driver.view("loop").configs[0]
    assert (before.games, before.positions, before.last_selfplay_ms) == (7, 600, driver.now_ms)
    [shard] = driver.view("shards", config=CONFIG)
    assert (shard.sha256, shard.games, shard.positions, shard.worker, shard.model) == ("s1", 7, 600, "w1", "")
    result = SelfplayResult(7, 600, 600, 1, (ShardRef("s1", 10, 7, 600),), (5, 5), HEURISTIC.key, "")
    assert driver.complete(lease, result=result, artifacts=("s1",)).state == "completed"
    assert driver.view("loop").configs[0] == before


@pytest.mark.parametrize(
    "changes",
    [
        {"games": 0, "shards": ()},
        {"positions": 0},
        {"player_key": "none:random:-"},
        {"games": 9},
        {"shards": (ShardRef("elsewhere", 1, 10, 600),)},
        {"shards": (ShardRef("s1", 1, 5, 300), ShardRef("s1", 1, 5, 300))},
        {"rules_version": "other"},
    ],
)
def test_self_play_that_does_not_add_up_is_refused(driver: Driver, changes: dict[str, object]) -> None:
    """Nothing is counted, and the lease stays."""
    lease = driver.selfplay("p1")
    driver.store("s1")
    good = SelfplayResult(10, 600, 600, 1, (ShardRef("s1", 10, 10, 600),), (5, 5), HEURISTIC.key, "")
    bad = msgspec.structs.replace(good, **changes)
    if "rules_version" in changes:
        driver.do(c.Cancel(("p1",)))
        driver.do(c.Release("w1", "p1", 1))
        player = {"board": "square8", "players": 2, "player": HEURISTIC, "games": 10, "seed": 1, "rules_version": "r1"}
        driver.add("p2", kind="selfplay", config=CONFIG, payload=raw(player))
        lease = driver.lease()
    refused = driver.complete(lease, result=bad, artifacts=("s1",))
    assert refused.code is o.Code.INVALID_RESULT
    assert driver.state(lease.job).value == "running"
    assert [config.games for config in driver.view("loop").configs] == [0]


def test_a_training_makes_a_model_once(driver: Driver) -> None:
    """The same weights again are the same model; new games are counted from when a training is enqueued."""
    driver.selfplay_done(driver.selfplay("p1"), "s1")
    driver.train("t1", "net")
    config = driver.view("loop").configs[0]
    assert (config.trainings, config.games, config.games_new, config.loss_milli) == (1, 10, 0, 1)
    driver.selfplay_done(driver.selfplay("p2"), "s2")
    assert driver.view("loop").configs[0].games_new == 10
    driver.train("t2", "net")
    assert [model.job for model in driver.view("models")] == ["t1"]
    assert len(driver.view("aliases")[f"candidate/{CONFIG}"]) == 1


@pytest.mark.parametrize("changes", [{"steps": 0}, {"samples": 0}, {"model": "elsewhere"}])
def test_a_training_of_nothing_is_refused(driver: Driver, changes: dict[str, object]) -> None:
    """No steps, no samples, no stored weights."""
    payload = raw(TrainPayload("square8", 2, ("s1",), 10, 1))
    driver.add("t", kind="train", config=CONFIG, payload=payload)
    lease = driver.lease()
    driver.store("net", kind="weights")
    good = TrainResult("net", 10, 10, 100, 1, 1, 1, 1, 1, raw({}))
    refused = driver.complete(lease, result=msgspec.structs.replace(good, **changes), artifacts=("net",))
    assert refused.code is o.Code.INVALID_RESULT
    assert driver.view("models") == ()


def test_an_evaluation_enters_matches_and_elo_once(driver: Driver) -> None:
    """A repeated completion, and the same games from another job, change neither log nor ratings."""
    driver.train("t", "net")
    payload = EvaluatePayload("square8", 2, NET, HEURISTIC, 100, 1)
    played = games((1, 2), (1, 2), (2, 1))
    driver.match("e1", "evaluate", payload, played, verdict="accept", llr_milli=3000)
    log, table = driver.view("matches"), driver.view("elo")
    assert [(m.id, m.job, m.purpose) for m in log] == [(f"{CONFIG}/g{k}", "e1", "evaluate") for k in range(3)]
    assert {row.player: (row.games, row.wins, row.losses) for row in table[CONFIG]} == {
        NET.key: (3, 2, 1), HEURISTIC.key: (3, 1, 2),
    }  # fmt: skip
    records = MatchesResult(tuple(played), 1000, "", "accept", 3000)
    lease = o.Lease("e1", 1, "evaluate", raw({}))
    lease = msgspec.structs.replace(lease, attempt=driver.job("e1").attempt)
    assert driver.complete(lease, result=records, artifacts=("games1",)).state == "completed"
    driver.match("e2", "evaluate", payload, played)
    assert (driver.view("matches"), driver.view("elo")) == (log, table)
    [event, _] = [event for event in driver.machine.events_since(0) if event.name == "matches.added"]
    assert event.detail == {"games": 3, "job": "e1", "purpose": "evaluate", "verdict": "accept", "llr_milli": 3000}


def test_a_gauntlet_is_rated_against_its_baselines(driver: Driver) -> None:
    """The random player is pinned, so that the scale does not drift; the winner rises."""
    payload = GauntletPayload("square8", 2, NET, (RANDOM, HEURISTIC), 2, 1)
    driver.match("g", "gauntlet", payload, games((1, 2), (1, 2), seats=(NET.key, RANDOM.key)))
    table = {row.player: row.elo_milli for row in driver.view("elo", config=CONFIG)[CONFIG]}
    assert table[RANDOM.key] == 400_000
    assert table[NET.key] > 1_500_000


def test_elo_of_one_win_between_equals(driver: Driver) -> None:
    """Half of K each way: 20 points at the start (Elo 1978, 1.4)."""
    payload = EvaluatePayload("square8", 2, NET, HEURISTIC, 100, 1)
    driver.match("e", "evaluate", payload, games((1, 2)))
    rows = {row.player: row.elo_milli for row in driver.view("elo")[CONFIG]}
    assert rows == {NET.key: 1_520_000, HEURISTIC.key: 1_480_000}


def test_games_of_a_config_rate_nobody_in_another(driver: Driver) -> None:
    """The same game id in two configs is two games."""
    driver.match("e1", "evaluate", EvaluatePayload("square8", 2, NET, HEURISTIC, 9, 1), games((1, 2)))
    payload = raw(EvaluatePayload("hex8", 2, NET, HEURISTIC, 9, 1))
    driver.add("e2", kind="evaluate", config="hex8_2p", payload=payload)
    driver.complete(driver.lease(), result=MatchesResult(tuple(games((2, 1))), 1, ""), artifacts=("games1",))
    table = driver.view("elo")
    assert table[CONFIG][0].player == NET.key
    assert table["hex8_2p"][0].player == HEURISTIC.key
    refused = driver.add("e3", kind="evaluate", config=CONFIG, payload=payload)
    assert refused.code is o.Code.INVALID


def test_results_wait_for_nobody_after_a_lost_lease(driver: Driver) -> None:
    """Whoever lost the lease brings about nothing, though the games are good."""
    payload = EvaluatePayload("square8", 2, NET, HEURISTIC, 9, 1)
    driver.add("e", kind="evaluate", config=CONFIG, payload=raw(payload), lease_ms=1_000)
    old = driver.lease()
    driver.store("games1", kind="games")
    driver.tick(1_000)
    new = driver.lease()
    result = MatchesResult(tuple(games((1, 2))), 1, "")
    assert driver.complete(old, result=result, artifacts=("games1",)).code is o.Code.STALE_ATTEMPT
    assert driver.view("matches") == ()
    assert driver.complete(new, result=result, artifacts=("games1",)).state == "completed"
    assert len(driver.view("matches")) == 1


def test_a_payload_that_is_no_longer_understood_refuses_the_completion() -> None:
    """A snapshot may hold a job that an older version took in; its completion is an answer, not an exception."""
    driver = Driver(checked=False)  # such a job is put there by hand
    driver.worker()
    lease = driver.selfplay("job")
    job = driver.machine.ledger.jobs["job"]
    job.spec = msgspec.structs.replace(job.spec, payload=raw({"board": 7}))
    refused = driver.selfplay_done(lease, "shard")
    assert isinstance(refused, o.Refused)
    assert refused.code is o.Code.INVALID
    assert driver.state("job").value == "running"
