"""Tokens, heartbeats and what operators ask of consensus, over HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from aiohttp import web

from workqueue.http.bodies import decode_json, read_body, unknown_field
from workqueue.http.context import CONTEXT, FrontContext
from workqueue.http.problem import Problem, of_refused
from workqueue.machine.commands import PutToken, RevokeToken
from workqueue.machine.outcomes import AnyOutcome, Refused
from workqueue.security import new_token, token_hash

if TYPE_CHECKING:
    from collections.abc import Callable

HERE_S = 1.0
MOMENT_MAX = 1 << 48  # as numbers of commands are bounded
_ROLES = frozenset({"admin", "worker", "read"})


class NewToken(msgspec.Struct, frozen=True):
    """Body of POST /v1/tokens."""

    role: str
    label: str = ""
    expires_ms: Annotated[int, msgspec.Meta(ge=0, le=MOMENT_MAX)] = 0

    def __post_init__(self) -> None:
        if self.role not in _ROLES:
            raise ValueError("role is `admin`, `worker` or `read`")
        if len(self.label) > 100:
            raise ValueError("label may have 100 characters")


class Heartbeat(msgspec.Struct, frozen=True):
    """Body of POST /v1/heartbeats."""

    worker: str
    boot: str
    seq: Annotated[int, msgspec.Meta(ge=0, le=MOMENT_MAX)]


class Transfer(msgspec.Struct, frozen=True):
    """Body of POST /v1/cluster/transfer."""

    voter: str = ""


async def _body(request: web.Request, kind: Any) -> Any:
    tree = decode_json(await read_body(request) or b"{}")
    if found := unknown_field(kind, tree):
        raise Problem(422, "invalid", found)
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid", str(error)) from error


def _checked(outcome: AnyOutcome) -> AnyOutcome:
    if isinstance(outcome, Refused):
        raise of_refused(outcome)
    return outcome


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


async def create_token(request: web.Request) -> web.Response:
    """Make a token; its text is in this answer and nowhere else."""
    context = request.app[CONTEXT]
    identity = await context.tokens.authenticate(request, "admin")
    wanted = await _body(request, NewToken)
    token_id, token = new_token()
    command = PutToken(token_id, wanted.role, token_hash(context.tokens.key, token), wanted.label, wanted.expires_ms)
    [outcome] = await context.leader.propose(command, actor=identity.actor)
    _checked(outcome)
    await _here(lambda: context.tokens.knows(token_id))
    return _json({"id": token_id, "token": token}, 201)


async def _here(holds: Callable[[], bool]) -> None:
    """Wait a moment for what was decided to reach this front, so that the next request sees it; it may come later."""
    deadline = asyncio.get_running_loop().time() + HERE_S
    while not holds() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  the core pushes, some times a second
        await asyncio.sleep(0.01)


async def list_tokens(request: web.Request) -> web.Response:
    """List what is known of tokens, without hashes."""
    context = request.app[CONTEXT]
    await context.tokens.authenticate(request, "admin")
    records = await context.leader.tokens()
    return _json([{name: value for name, value in record.items() if name != "hash"} for record in records])


async def revoke_token(request: web.Request) -> web.Response:
    """Make a token worthless."""
    context = request.app[CONTEXT]
    identity = await context.tokens.authenticate(request, "admin")
    command = RevokeToken(request.match_info["id"], f"revoked by {identity.actor}")
    [outcome] = await context.leader.propose(command, actor=identity.actor)
    _checked(outcome)
    await _here(lambda: not context.tokens.knows(command.id))
    return _json(msgspec.to_builtins(outcome))


async def heartbeat(request: web.Request) -> web.Response:
    """Take a heartbeat from a worker that keeps no stream open."""
    context = request.app[CONTEXT]
    await context.tokens.authenticate(request, "worker")
    beat = await _body(request, Heartbeat)
    if context.presence is not None:
        context.presence.beat(beat.worker, beat.boot, beat.seq, {})
    return _json({})


async def transfer(request: web.Request) -> web.Response:
    """Hand the leadership over."""
    context = request.app[CONTEXT]
    await context.tokens.authenticate(request, "admin")
    wanted = await _body(request, Transfer)
    known = [voter.id for voter in context.settings.voters]
    if wanted.voter and wanted.voter not in known:
        raise Problem(404, "not_found", f"there is no voter `{wanted.voter}`; the cluster has {', '.join(known)}")
    await context.leader.router.call("transfer", (wanted.voter,))
    return _json({})


async def snapshot(request: web.Request) -> web.Response:
    """Have this voter's core write a snapshot."""
    context = request.app[CONTEXT]
    await context.tokens.authenticate(request, "admin")
    return _json({"index": msgspec.msgpack.decode(await context.core.call("snapshot", ()))})


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the routes of this file."""
    del context
    return [
        web.post("/v1/tokens", create_token),
        web.get("/v1/tokens", list_tokens, allow_head=False),
        web.delete("/v1/tokens/{id}", revoke_token),
        web.post("/v1/heartbeats", heartbeat),
        web.post("/v1/cluster/transfer", transfer),
        web.post("/v1/cluster/snapshot", snapshot),
    ]
