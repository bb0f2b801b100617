"""`/v1/events`: what happens, as server-sent events, resumable by sequence number.

With `status=1` the /status document travels on the same stream, as `status` events without a number, whenever it
changed and once a second at most: a page that listens need not ask.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
from aiohttp import web

from workqueue.http.context import CONTEXT, FrontContext
from workqueue.http.health import status_document
from workqueue.http.problem import Problem
from workqueue.stream import StreamError

WAIT_MS = 10_000  # then a comment keeps the connection open
BATCH = 500
WRITE_S = 30.0
_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy that gathers would hold events back
    "X-Content-Type-Options": "nosniff",
}
STATUS_S = 1.0  # between two documents


def _since(request: web.Request) -> int:
    text = request.headers.get("Last-Event-ID") or request.query.get("since", "-1")
    try:
        since = int(text)
    except ValueError:
        since = -2
    if not -1 <= since < 2**53:
        raise Problem(422, "invalid", "Last-Event-ID and `since` are numbers of events; -1 follows from now on")
    return since


def _wants_status(request: web.Request) -> bool:
    wanted = request.query.get("status", "0")
    if wanted not in {"0", "1"}:
        raise Problem(422, "invalid", "status is 1, to have the status document too, or 0")
    return wanted == "1"


async def follow(request: web.Request) -> web.StreamResponse:
    """Send events for as long as the caller listens and its token holds."""
    context = request.app[CONTEXT]
    identity = await context.tokens.authenticate(request, "read")
    since, documents = _since(request), Documents(context) if _wants_status(request) else None
    with context.metrics.connection(context.settings.limits.connections_max):
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError, StreamError, TimeoutError):
            await _write(request, response, b"retry: 1000\n\n")
            wait_ms = 0  # what was missed, or a gap, is told at once
            while context.tokens.still_valid(identity):
                if documents and (text := await documents.due()):
                    await _write(request, response, text)
                last, events = msgspec.msgpack.decode(await context.core.call("events", (since, BATCH, wait_ms)))
                text = _gap(since, last, events) + b"".join(map(_encode, events))
                since = last
                wait_ms = documents.pause_ms() if documents else WAIT_MS
                if text or not documents:
                    await _write(request, response, text or b": nothing new\n\n")
    return response


async def _write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Write; a listener that reads nothing for so long loses its connection (TimeoutError)."""
    try:
        async with asyncio.timeout(WRITE_S):
            await response.write(data)
    except TimeoutError:
        if request.transport:
            request.transport.abort()
        raise


class Documents:
    """When to send the status document, and which."""

    def __init__(self, context: FrontContext) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._sent: object = None
        self._next = 0.0
        self._idle_until = 0.0

    def _mark(self) -> object:
        """Return what differs whenever the document does."""
        state, membership = self._context.core.state, self._context.membership
        members = [(m.id, m.boot_id, m.state) for m in membership.members()] if membership is not None else []
        return state.role, state.leader, state.term, state.applied_index, state.ready, members

    async def due(self) -> bytes:
        """Return the document as an event if it changed since it was sent last, else a comment now and then."""
        now, mark = self._loop.time(), self._mark()
        if now < self._next:
            return b""
        self._next = now + STATUS_S
        if mark == self._sent and now < self._idle_until:
            return b""
        self._idle_until = now + WAIT_MS / 1000  # even then: ages and clocks go on
        self._sent = mark
        return b"event: status\ndata: " + msgspec.json.encode(await status_document(self._context)) + b"\n\n"

    def pause_ms(self) -> int:
        """Return for how long events may be waited for before the document is due again."""
        return max(20, int((self._next - self._loop.time()) * 1000))


def _gap(since: int, last: int, events: list[dict[str, Any]]) -> bytes:
    """Return the event that tells a listener of numbers that it will never see, if there are such."""
    following = events[0]["seq"] if events else last + 1
    if since < 0 or following == since + 1:
        return b""
    return f'event: gap\ndata: {{"after":{since},"next":{following}}}\n\n'.encode()


def _encode(event: dict[str, Any]) -> bytes:
    name = " ".join(event["name"].split())  # a line end inside a name would begin a field
    return f"id: {event['seq']}\nevent: {name}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n"


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the route of this file."""
    del context
    return [web.get("/v1/events", follow, allow_head=False)]
