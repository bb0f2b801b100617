"""/metrics: everything the operations page lists, readable by Prometheus' own parser, named by its conventions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.workqueue.conftest import Voter, running_voter
from workqueue.http.exposition import FAMILIES, SUMMARIES
from workqueue.machine.commands import (
    Capability,
    Claim,
    Enqueue,
    Free,
    JobSpec,
    RegisterKind,
    RegisterWorker,
    Requirements,
)
from workqueue.meters import Latency
from workqueue.tls import client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client import Metric

DOCS = Path(__file__).parents[3] / "docs/operations.md"


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Voter]:
    async with running_voter(tmp_path, real=True) as running:
        yield running


async def scrape(voter: Voter) -> dict[str, Metric]:
    headers = {"Authorization": f"Bearer {voter.token('worker')}"}
    tls, url = client_context(voter.created.ca), voter.url + "/metrics"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, ssl=tls) as got:
        assert got.status == 200
        text = await got.text()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(found: dict[str, Metric], family: str, sample: str = "", **labels: str) -> float:
    name = sample or family
    [matching] = [s.value for s in found[family].samples if s.name == name and s.labels.items() >= labels.items()]
    return matching


async def busy(voter: Voter) -> None:
    """A worker with a job, an idle one that could run what waits, and one that could not."""
    able, small = Capability(4, 4000, 4000, kinds=("open",)), Capability(1, 10, 10, kinds=("open",))
    async with voter.client() as client:
        needs = Requirements(cpus=1, ram_mb=100, disk_mb=1)
        jobs = tuple(JobSpec(f"j{n}", "open", requires=needs) for n in range(3))
        await client.submit(RegisterKind("open"))
        await client.submit(
            *(RegisterWorker(name, "b", of) for name, of in (("w1", able), ("w2", able), ("w3", small))), Enqueue(jobs)
        )
        await client.claim(Claim("w1", "b", Free(4, 4000, 4000), 1), 0)


async def test_the_numbers_are_right(real: Voter) -> None:
    """What the issue's list asks for, from a state whose numbers are known."""
    await busy(real)
    found = await scrape(real)
    assert value(found, "rift_jobs", state="available", kind="open") == 2
    assert value(found, "rift_jobs", state="running", kind="open") == 1
    assert value(found, "rift_workers", standing="live") == 3
    assert value(found, "rift_workers_idle") == 2
    assert value(found, "rift_workers_idle_with_eligible_work") == 1
    assert value(found, "rift_claim_latency_seconds", "rift_claim_latency_seconds_count") == 1
    assert 0 < value(found, "rift_claim_latency_seconds", quantile="0.99") < 5
    assert value(found, "rift_commit_latency_seconds", "rift_commit_latency_seconds_count") >= 2
    assert value(found, "rift_oldest_pending_seconds") >= 0
    assert value(found, "rift_leader") == 1
    assert value(found, "rift_lease_expiries", "rift_lease_expiries_total") == 0
    assert value(found, "rift_disk_free_bytes") > 1 << 20
    assert value(found, "rift_certificate_expiry_seconds") > 86_400
    assert value(found, "rift_leader_changes", "rift_leader_changes_total") == 0
    assert value(found, "rift_artifact_bytes") == 0
    assert value(found, "rift_sockets") >= 1
    empty = [each.name for each in FAMILIES if not each.labels and not found[each.name].samples]
    assert [name for name in empty if not name.startswith(("rift_log_", "rift_divergences"))] == []  # a journal's
    assert value(found, "rift_events", "rift_events_total", name="job.claimed") == 1


async def test_divergence_is_counted(real: Voter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A voter whose state differs shows on those that found it out."""
    metrics = real.server._log.metrics()
    monkeypatch.setattr(real.server._log, "metrics", lambda: metrics | {"divergences": 1})
    assert value(await scrape(real), "rift_divergences", "rift_divergences_total") == 1


async def test_names_follow_the_conventions(real: Voter) -> None:
    """Snake case, our prefix, base units last, counters as totals, a help text each, nothing twice."""
    await busy(real)
    found = await scrape(real)
    for family in found.values():
        assert re.fullmatch(r"rift(_[a-z0-9]+)+", family.name), family.name
        assert family.documentation
        assert not family.name.endswith(("_total", "_ms", "_days", "_milli", "_count", "_kb", "_mb")), family.name
        if family.type == "counter":
            assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples)
    names = [family.name for family in FAMILIES] + [name for name, _, _ in SUMMARIES]
    assert len(names) == len(set(names))
    assert set(names) <= set(found)


async def test_the_operations_page_lists_every_metric(real: Voter) -> None:
    """The table in the docs and the voter's answer have the same names."""
    await busy(real)
    listed = set(re.findall(r"^\| `(rift_\w+)", DOCS.read_text(), re.MULTILINE))
    served = {name + ("_total" if family.type == "counter" else "") for name, family in (await scrape(real)).items()}
    assert served == listed


def test_quantiles_are_of_the_newest() -> None:
    """Old durations leave the quantiles but stay in count and sum."""
    latency = Latency()
    latency.observe(100.0, 5)
    for n in range(3_000):
        latency.observe((n % 100) / 1000)
    report = latency.report()
    assert report.count == 3_005
    assert report.sum_s == pytest.approx(500 + 30 * 4.95)
    assert report.quantiles_s["0.5"] == pytest.approx(0.05, abs=0.002)
    assert report.quantiles_s["0.99"] == pytest.approx(0.098, abs=0.002)
    assert Latency().report().quantiles_s == {}
