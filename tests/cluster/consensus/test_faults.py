"""Five real voters, broken in every way, while every answer that clients get is recorded and judged.

With root, iproute2 and nftables each voter has a network namespace and one a small disk; without, the voters meet on
loopback, and partitions, loss and full disks are left out. Half an hour of it: `python -m benchmarks.faults`.
"""

from __future__ import annotations

import pytest

from benchmarks.faults import figures, torment
from benchmarks.faults_lab import isolation
from benchmarks.faults_nemesis import FAULTS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
SABOTAGES = {"stale-reads": "kill_leader"} | ({"lonely-commits": "isolate_leader"} if isolation() else {})


async def test_a_minute_of_faults_loses_and_violates_nothing() -> None:
    """Kills, pauses, cuts, loss and bad disks: every history is linearizable, and all voters hold what was told."""
    outcome = await torment(64, tag="fc", seed=5)
    print(figures(outcome, (0, 0)))
    assert outcome.lost == []
    assert outcome.wrong == []
    assert outcome.unserved == []
    assert sum(f.until - f.at for f in outcome.injected) >= 60
    assert {f.name for f in outcome.injected} == {n for n, f in FAULTS.items() if isolation() or not f.network}
    assert outcome.log.acknowledged > 1000


@pytest.mark.parametrize("sabotage", SABOTAGES)
async def test_a_voter_made_wrong_on_purpose_is_found(sabotage: str) -> None:
    """Reads without a barrier, and commits without a majority: a judge that never condemns is none."""
    on_loopback = None if sabotage == "lonely-commits" else False
    outcome = await torment(6, tag="fx", only=[SABOTAGES[sabotage]], sabotage=sabotage, namespaces=on_loopback)
    assert any("not linearizable" in text for text in outcome.wrong)
    if sabotage == "lonely-commits":
        assert outcome.lost != []


async def test_without_namespaces_the_voters_meet_on_loopback() -> None:
    """The same run with the faults that need no privilege."""
    outcome = await torment(8, tag="fy", only=["pause_leader", "failing_disk_of_leader"], namespaces=False)
    assert (outcome.lost, outcome.wrong) == ([], [])
    assert {f.name for f in outcome.injected} == {"pause_leader", "failing_disk_of_leader"}
