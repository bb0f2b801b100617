"""`/v1/stream`: the WebSocket that workers and clients keep open; many calls at once, claims block on the leader."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from aiohttp import web

from membership.api import Metadata
from workqueue.admission import Bucket, Envelope, admit, check_room, command_type
from workqueue.http.context import CONTEXT, FrontContext
from workqueue.http.limits import REQUEST_BYTES_MAX
from workqueue.http.problem import Problem
from workqueue.http.results import Judged, schemas
from workqueue.security import Identity, may
from workqueue.stream import (
    FRAME_BYTES_MAX,
    PUSH,
    UNREADABLE,
    Frame,
    FrameError,
    Splitter,
    StreamError,
    decode_as,
    pack,
)
from workqueue.wslink import HEARTBEAT_S, Sender

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from config.cluster import LimitSettings
    from workqueue.routing import Routed

IN_FLIGHT_MAX = 10_000  # calls of one connection
PROTOCOL = 1
CHECK_S = 1.0  # pace of looking whether the token still holds
ADMIN_QUERIES = frozenset({"tokens", "audit"})
_OPERATOR = frozenset({"transfer", "snapshot", "barrier"})
_envelopes = msgspec.msgpack.Decoder(list[Envelope]).decode
_NOTHING = msgspec.Raw(b"\x90")  # an empty list
_claim = msgspec.msgpack.Decoder(tuple[Envelope, int]).decode


class Session:
    """One client's or voter's connection."""

    def __init__(self, context: FrontContext, identity: Identity, sender: Sender) -> None:
        self._context = context
        self._identity = identity
        self._sender = sender
        self._trusted = identity.role == "voter"
        self._loop = asyncio.get_running_loop()
        self._bucket = Bucket(context.rates.rate, self._loop.time())
        self._claims: dict[int, Routed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._out: list[bytes] = []

    def start(self) -> None:
        """Greet."""
        state = self._context.core.state
        hello = {"protocol": PROTOCOL, "actor": self._identity.actor, "role": self._identity.role}
        self._write(pack(PUSH, "hello", hello | {"voter": self._context.voter_id, "leader": state.leader}))

    def end(self) -> None:
        """Give up the claims that wait for this client."""
        for routed in self._claims.values():
            routed.abandon()
        for task in self._tasks:
            task.cancel()

    def received(self, frame: Frame) -> None:
        """Start what a frame asks for."""
        call_id, op, body = frame
        try:
            self._check_in_flight()
            match op:
                case "propose":
                    self._propose(call_id, body)
                case "claim":
                    self._claim(call_id, body)
                case "drop":
                    self._drop(decode_as(int, body))
                case "beat":
                    self._beat(call_id, body)
                case _:
                    self._spawn(self._answer(call_id, op, body))
        except StreamError as error:
            self._write(pack(call_id, "error", error.body))

    def _check_in_flight(self) -> None:
        if self._in_flight >= IN_FLIGHT_MAX:
            raise StreamError("limit", f"more than {IN_FLIGHT_MAX} calls in flight on one connection", 100)

    def _propose(self, call_id: int, body: msgspec.Raw) -> None:
        if self._trusted:
            self._forward(call_id, body, None)
            return
        forwarded, requests = self._admitted(body)
        if schemas(self._context) and any(command_type(each.command) == "Complete" for each in requests):
            self._spawn(self._judge(call_id, requests))
        else:
            self._forward(call_id, forwarded, None)

    def _forward(self, call_id: int, forwarded: object, judged: Judged | None) -> None:
        self._in_flight += 1
        started = time.perf_counter()

        def replied(answer: str, reply: msgspec.Raw) -> None:
            self._in_flight -= 1
            whole = judged.answer(reply) if judged and answer == "ok" else reply
            self._write(pack(call_id, answer, whole))
            self._context.metrics.propose.observe(time.perf_counter() - started)

        self._send("propose", forwarded, replied)

    async def _judge(self, call_id: int, requests: list[Envelope]) -> None:
        """Propose what is left when results that do not fit their kind's schema are taken out."""
        judged = Judged()
        try:
            for request in requests:
                await judged.add(self._context, request)
        except StreamError as error:
            self._write(pack(call_id, "error", error.body))
            return
        if judged.requests:
            self._forward(call_id, judged.requests, judged)
        else:
            self._write(pack(call_id, "ok", judged.answer(_NOTHING)))

    @property
    def _limits(self) -> LimitSettings:
        return self._context.settings.limits

    def _admitted(self, body: msgspec.Raw) -> tuple[object, list[Envelope]]:
        """Return what to send on, the body as it came when nothing had to be changed; and its requests."""
        size = len(body)
        if size > REQUEST_BYTES_MAX:
            raise StreamError("too_large", f"a call of {size} bytes; at most {REQUEST_BYTES_MAX} are allowed")
        requests = _decoded(_envelopes, body)
        if wait_ms := self._bucket.take(len(requests), self._loop.time()):
            raise StreamError("limit", "too many requests a second on one connection", wait_ms)
        for request in requests:
            check_room(command_type(request.command), self._context.core.state.live, self._limits.queue_max)
        kinds = self._context.core.views.get("kinds", ())
        admitted = [admit(self._identity, request, kinds) for request in requests]
        same = all(after is before for after, before in zip(admitted, requests, strict=True))
        return body if same else admitted, admitted

    def _claim(self, call_id: int, body: msgspec.Raw) -> None:
        forwarded: object = body
        if not self._trusted:
            request, wait_ms = _decoded(_claim, body)
            if pause_ms := self._bucket.take(1, self._loop.time()):
                raise StreamError("limit", "too many requests a second on one connection", pause_ms)
            forwarded = (admit(self._identity, request), min(max(wait_ms, 0), 60_000))
        self._in_flight += 1
        started = time.perf_counter()

        def replied(answer: str, reply: msgspec.Raw) -> None:
            self._in_flight -= 1
            self._claims.pop(call_id, None)
            self._write(pack(call_id, answer, reply))
            self._context.metrics.claim.observe(time.perf_counter() - started)

        routed = self._send("claim", forwarded, replied)
        if routed and not routed.done:
            self._claims[call_id] = routed

    def _beat(self, call_id: int, body: msgspec.Raw) -> None:
        self._require("worker")
        worker, boot, seq, metadata = decode_as(tuple[str, str, int, Metadata], body)
        if self._context.presence is not None:
            self._context.presence.beat(worker, boot, seq, metadata, forwarded=self._trusted)
        if call_id != PUSH:
            self._write(pack(call_id, "ok", None))

    def _drop(self, call_id: int) -> None:
        routed = self._claims.pop(call_id, None)
        if routed:
            self._in_flight -= 1
            routed.abandon()

    def _send(self, op: str, body: object, replied: Any) -> Routed | None:
        if not self._trusted:
            return self._context.leader.router.send(op, body, replied)
        # Another voter forwards: it goes to this core or back, never on.
        return self._context.leader.router.send_local(op, body, replied)

    async def _answer(self, call_id: int, op: str, body: msgspec.Raw) -> None:
        self._in_flight += 1
        try:
            reply = await self._compute(op, body)
        except StreamError as error:
            self._write(pack(call_id, "error", error.body))
        except Problem as problem:
            self._write(pack(call_id, "error", StreamError(problem.code, str(problem), problem.retry_ms).body))
        else:
            self._write(pack(call_id, "ok", reply))
        finally:
            self._in_flight -= 1

    async def _compute(self, op: str, body: msgspec.Raw) -> object:
        context = self._context
        if op == "query":
            name, _, consistency = decode_as(tuple[str, dict[str, Any], str], body)
            self._require("admin" if name in ADMIN_QUERIES else "read")
            if consistency == "stale" or self._trusted:
                return await context.core.call("query", body)
            return await context.leader.router.call("query", body)
        if op in {"events", "meters"}:
            self._require("read")
            return await context.core.call(op, body)
        if op in _OPERATOR:
            self._require("admin")
            if op == "snapshot" or self._trusted:
                return await context.core.call(op, body)
            return await context.leader.router.call(op, body)
        raise StreamError("malformed", f"there is no call `{op}`")

    def _require(self, role: str) -> None:
        if not may(self._identity.role, role):
            raise StreamError("forbidden", f"this needs the role `{role}`; yours is `{self._identity.role}`")

    def _write(self, frame: bytes) -> None:
        self._sender.write(frame)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _decoded(decode: Any, body: msgspec.Raw) -> Any:
    try:
        return decode(body)
    except UNREADABLE as error:
        raise StreamError("malformed", f"the call is not understood: {error}") from error


