"""The numbers of the /status document as Prometheus families; one table, which docs/operations.md repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from workqueue.standing import standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Samples = Iterable[tuple[tuple[str, ...], float]]


class Family(msgspec.Struct, frozen=True):
    """A metric: its name without `_total`, what it is, and how it is read from the document."""

    name: str
    kind: str  # "gauge" or "counter"
    help: str
    read: Callable[[dict[str, Any]], Samples]
    labels: tuple[str, ...] = ()


def _one(path: str, scale: float = 1.0) -> Callable[[dict[str, Any]], Samples]:
    """Read one number at a dotted path; a document that lacks it has no sample."""

    def read(document: dict[str, Any]) -> Samples:
        value: Any = document
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return [] if value is None else [((), float(value) * scale)]

    return read


def _configs(name: str, scale: float = 1.0) -> Callable[[dict[str, Any]], Samples]:
    """Read a number of each config's loop."""
    return lambda document: [((row["config"],), row[name] * scale) for row in document["state"].get("configs", ())]


def _jobs(document: dict[str, Any]) -> Samples:
    jobs = document["state"].get("jobs", {})
    return [((state, kind), count) for state, kinds in jobs.items() for kind, count in kinds.items()]


def _oldest(document: dict[str, Any]) -> Samples:
    state = document["state"]
    oldest = state.get("oldest_available_ms", 0)
    return [((), max(0, state["now_ms"] - oldest) / 1000 if oldest else 0.0)]


def _counted(names: Iterable[str]) -> list[tuple[tuple[str, ...], float]]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return [((name,), count) for name, count in sorted(counts.items())]


