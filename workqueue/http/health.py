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
from workqueue.http.exposition import families, idle
from workqueue.stream import StreamError

if TYPE_CHECKING:
    from pathlib import Path

    from workqueue.replication import CoreState

SCHEMA = 1  # of the /status document; grows when a field changes its meaning
STALE_MS = 2_000
LEADER_S = 0.5
CAPABILITIES_MAX = 50  # different ones that a scrape asks about


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
    core, queue, led = await asyncio.gather(
        context.core.call("status"), context.view("status"), _leaders_meters(context)
    )
    details = msgspec.msgpack.decode(core)
    timed = led or details["meters"]
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
        "meters": details["meters"],
        "latency": {"commit": timed["commit"], "claim": timed["claim"]},
        "state": view,
    }
    for name, describe in context.extra_status.items():
        document[name] = describe()
    return document


async def _leaders_meters(context: FrontContext) -> dict[str, Any]:
    """Return what the leader's core measures; empty on the leader itself, and when it does not say so soon."""
    calls = None if context.core.leads else context.leader.router.leader_calls()
    if calls is None:
        return {}
    try:
        async with asyncio.timeout(LEADER_S):
            meters: dict[str, Any] = msgspec.msgpack.decode(await calls.call("meters"))
    except (StreamError, TimeoutError):
        return {}
    return meters


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
    await context.tokens.authenticate(request, "read")
    return web.Response(body=msgspec.json.encode(await status_document(context)), content_type="application/json")


async def metrics(request: web.Request) -> web.Response:
    """Return Prometheus' text format."""
    context = request.app[CONTEXT]
    await context.tokens.authenticate(request, "read")
    document = await status_document(context)
    document["idle_with_eligible_work"] = await _idle_with_eligible_work(context, document["state"])
    text = context.metrics.text(families(document))
    return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def _idle_with_eligible_work(context: FrontContext, state: dict[str, Any]) -> int:
    """Return how many idle workers an available job would fit; workers of equal capability are asked about once."""
    if not state.get("jobs", {}).get("available"):
        return 0
    alike: dict[bytes, list[str]] = {}
    for worker in idle(state.get("workers", ())):
        alike.setdefault(msgspec.json.encode(worker["capability"]), []).append(worker["id"])
    eligible = 0
    for names in list(alike.values())[:CAPABILITIES_MAX]:
        view = await context.view("explain", {"worker": names[0]})
        if "fits" in msgspec.msgpack.decode(view.value)["reasons"].values():
            eligible += len(names)
    return eligible


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the routes of this file."""
    del context
    return [
        web.get("/health", health),
        web.get("/ready", ready),
        web.get("/status", status),
        web.get("/metrics", metrics),
    ]
