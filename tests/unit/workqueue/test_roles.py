"""Every route asks who calls: without a token, with a wrong one and with too low a role nothing is told or done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from workqueue.http.app import make_app
from workqueue.security import ROLES
from workqueue.tls import client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.workqueue.conftest import Voter

OPEN = {"/", "/dashboard", "/dashboard/{name}", "/health", "/ready", "/v1/openapi.json"}
# What differs from reading with `read` and changing with `admin`.
WORKERS = {
    "POST /v1/jobs", "POST /v1/jobs/claim", "POST /v1/jobs/renew", "POST /v1/jobs/complete", "POST /v1/jobs/fail",
    "POST /v1/jobs/release", "POST /v1/workers", "POST /v1/workers/deregister", "POST /v1/locks/acquire",
    "POST /v1/locks/renew", "POST /v1/locks/unlock", "POST /v1/heartbeats", "PUT /v1/artifacts/{sha256}",
    "POST /v1/artifacts/{sha256}/verify", "GET /v1/gossip", "HEAD /v1/gossip",
}  # fmt: skip
ADMINS = {"GET /v1/audit", "HEAD /v1/audit", "GET /v1/tokens"}
VOTERS = {
    "DELETE /v1/artifacts/{sha256}", "POST /v1/artifacts/{sha256}/pull", "GET /v1/artifact-inventory",
    "HEAD /v1/artifact-inventory", "GET /v1/standing", "HEAD /v1/standing",
}  # fmt: skip


def needed(method: str, path: str) -> str:
    """The lowest role that may, empty where none is asked for."""
    route = f"{method} {path}"
    if path in OPEN:
        return ""
    for role, routes in (("worker", WORKERS), ("admin", ADMINS), ("voter", VOTERS)):
        if route in routes:
            return role
    return "read" if method in {"GET", "HEAD"} else "admin"


@pytest.fixture
async def session(voter: Voter) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=client_context(voter.created.ca), force_close=True)
    async with aiohttp.ClientSession(connector=connector) as made:
        yield made


async def reader(voter: Voter, session: aiohttp.ClientSession) -> str:
    headers = {"Authorization": f"Bearer {voter.token('admin')}"}
    async with session.post(voter.url + "/v1/tokens", json={"role": "read"}, headers=headers) as got:
        made: dict[str, str] = await got.json()
        return made["token"]


async def test_every_route_asks_for_its_role(voter: Voter, session: aiohttp.ClientSession) -> None:
    """The role below it is refused by name, the role itself is not; a body is not looked at before."""
    tokens = {"read": await reader(voter, session), "worker": voter.token("worker"), "admin": voter.token("admin")}
    routes = {
        (route.method, route.resource.canonical)
        for route in make_app(voter.context).router.routes()
        if route.resource is not None
    }
    assert {f"{method} {path}" for method, path in routes} >= {*WORKERS, *VOTERS} - {"HEAD /v1/gossip"}

    async def status(method: str, path: str, token: str = "") -> tuple[int, str]:
        url = voter.url + path.format(sha256="a" * 64, name="page.js", id="x", job="j", worker="w")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = b"x" if method in {"POST", "PUT", "PATCH"} else None  # is no JSON: nothing is done
        async with session.request(method, url, headers=headers, data=data) as got:
            refused = got.status in {401, 403} and method != "HEAD"
            return got.status, str((await got.json(content_type=None))["detail"]) if refused else ""

    before = voter.machine.applied.copy()
    asking = [(*route, role) for route in sorted(routes) if (role := needed(*route))]
    for method, path, role in asking:
        for token in ("", "rift_none_none"):
            assert (await status(method, path, token))[0] == 401, (method, path, token)
        if lower := tokens.get(ROLES[max(0, ROLES.index(role) - 1)] if role != "read" else ""):
            code, detail = await status(method, path, lower)
            assert code == 403, (method, path)
            assert f"`{role}`" in detail or method == "HEAD"
    assert voter.machine.applied == before
    for method, path in sorted(routes):
        role = needed(method, path)
        if role in {"", *tokens}:
            assert (await status(method, path, tokens.get(role, "")))[0] not in {401, 403, 500}, (method, path)
