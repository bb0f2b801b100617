"""The replicate duty: what it decides, and that real voters end with enough whole copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.store.test_artifacts import made
from workqueue.duties.replicate import Replicate, make_plan
from workqueue.machine.commands import ArtifactRef
from workqueue.transfer import put_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.store.conftest import Cluster, Voter

VOTERS = ("a", "b", "c", "d", "e")
NAMES = tuple(f"{index:064x}" for index in range(4))


@given(
    registered=st.dictionaries(st.sampled_from(NAMES), st.frozensets(st.sampled_from(VOTERS)), max_size=4),
    held=st.dictionaries(st.sampled_from(VOTERS), st.frozensets(st.sampled_from(NAMES)), min_size=1),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_round_brings_every_artifact_as_far_as_it_can(
    registered: dict[str, frozenset[str]], held: dict[str, frozenset[str]]
) -> None:
    """After a round each known artifact that somebody holds is on 3 voters, or on all that answer."""
    known = {name: (ArtifactRef(name, 7, "shard"), tuple(holders)) for name, holders in registered.items()}
    there = {voter: dict.fromkeys(names, 7) for voter, names in held.items()}
    plan = make_plan(known, there, 3, 1000)
    after = {name: {voter for voter in held if name in held[voter]} for name in NAMES}
    for copy in plan.copies:
        assert copy.source in after[copy.ref.sha256]
        assert copy.voter not in after[copy.ref.sha256]
    for copy in plan.copies:
        after[copy.ref.sha256].add(copy.voter)
    for name, holders in registered.items():
        if any(name in names for names in held.values()):
            assert len(after[name]) >= min(3, len(held))
        dropped = {voter for sha256, voter in plan.lost if sha256 == name}
        assert dropped == {voter for voter in holders if voter in held and name not in held[voter]}
    assert {sha256 for sha256, _ in plan.unknown}.isdisjoint(registered)


def test_a_copy_of_another_size_is_no_copy() -> None:
    """Half-written or foreign bytes do not count."""
    plan = make_plan(
        {NAMES[0]: (ArtifactRef(NAMES[0], 7, "shard"), ("a", "b"))}, {"a": {NAMES[0]: 7}, "b": {NAMES[0]: 3}}, 2, 9
    )
    assert plan.lost == ((NAMES[0], "b"),)
    assert [copy.voter for copy in plan.copies] == ["b"]


def test_a_voter_that_restarts_is_trusted() -> None:
    """Nothing is copied for a voter that has just gone."""
    known = {NAMES[0]: (ArtifactRef(NAMES[0], 7, "shard"), ("a", "b"))}
    held = {"a": {NAMES[0]: 7}, "c": {}}
    assert make_plan(known, held, 2, 9, frozenset({"b"})).copies == ()
    assert len(make_plan(known, held, 2, 9).copies) == 1


@dataclass
class Leader:
    """The duty's view of one voter of the test cluster."""

    voter: Voter
    ms: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.voter, name)

    @property
    def front(self) -> Voter:
        return self.voter

    def now_ms(self) -> int:
        return self.ms

    async def query(self, name: str, /, **args: Any) -> Any:
        assert name == "artifacts"
        registry = self.voter.registry
        rows = [
            {"sha256": sha256, "size_bytes": registry.sizes[sha256], "kind": "shard", "holders": sorted(holders)}
            for sha256, holders in sorted(registry.holders.items())
        ]
        return rows[args["offset"] : args["offset"] + args["limit"]]


async def test_a_lost_copy_is_made_again(cluster: Cluster, tmp_path: Path) -> None:
    """Bytes that vanish from a voter are dropped from the registry and copied anew, whole."""
    path, sha256 = made(tmp_path / "a")
    await put_artifact(cluster.http, path, kind="shard")
    first, second = [voter for voter in cluster.voters if await voter.store.size(sha256) is not None]
    await first.store.delete(sha256)
    for leader in cluster.voters:
        await Replicate().run(Leader(leader))  # type: ignore[arg-type]
    holding = {voter.voter_id for voter in cluster.voters if await voter.store.verify(sha256)}
    assert len(holding) == 2
    assert cluster.registry.holders[sha256] == holding
    assert second.voter_id in holding


async def test_a_lost_voter_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    """After its grace a voter that is gone is replaced as a holder."""
    path, sha256 = made(tmp_path / "a")
    await put_artifact(cluster.http, path, kind="shard")
    keeper, gone = [voter for voter in cluster.voters if await voter.store.size(sha256) is not None]
    [spare] = [voter for voter in cluster.voters if voter not in (keeper, gone)]
    await gone.stop()
    duty, leader = Replicate(away_ms=1000), Leader(keeper)
    await duty.run(leader)  # type: ignore[arg-type]
    assert await spare.store.size(sha256) is None
    leader.ms = 1001
    await duty.run(leader)  # type: ignore[arg-type]
    assert await spare.store.verify(sha256)
    assert spare.voter_id in cluster.registry.holders[sha256]


async def test_unknown_bytes_go_after_the_grace(cluster: Cluster, tmp_path: Path) -> None:
    """What the registry has forgotten is deleted, but not what is only being registered."""
    path, sha256 = made(tmp_path / "a")
    await put_artifact(cluster.http, path, kind="shard")
    del cluster.registry.holders[sha256]
    duty, leader = Replicate(grace_ms=1000), Leader(cluster.voters[0])
    await duty.run(leader)  # type: ignore[arg-type]
    assert sum([await voter.store.size(sha256) is not None for voter in cluster.voters]) == 2
    leader.ms = 1000
    await duty.run(leader)  # type: ignore[arg-type]
    assert sum([await voter.store.size(sha256) is not None for voter in cluster.voters]) == 0
