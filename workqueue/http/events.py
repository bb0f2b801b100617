"""`/v1/events`: what happens, as server-sent events, resumable by sequence number."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from aiohttp import web

from workqueue.http.context import CONTEXT, FrontContext
from workqueue.http.problem import Problem
from workqueue.stream import StreamError

WAIT_MS = 10_000  # then a comment keeps the connection open
BATCH = 500


def _since(request: web.Request) -> int:
    text = request.headers.get("Last-Event-ID") or request.query.get("since", "-1")
    try:
        since = int(text)
    except ValueError:
        since = -2
    if not -1 <= since < 2**53:
        raise Problem(422, "invalid", "Last-Event-ID and `since` are numbers of events; -1 follows from now on")
    return since


async def follow(request: web.Request) -> web.StreamResponse:
    """Send events for as long as the caller listens and its token holds."""
    context = request.app[CONTEXT]
    identity = context.tokens.authenticate(request, "read")
    since = _since(request)
    with context.metrics.connection(context.settings.limits.connections_max):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError, StreamError):
            await response.write(b"retry: 1000\n\n")
            while context.tokens.still_valid(identity):
                since, events = msgspec.msgpack.decode(await context.core.call("events", (since, BATCH, WAIT_MS)))
                await response.write(b"".join(map(_encode, events)) or b": nothing new\n\n")
    return response


def _encode(event: dict[str, Any]) -> bytes:
    return f"id: {event['seq']}\nevent: {event['name']}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n"


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the route of this file."""
    del context
    return [web.get("/v1/events", follow, allow_head=False)]