async def serve(request: web.Request) -> web.WebSocketResponse:
    """Let a client in, and carry its frames until it leaves or its token ends."""
    context = request.app[CONTEXT]
    identity = await context.tokens.authenticate(request, "read")
    socket = web.WebSocketResponse(max_msg_size=2 * FRAME_BYTES_MAX, compress=False, heartbeat=HEARTBEAT_S)
    voter = identity.role == "voter"  # without whom this one could not forward, or be forwarded to
    with context.metrics.connection(sys.maxsize if voter else context.settings.limits.connections_max):
        await socket.prepare(request)
        sender = Sender(socket)
        session = Session(context, identity, sender)
        session.start()
        helpers = [asyncio.create_task(sender.run()), asyncio.create_task(_guard(context, identity, socket))]
        try:
            await _read(socket, session)
        finally:
            session.end()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
    return socket


async def _read(socket: web.WebSocketResponse, session: Session) -> None:
    splitter = Splitter()
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY:
            await socket.close(code=aiohttp.WSCloseCode.UNSUPPORTED_DATA, message=b"frames are binary")
            return
        try:
            for frame in splitter.feed(message.data):
                session.received(frame)
        except FrameError as error:
            await socket.close(code=aiohttp.WSCloseCode.PROTOCOL_ERROR, message=str(error).encode()[:100])
            return


async def _guard(context: FrontContext, identity: Identity, socket: web.WebSocketResponse) -> None:
    while context.tokens.still_valid(identity):  # noqa: ASYNC110  expiry is a matter of time
        await asyncio.sleep(CHECK_S)
    with contextlib.suppress(ConnectionError):
        await socket.close(code=aiohttp.WSCloseCode.POLICY_VIOLATION, message=b"the token was revoked or has expired")


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the routes of this file."""
    del context
    return [web.get("/v1/stream", serve)]
