"""`/health`, `/ready`, `/status` and `/metrics`: what operators and their tools look at."""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import shutil
import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from workqueue.http.context import CONTEXT, FrontContext
from workqueue.stream import StreamError

if TYPE_CHECKING:
    from pathlib import Path

    from workqueue.replication import CoreState

SCHEMA = 1  # of the /status document; grows when a field changes its meaning
STALE_MS = 2_000


async def health(request: web.Request) -> web.Response:
    """200 as long as this front and its core answer."""
    context = request.app[CONTEXT]
    try:
        async with asyncio.timeout(2):
            await context.core.call("status")
    except (StreamError, TimeoutError):
        return web.json_response({"ok": False, "reason": "the core does not answer"}, status=503)
    return web.json_response({"ok": True})


async def ready(request: web.Request) -> web.Response:
    """200 when writes will be taken here: a leader is known, reached, and heard of lately."""
    context = request.app[CONTEXT]
    state = context.core.state
    reasons = []
    if not state.leader:
        reasons.append("no leader is known")
    elif state.leader != context.voter_id and state.leader not in context.peers.reachable:
        reasons.append(f"the leader {state.leader} cannot be reached")
    if not state.ready:
        reasons.append("the log is being caught up")
    if state.age_ms > STALE_MS:
        reasons.append(f"the leader was last heard {state.age_ms} ms ago")
    return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)


@functools.cache
def _version() -> str:
    try:
        return importlib.metadata.version("riftq")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


async def status_document(context: FrontContext) -> dict[str, Any]:
    """Return the documented JSON of `/status`; the parts of the machine are as old as `consensus.age_ms` says."""
    core, queue = await asyncio.gather(context.core.call("status"), context.view("status"))
    details = msgspec.msgpack.decode(core)
    state = context.core.state
    view = msgspec.msgpack.decode(queue.value)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "voter": context.voter_id,
        "cluster": context.settings.cluster_id,
        "version": _version(),
        "disk_free_mb": shutil.disk_usage(_existing(context.data_dir)).free >> 20,
        "clock_ms": time.time_ns() // 1_000_000,
        "consensus": _consensus(context, state, details),
        "membership": _membership(context),
        "state": view,
    }
    for name, describe in context.extra_status.items():
        document[name] = describe()
    return document


def _consensus(context: FrontContext, state: CoreState, details: dict[str, Any]) -> dict[str, Any]:
    leader = next((voter for voter in context.settings.voters if voter.id == state.leader), None)
    return {
        "role": state.role,
        "leader": state.leader,
        "leader_url": leader.http if leader else "",
        "term": state.term,
        "commit_index": state.commit_index,
        "applied_index": state.applied_index,
        "age_ms": state.age_ms,
        "ready": state.ready,
        "parked_claims": details["parked"],
        "voters": [
            {
                "id": voter.id,
                "url": voter.http,
                "reachable": voter.id == context.voter_id or voter.id in context.peers.reachable,
            }
            for voter in context.settings.voters
        ],
        "metrics": details["log"],
        "digests": details["digests"],
    }


def _membership(context: FrontContext) -> list[dict[str, Any]]:
    if context.membership is None:
        return []
    return [msgspec.to_builtins(member) for member in context.membership.members()]


async def status(request: web.Request) -> web.Response:
    """Everything about this voter and the cluster in one document."""
    context = request.app[CONTEXT]
    context.tokens.authenticate(request, "read")
    return web.Response(body=msgspec.json.encode(await status_document(context)), content_type="application/json")


async def metrics(request: web.Request) -> web.Response:
    """Return Prometheus' text format."""
    context = request.app[CONTEXT]
    context.tokens.authenticate(request, "read")
    _gauges(context, await status_document(context))
    return web.Response(body=context.metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})


def _gauges(context: FrontContext, document: dict[str, Any]) -> None:
    """Copy the numbers of the status document into gauges; a map of numbers becomes one gauge with a label."""
    gauge = context.metrics.gauge
    for name, value in document["consensus"]["metrics"].items():
        gauge(f"rift_log_{_metric(name)}", f"Replicated log: {name}").set(value)
    for name in ("term", "commit_index", "applied_index", "age_ms", "parked_claims"):
        gauge(f"rift_consensus_{name}", f"Consensus: {name}").set(document["consensus"][name])
    gauge("rift_leader", "1 on the leader").set(document["consensus"]["role"] == "leader")
    for name, value in document.get("standing", {}).items():
        if isinstance(value, int):
            gauge(f"rift_voter_{name}", f"This voter's machine: {name}").set(value)
    _state_gauges(context, document["state"])


def _state_gauges(context: FrontContext, state: dict[str, Any]) -> None:
    gauge = context.metrics.gauge
    jobs = gauge("rift_jobs", "Jobs by state and kind", ("state", "kind"))
    jobs.clear()
    for job_state, kinds in state.get("jobs", {}).items():
        for kind, count in kinds.items():
            jobs.labels(job_state, kind).set(count)
    oldest, now = state.get("oldest_available_ms", 0), state.get("now_ms", 0)
    gauge("rift_oldest_available_seconds", "Wait of the oldest available job").set(
        (now - oldest) / 1000 if oldest else 0
    )
    workers = state.get("workers", ())
    live = [worker for worker in workers if worker["live"]]
    idle = sum(not worker["running"] for worker in live)
    gauge("rift_workers_live", "Workers that are registered and alive").set(len(live))
    waits = bool(state.get("jobs", {}).get("available"))
    gauge("rift_workers_idle_with_work", "Live workers without a job while jobs are available").set(
        idle if waits else 0
    )
    gauge("rift_workers_quarantined", "Workers in quarantine").set(sum(worker["quarantined"] for worker in workers))
    gauge("rift_artifacts", "Artifacts in the index").set(state.get("artifacts", 0))
    gauge("rift_artifact_bytes", "Bytes of the artifacts in the index").set(state.get("artifact_bytes", 0))
    alerts = gauge("rift_alerts", "Alerts that are raised", ("name",))
    alerts.clear()
    for alert in state.get("alerts", ()):
        alerts.labels(alert["name"]).inc()
    for config in state.get("configs", ()):
        for name in ("games", "games_new", "trainings", "matches", "promotions", "elo_milli", "loss_milli"):
            gauge(f"rift_loop_{name}", f"Improvement loop: {name}", ("config",)).labels(config["config"]).set(
                config[name]
            )


def _metric(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the routes of this file."""
    del context
    return [
        web.get("/health", health),
        web.get("/ready", ready),
        web.get("/status", status),
        web.get("/metrics", metrics),
    ]
