"""`/v1/...`: the JSON API for people, scripts and programs of any language; every path is in the table of endpoints."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from workqueue.admission import admit_command, check_jobs, check_kind, check_room
from workqueue.http.bodies import decode_json, read_body, to_command
from workqueue.http.context import CONTEXT, FrontContext, View
from workqueue.http.endpoints import ENDPOINTS, Endpoint, Param
from workqueue.http.problem import STATUS_OF_CODE, Problem, of_refused
from workqueue.http.results import all_refused, mended, refusals, without
from workqueue.machine.commands import Claim, Complete, Enqueue, RegisterKind
from workqueue.machine.outcomes import Code, Refused
from workqueue.open_kinds import SchemaMismatch
from workqueue.stream import StreamError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workqueue.security import Identity

WAIT_MS_MAX = 60_000
_KEY_MAX = 200
_INT_MAX = 2**53


def _handler(endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def propose(request: web.Request) -> web.Response:
        return await _propose(endpoint, request)

    async def read(request: web.Request) -> web.Response:
        return await _read(endpoint, request)

    return propose if endpoint.command else read


# ---- commands


async def _propose(endpoint: Endpoint, request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    identity = await context.tokens.authenticate(request, endpoint.role)
    fields = decode_json(await read_body(request) or b"{}")
    if not isinstance(fields, dict):
        raise Problem(422, "invalid", "the body must be a JSON object")
    if endpoint.command is Enqueue and "jobs" not in fields:
        fields = {"jobs": [fields]}
    wait_ms = _wait_ms(fields) if endpoint.command is Claim else 0
    assert endpoint.command
    command = to_command(endpoint.command, fields)
    _check(context, identity, command)
    refused = await refusals(context, command.completions) if isinstance(command, Complete) else {}
    if refused and (command := without(command, refused)) is None:
        return _answer(all_refused(refused))
    sent = context.leader.request(command, identity.actor, _idempotency(request, identity))
    if endpoint.command is Claim:
        outcome = msgspec.msgpack.decode(await context.leader.router.call("claim", (sent, wait_ms)))
    else:
        outcome = msgspec.msgpack.decode(await context.leader.router.call("propose", [sent]))[0]
    return _answer(mended(outcome, refused) if refused else outcome)


def _wait_ms(fields: dict[str, Any]) -> int:
    wait_ms = fields.pop("wait_ms", 0)
    if not isinstance(wait_ms, int) or not 0 <= wait_ms <= WAIT_MS_MAX:
        raise Problem(422, "invalid", f"wait_ms must be a number from 0 to {WAIT_MS_MAX}")
    return wait_ms


def _check(context: FrontContext, identity: Identity, command: Any) -> None:
    kinds = context.core.views.get("kinds", ())
    try:
        admit_command(identity, command)
        check_room(type(command).__name__, context.core.state.live, context.settings.limits.queue_max)
        if isinstance(command, Enqueue):
            check_jobs(kinds, command.jobs)
        elif isinstance(command, RegisterKind):
            check_kind(command)
    except SchemaMismatch as error:
        raise Problem(422, Code.INVALID.value, str(error)) from error


def _idempotency(request: web.Request, identity: Identity) -> tuple[str, int] | None:
    key = request.headers.get("Idempotency-Key", "")
    if not key:
        return None
    if len(key) > _KEY_MAX:
        raise Problem(422, "invalid", f"an Idempotency-Key may have {_KEY_MAX} characters at most")
    digest = hashlib.sha256(f"{identity.token_id}\0{key}".encode(errors="replace")).hexdigest()
    return f"http-{digest[:32]}", 1


def _answer(outcome: dict[str, Any]) -> web.Response:
    """Return an outcome as JSON; a refusal, also that of a single completion, is a problem."""
    settled = outcome.get("settled")
    refused = outcome if outcome["type"] == "Refused" else settled[0] if settled and len(settled) == 1 else None
    if refused and refused["type"] == "Refused":
        raise of_refused(msgspec.convert(refused, Refused))
    return web.Response(body=msgspec.json.encode(outcome), content_type="application/json")


# ---- views


async def _read(endpoint: Endpoint, request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    await context.tokens.authenticate(request, endpoint.role)
    args: dict[str, object] = dict(request.match_info)
    for param in endpoint.params:
        if param.name in request.query:
            args[param.name] = _parameter(param, request.query[param.name])
    view, stale = await read_view(context, endpoint.view, args, request.query.get("consistency", "auto"))
    headers = {"Rift-Index": str(view.index), "Rift-Age-Ms": str(view.age_ms), "Rift-Stale": "1" if stale else "0"}
    body = msgspec.json.encode(msgspec.msgpack.decode(view.value))
    return web.Response(body=body, content_type="application/json", headers=headers)


async def read_view(
    context: FrontContext, name: str, args: dict[str, object], consistency: str = "auto"
) -> tuple[View, bool]:
    """Return a view and whether it may be stale: as of now while there is a leader, else this voter's own."""
    if consistency not in {"auto", "linear", "stale"}:
        raise Problem(422, "invalid", "consistency is `auto`, `linear` or `stale`")
    if consistency == "linear" or (consistency == "auto" and context.leader.router.leader_calls()):
        try:
            return await context.leader.query(name, args), False
        except StreamError as error:
            if error.code in {code.value for code in STATUS_OF_CODE} or consistency == "linear":
                raise
    return await context.view(name, args), True


def _parameter(param: Param, text: str) -> object:
    if param.kind is not int:
        return text
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= _INT_MAX:
        raise Problem(422, "invalid", f"`{param.name}` must be a whole number, 0 or more")
    return number


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the routes of the table."""
    del context
    return [
        web.route(
            endpoint.method, endpoint.path, _handler(endpoint), **({"allow_head": False} if endpoint.view else {})
        )
        for endpoint in ENDPOINTS
    ]
