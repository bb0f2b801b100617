"""The artifact index: holders, references, collection at zero references, revocation."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.unit.machine.driver import CONFIG, Driver, raw
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o
from workqueue.machine.transitions import State
from workqueue.schema import PlayerSpec, SelfplayPayload, TournamentPayload, TrainPayload, VerifyPayload


def refs(driver: Driver, sha: str) -> tuple[str, ...]:
    found = driver.view("artifact", sha256=sha).refs
    assert isinstance(found, tuple)
    return found


def training(*shards: str, parent: str = "") -> msgspec.Raw:
    return raw(TrainPayload("square8", 2, shards, 10, 1, parent=parent))


def test_copies_are_counted_by_holder(driver: Driver) -> None:
    """Holders come and go; what nobody holds is still known until it is collected."""
    driver.do(c.RegisterArtifact(c.ArtifactRef("a", 10, "log"), ("v2",)))
    driver.do(c.RegisterArtifact(c.ArtifactRef("a", 10, "log"), ("v1", "v2", "store")))
    assert driver.view("artifact", sha256="a").holders == ("store", "v1", "v2")
    assert driver.do(c.DropHolder("a", "v2")) == o.Changed(("a",))
    assert driver.do(c.DropHolder("a", "v2")) == o.Changed()
    assert driver.do(c.DropHolder("nothing", "v2")) == o.Changed()
    assert driver.view("artifact", sha256="a").holders == ("store", "v1")


@pytest.mark.parametrize("ref", [c.ArtifactRef("", 10, "log"), c.ArtifactRef("a", -1, "log")])
def test_an_artifact_needs_a_name_and_a_size(driver: Driver, ref: c.ArtifactRef) -> None:
    """What is neither is refused."""
    assert driver.do(c.RegisterArtifact(ref, ("v1",))).code is o.Code.INVALID
    assert driver.view("artifacts") == ()


def test_what_a_live_job_needs_is_not_collected(driver: Driver) -> None:
    """Shards and parent of a training stay until it ended, whatever its end."""
    driver.store("s1", "s2", "other")
    for name in ("t1", "t2"):
        driver.add(name, kind="train", config=CONFIG, payload=training("s1", "s2"))
    assert refs(driver, "s1") == ("jobs:2",)
    assert driver.do(c.CollectArtifacts(("s1", "other", "s2", "nothing"))) == o.Changed(("other",))
    driver.do(c.Cancel(("t1",)))
    assert refs(driver, "s1") == ("jobs:1",)
    assert driver.do(c.CollectArtifacts(("s1",))) == o.Changed()
    driver.do(c.Cancel(("t2",)))
    assert driver.do(c.CollectArtifacts(("s1", "s2"))) == o.Changed(("s1", "s2"))
    assert driver.ask("artifact", sha256="s1").code is o.Code.NOT_FOUND


@pytest.mark.parametrize(
    "naming",
    [
        lambda sha: {"at": [1, {"checkpoint": sha}], "x": "a" * 63},
        lambda sha: {"seen": {sha: None}},
        lambda sha: [[], [[sha]]],
        lambda sha: sha,
    ],
)
def test_what_a_live_cursor_names_is_not_collected(driver: Driver, naming: Callable[[str], object]) -> None:
    """However deep, as a key or a value; from the renewal that tells it to one that tells another, or to the end."""
    old, new = "a" * 64, "b" * 64
    driver.store(old, new)
    driver.add("j")
    lease = driver.lease()
    for sha in (old, new):
        driver.do(c.Renew("w1", "b1", (c.LeaseRenewal("j", lease.attempt, cursor=raw(naming(sha))),)))
        driver.do(c.Renew("w1", "b1", (c.LeaseRenewal("j", lease.attempt),)))
        assert refs(driver, sha) == ("jobs:1",)
        assert driver.do(c.CollectArtifacts((sha,))) == o.Changed()
        assert refs(driver.restored(), sha) == ("jobs:1",)
    assert driver.do(c.CollectArtifacts((old,))) == o.Changed((old,))
    driver.do(c.Release("w1", "j", lease.attempt, cursor=raw([new, old])))
    assert driver.do(c.CollectArtifacts((new,))) == o.Changed()
    driver.do(c.Cancel(("j",)))
    assert driver.do(c.CollectArtifacts((new,))) == o.Changed((new,))
    driver.store(new)
    driver.do(c.Retry(("j",)))
    assert driver.do(c.CollectArtifacts((new,))) == o.Changed()


@pytest.mark.parametrize("kind", ["selfplay", "tournament", "verify"])
def test_players_weights_are_needed_too(driver: Driver, kind: str) -> None:
    """A job that plays with a net keeps the net."""
    driver.store("net", kind="weights")
    player = PlayerSpec("gumbel", "net", 8)
    payload = {
        "selfplay": SelfplayPayload("square8", 2, player, 10, 1),
        "tournament": TournamentPayload("square8", 2, (PlayerSpec("random"), player), 10, 1),
        "verify": VerifyPayload(asked=SelfplayPayload("square8", 2, player, 10, 1), again=(1,)),
    }[kind]
    driver.add("j", kind=kind, config=CONFIG, payload=raw(payload))
    assert refs(driver, "net") == ("jobs:1",)
    driver.do(c.Cancel(("j",)))
    assert refs(driver, "net") == ()


def test_a_retried_job_needs_its_data_again(driver: Driver) -> None:
    """A training that was cancelled and is tried again by hand keeps its shards from collection."""
    driver.store("s1")
    driver.add("t", kind="train", config=CONFIG, payload=training("s1"))
    driver.do(c.Cancel(("t",)))
    assert refs(driver, "s1") == ()
    driver.do(c.Retry(("t",)))
    assert refs(driver, "s1") == ("jobs:1",)
    assert driver.do(c.CollectArtifacts(("s1",))) == o.Changed()


def test_a_job_that_fails_at_once_needs_nothing(driver: Driver) -> None:
    """Enqueued behind a job that has failed, it fails, and its references go with it."""
    driver.add("a")
    driver.do(c.Cancel(("a",)))
    driver.store("s1")
    driver.add("t", kind="train", config=CONFIG, payload=training("s1"), depends_on=("a",))
    assert driver.state("t") is State.FAILED
    assert refs(driver, "s1") == ()


def test_data_models_and_matches_are_kept(driver: Driver) -> None:
    """Shards of games, weights of models and records of matches have references of their own."""
    driver.selfplay_done(driver.selfplay("p"), "shard1")
    driver.train("t", "model1")
    driver.tournament("m", [("g1", (1, 2))])
    shown = {each.sha256: each.refs for each in driver.view("artifacts")}
    assert shown == {
        "shard1": (f"data:{CONFIG}",), "model1": ("model:model1",), "games1": (f"match:{CONFIG}",),
    }  # fmt: skip
    assert driver.do(c.CollectArtifacts(tuple(shown))) == o.Changed()


def test_a_completion_needs_its_artifacts_stored(driver: Driver) -> None:
    """Bytes first, then the result; the lease stays for the second try."""
    driver.add("a")
    lease = driver.lease()
    refused = driver.complete(lease, artifacts=("log1",))
    assert (refused.code, refused.retry_ms > 0) == (o.Code.ARTIFACT_MISSING, True)
    assert driver.state("a") is State.RUNNING
    driver.store("log1", kind="log")
    assert driver.complete(lease, artifacts=("log1",)).state == "completed"


def test_a_config_is_learned_later(driver: Driver) -> None:
    """An artifact that was stored before its config was known counts for it afterwards, once."""
    driver.add("a", conditions=(c.Condition("shard", CONFIG, 1),))
    driver.store("s1", config="")
    driver.tick()
    assert driver.state("a") is State.SCHEDULED
    driver.store("s1")
    driver.tick()
    assert driver.state("a") is State.AVAILABLE
    driver.store("s1", config="hex8_2p")
    assert driver.view("artifact", sha256="s1").config == CONFIG


def test_revoked_data_leaves_windows_and_ratings(driver: Driver) -> None:
    """Of one worker, from a moment on; the ratings are those of the matches that are left."""
    driver.selfplay_done(driver.selfplay("p1"), "early")
    driver.tournament("m1", [("g1", (1, 2))])
    before = driver.view("elo")
    driver.now_ms += 1000
    driver.selfplay_done(driver.selfplay("p2"), "late")
    driver.tournament("m2", [("g2", (1, 2)), ("g3", (1, 2))])
    changed = driver.do(c.Revoke(worker="w1", since_ms=driver.now_ms, reason="broken clock"))
    assert changed.ids == ("late", f"{CONFIG}/g2", f"{CONFIG}/g3")
    assert [shard.sha256 for shard in driver.view("shards", config=CONFIG)] == ["early"]
    assert driver.view("elo") == before
    assert driver.do(c.Revoke(worker="w1", since_ms=driver.now_ms)).ids == ()
    assert driver.do(c.Revoke(shards=("early", "unknown"), reason="who made it?")).ids == ("early",)
    assert driver.view("shards", config=CONFIG) == ()
    assert driver.view("elo") == before, "matches stay"
    assert driver.do(c.Revoke(reason="whose?")).code is o.Code.INVALID
    assert [entry.action for entry in driver.view("audit")][:3] == ["revoke"] * 3


def test_revoking_a_model_takes_its_games_away(driver: Driver) -> None:
    """Shards that it played and matches that it took part in, nobody else's."""
    driver.train("t", "bad")
    driver.selfplay_done(driver.selfplay("p1", model="bad"), "of bad", player="bad:gumbel:-")
    driver.selfplay_done(driver.selfplay("p2"), "of others")
    driver.tournament("m", [("g1", (2, 1))], model="bad")
    driver.tournament("n", [("g2", (2, 1))])
    assert driver.do(c.Revoke(model="bad", reason="illegal moves")).ids == ("of bad", f"{CONFIG}/g1")
    assert [shard.sha256 for shard in driver.view("shards", config=CONFIG)] == ["of others"]


def test_revoked_data_does_not_fulfil_a_condition(driver: Driver) -> None:
    """Nor does what was collected; counts are the same on a replica that restored."""
    driver.selfplay_done(driver.selfplay("p"), "s1")
    driver.store("s2")
    driver.do(c.Revoke(worker="w1"))
    driver.do(c.CollectArtifacts(("s2",)))
    driver.add("a", conditions=(c.Condition("shard", CONFIG, 1),))
    for each in (driver, driver.restored()):
        each.tick()
        assert each.state("a") is State.SCHEDULED
    driver.store("s3")
    driver.tick()
    assert driver.state("a") is State.AVAILABLE
