"""`/v1/standing`: what only this voter's own machine knows: its clock, disk, certificate, and divergences it has seen.

The leader asks every voter for it, and raises alerts on what it finds.
"""

from __future__ import annotations

import asyncio
import datetime
import shutil
import time
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from cryptography import x509

from workqueue.http.context import CONTEXT

if TYPE_CHECKING:
    from pathlib import Path

    from workqueue.http.context import FrontContext


class Standing(msgspec.Struct, frozen=True):
    """One voter's machine."""

    voter: str
    now_ms: int
    disk_free_mb: int
    disk_floor_mb: int  # free space that artifacts never use
    store_used_mb: int  # 0 where an object store keeps the artifacts
    store_quota_mb: int
    certificate_days: int  # until the voter's certificate ends
    divergences: int  # digests of another voter that differed from this one's


def days_left(cert: Path, now_ms: int) -> int:
    """Return for how many whole days a certificate is still valid."""
    ends = x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc
    return (ends - datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC)).days


def local(context: FrontContext) -> Standing:
    """Return what this process sees by itself; reads the disk."""
    store = context.settings.store
    now_ms = time.time_ns() // 1_000_000
    return Standing(
        voter=context.voter_id,
        now_ms=now_ms,
        disk_free_mb=shutil.disk_usage(context.data_dir if context.data_dir.exists() else context.folder).free >> 20,
        disk_floor_mb=store.floor_mb,
        store_used_mb=getattr(context.store, "used_bytes", 0) >> 20,
        store_quota_mb=store.quota_mb,
        certificate_days=days_left(context.folder / context.voter.cert, now_ms),
        divergences=0,
    )


async def standing(context: FrontContext) -> Standing:
    """Return this voter's standing; raises StreamError when its core does not answer."""
    core = msgspec.msgpack.decode(await context.core.call("status"))
    found = await asyncio.to_thread(local, context)
    return msgspec.structs.replace(found, divergences=int(core["log"].get("divergences", 0)))


async def answer(request: web.Request) -> web.Response:
    """Tell another voter."""
    context = request.app[CONTEXT]
    await context.tokens.authenticate(request, "voter")
    return web.Response(body=msgspec.json.encode(await standing(context)), content_type="application/json")


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the routes of this file, and put the standing into the /status document."""
    context.extra_status["standing"] = lambda: msgspec.to_builtins(local(context))
    return [web.get("/v1/standing", answer)]