def idle(workers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the workers that could claim and have no job."""
    return [worker for worker in workers if standing(worker) == "live" and not worker["running"]]


def _members(document: dict[str, Any]) -> Samples:
    counts: dict[tuple[str, ...], float] = {}
    for member in document["membership"]:
        key = (str(member["role"]), str(member["state"]))
        counts[key] = counts.get(key, 0) + 1
    return sorted(counts.items())


FAMILIES: Final = (
    Family("rift_leader", "gauge", "1 on the leader", _one("consensus.leads")),
    Family("rift_consensus_term", "gauge", "Raft term", _one("consensus.term")),
    Family("rift_consensus_commit_index", "gauge", "Last committed entry", _one("consensus.commit_index")),
    Family("rift_consensus_applied_index", "gauge", "Last applied entry", _one("consensus.applied_index")),
    Family("rift_consensus_age_seconds", "gauge", "Since the leader was heard", _one("consensus.age_ms", 0.001)),
    Family("rift_consensus_ready", "gauge", "1 when the log is caught up", _one("consensus.ready")),
    Family("rift_voters", "gauge", "Voters of the cluster", _one("consensus.voters_all")),
    Family("rift_voters_reachable", "gauge", "Voters that this one reaches", _one("consensus.voters_reachable")),
    Family("rift_divergences", "counter", "Other voters' states that differed", _one("consensus.metrics.divergences")),
    Family("rift_log_entries", "counter", "Log entries applied", _one("consensus.metrics.entries")),
    Family("rift_log_commands", "counter", "Commands applied", _one("consensus.metrics.commands")),
    Family("rift_log_overloads", "counter", "Proposals refused for load", _one("consensus.metrics.overloaded")),
    Family("rift_log_unknowns", "counter", "Proposals of unknown fate", _one("consensus.metrics.unknown")),
    Family("rift_log_elections", "counter", "Elections this voter stood in", _one("consensus.metrics.elections")),
    Family("rift_log_syncs", "counter", "fdatasync calls of the journal", _one("consensus.metrics.journal_syncs")),
    Family("rift_log_bytes", "gauge", "Bytes of the journal", _one("consensus.metrics.journal_bytes")),
    Family("rift_log_kept_entries", "gauge", "Entries since the snapshot", _one("consensus.metrics.log_entries")),
    Family("rift_log_pending_commands", "gauge", "Commands not committed", _one("consensus.metrics.pending_commands")),
    Family("rift_log_snapshots", "counter", "Snapshots taken", _one("consensus.metrics.snapshots_taken")),
    Family("rift_log_installs", "counter", "Snapshots installed", _one("consensus.metrics.snapshots_installed")),
    Family("rift_log_links_refused", "counter", "Raft links refused", _one("consensus.metrics.links_refused")),
    Family("rift_jobs", "gauge", "Jobs by state and kind", _jobs, ("state", "kind")),
    Family("rift_oldest_pending_seconds", "gauge", "Wait of the oldest available job", _oldest),
    Family("rift_claims_parked", "gauge", "Claims that wait for a job", _one("consensus.parked_claims")),
    Family(
        "rift_lease_expiries",
        "counter",
        "Leases that ended without a word",
        lambda document: [((), document["meters"]["events"].get("lease.expired", 0))],
    ),
    Family(
        "rift_events",
        "counter",
        "Events by name",
        lambda document: [((name,), count) for name, count in sorted(document["meters"]["events"].items())],
        ("name",),
    ),
    Family(
        "rift_workers",
        "gauge",
        "Workers by standing",
        lambda document: _counted(map(standing, document["state"].get("workers", ()))),
        ("standing",),
    ),
    Family(
        "rift_workers_idle",
        "gauge",
        "Live workers without a job",
        lambda document: [((), len(idle(document["state"].get("workers", ()))))],
    ),
    Family(
        "rift_workers_idle_with_eligible_work",
        "gauge",
        "Idle workers that an available job would fit",
        _one("idle_with_eligible_work"),
    ),
    Family(
        "rift_disk_free_bytes", "gauge", "Free where this voter's data lies", _one("standing.disk_free_mb", 1 << 20)
    ),
    Family("rift_store_bytes", "gauge", "Artifacts on this voter's disk", _one("standing.store_used_mb", 1 << 20)),
    Family(
        "rift_certificate_expiry_seconds",
        "gauge",
        "Until this voter's certificate ends",
        _one("standing.certificate_days", 86_400),
    ),
    Family("rift_sockets", "gauge", "TCP connections, before and after TLS", _one("sockets.open")),
    Family("rift_sockets_cut", "counter", "TCP connections cut: too slow, or to make room", _one("sockets.cut")),
    Family("rift_sockets_refused", "counter", "TCP connections refused for want of room", _one("sockets.refused")),
    Family("rift_members", "gauge", "Members by role and state", _members, ("role", "state")),
    Family("rift_artifacts", "gauge", "Artifacts in the index", _one("state.artifacts")),
    Family("rift_artifact_bytes", "gauge", "Bytes of the artifacts in the index", _one("state.artifact_bytes")),
    Family(
        "rift_alerts",
        "gauge",
        "Alerts that are up, by name",
        lambda document: _counted(str(alert["name"]) for alert in document["state"].get("alerts", ())),
        ("name",),
    ),
    Family(
        "rift_halts",
        "gauge",
        "Scopes that are halted",
        lambda document: [((), len(document["state"].get("halts", ())))],
    ),
    Family("rift_loop_games", "counter", "Games of self-play", _configs("games"), ("config",)),
    Family("rift_loop_games_new", "gauge", "Games since the last training", _configs("games_new"), ("config",)),
    Family("rift_loop_trainings", "counter", "Trainings completed", _configs("trainings"), ("config",)),
    Family("rift_loop_matches", "counter", "Rated games", _configs("matches"), ("config",)),
    Family("rift_loop_promotions", "counter", "Promotions of a champion", _configs("promotions"), ("config",)),
    Family("rift_loop_elo", "gauge", "Elo of the champion", _configs("elo_milli", 0.001), ("config",)),
    Family("rift_loop_loss", "gauge", "Loss of the last training", _configs("loss_milli", 0.001), ("config",)),
)

SUMMARIES: Final = (
    ("rift_commit_latency_seconds", "commit", "From a proposal to its outcome, on the leader"),
    ("rift_claim_latency_seconds", "claim", "From a claim's proposal to the jobs granted, on the leader"),
)


def families(document: dict[str, Any]) -> Iterator[Metric]:
    """Yield every family with the document's samples."""
    consensus = document["consensus"]
    voters = consensus["voters"]
    derived = {
        "leads": consensus["role"] == "leader",
        "voters_all": len(voters),
        "voters_reachable": sum(voter["reachable"] for voter in voters),
    }
    whole = document | {"consensus": consensus | derived}
    for family in FAMILIES:
        made = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = made(family.name, family.help, labels=family.labels)
        for labels, value in family.read(whole):
            metric.add_metric(labels, value)
        yield metric
    for name, of, about in SUMMARIES:
        yield _summary(name, about, document["meters"][of])


def _summary(name: str, about: str, report: dict[str, Any]) -> Metric:
    metric = Metric(name, about, "summary")
    for quantile, seconds in report["quantiles_s"].items():
        metric.add_sample(name, {"quantile": quantile}, seconds)
    metric.add_sample(f"{name}_count", {}, report["count"])
    metric.add_sample(f"{name}_sum", {}, report["sum_s"])
    return metric
