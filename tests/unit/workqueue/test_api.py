"""The JSON API through a whole voter: jobs, errors, roles, idempotency, events, tokens."""

from __future__ import annotations

import asyncio
import io
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest

from tests.unit.workqueue.conftest import Voter
from workqueue.errors import Rejected
from workqueue.http import limits
from workqueue.http.app import make_app
from workqueue.http.endpoints import COMMANDS, ENDPOINTS, VIEWS
from workqueue.http.limits import REQUEST_BYTES_MAX
from workqueue.http.openapi import document
from workqueue.http.problem import STATUS_OF_CODE
from workqueue.machine.commands import PutSettings
from workqueue.machine.outcomes import Code
from workqueue.tls import client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FREE = {"cpus": 1, "ram_mb": 1, "disk_mb": 1}


class Api:
    """Speaks JSON with one token."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def __call__(
        self, method: str, path: str, body: object = None, token: str = "", **headers: str
    ) -> tuple[int, Any, Any]:
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode()) if body is not None else None
        async with self.session.request(method, self.url + path, data=data, headers=sent | headers) as got:
            text = await got.read()
            return got.status, json.loads(text) if text else None, got.headers


@pytest.fixture
async def api(voter: Voter) -> AsyncIterator[Api]:
    tls = client_context(voter.created.ca)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        yield Api(session, voter.url)


async def test_a_job_lives_by_curl_alone(voter: Voter, api: Api) -> None:
    """A kind is registered, a job enqueued, claimed, renewed and completed with nothing but JSON."""
    admin, worker = voter.token("admin"), voter.token("worker")
    schema = json.dumps({"type": "object", "required": ["file"]})
    assert (await api("POST", "/v1/kinds", {"name": "thumb", "payload_schema": schema}, admin))[0] == 200
    await _until(lambda: bool(voter.context.core.views["kinds"]))
    status, problem, _ = await api("POST", "/v1/jobs", {"id": "t0", "kind": "thumb", "payload": {}}, worker)
    assert (status, problem["code"]) == (422, "invalid")
    assert "'file' is a required property" in problem["detail"]
    job = {"id": "t1", "kind": "thumb", "payload": {"file": "a.jpg", "sizes": [1, 2]}}
    assert (await api("POST", "/v1/jobs", job, worker))[1] == {"type": "Enqueued", "ids": ["t1"]}
    status, granted, _ = await api("POST", "/v1/jobs/claim", {"worker": "w", "boot": "b", "free": FREE}, worker)
    assert status == 200
    assert granted["leases"][0]["payload"] == {"file": "a.jpg", "sizes": [1, 2]}
    done = {"worker": "w", "completions": [{"job": "t1", "attempt": 1, "result": {"ok": True}}]}
    assert (await api("POST", "/v1/jobs/complete", done, worker))[0] == 200
    status, problem, _ = await api("POST", "/v1/jobs/complete", done, worker)
    assert (status, problem["code"]) == (409, "stale_attempt")


async def test_results_of_open_kinds_are_checked(voter: Voter, api: Api) -> None:
    """A result that does not fit the kind's schema is refused and the job goes on running."""
    admin, worker = voter.token("admin"), voter.token("worker")
    schema = json.dumps({"properties": {"n": {"type": "integer"}}})
    await api("POST", "/v1/kinds", {"name": "count", "result_schema": schema}, admin)
    await _until(lambda: bool(voter.context.core.views["kinds"]))
    await api("POST", "/v1/jobs", {"id": "c1", "kind": "count"}, worker)
    await api("POST", "/v1/jobs/claim", {"worker": "w", "boot": "b", "free": FREE}, worker)
    done = {"worker": "w", "completions": [{"job": "c1", "attempt": 1, "result": {"n": "two"}}]}
    status, problem, _ = await api("POST", "/v1/jobs/complete", done, worker)
    assert status == 422
    assert "$.n" in problem["detail"]
    assert "c1" in voter.machine.running


@pytest.mark.parametrize(
    ("method", "path", "body", "role", "status", "hint"),
    [
        ("POST", "/v1/jobs", {"id": "a", "kind": "k"}, "", 401, "Bearer"),
        ("POST", "/v1/halt", {"scope": "*", "reason": "r"}, "worker", 403, "role `admin`"),
        ("POST", "/v1/jobs", {"id": "a", "kind": "selfplay"}, "worker", 403, "built-in"),
        ("POST", "/v1/jobs", b"{", "admin", 400, "not JSON"),
        ("POST", "/v1/jobs", [], "admin", 422, "object"),
        ("POST", "/v1/jobs", {"id": "a", "knid": "k"}, "admin", 422, "did you mean `kind`"),
        ("POST", "/v1/jobs", {"id": "a"}, "admin", 422, "`kind`"),
        ("POST", "/v1/jobs", {"id": "a", "kind": "k", "priority": 2**70}, "admin", 422, ""),
        ("POST", "/v1/jobs", b'{"id": "\\ud800", "kind": "k"}', "admin", 400, "not JSON"),
        (
            "POST",
            "/v1/jobs",
            b'{"id": "a", "kind": "k", "payload": ' + b"[" * 90 + b"]" * 90 + b"}",
            "admin",
            400,
            "nested",
        ),
        ("POST", "/v1/jobs/claim", {"worker": "w", "boot": "b", "free": FREE, "wait_ms": -1}, "admin", 422, "wait_ms"),
        ("POST", "/v1/kinds", {"name": "k", "payload_schema": '{"type": 3}'}, "admin", 422, "not a JSON schema"),
        ("GET", "/v1/jobs/nope", None, "worker", 404, "no job nope"),
        ("GET", "/v1/jobs?limit=many", None, "worker", 422, "whole number"),
        ("GET", "/v1/jobs?consistency=maybe", None, "worker", 422, "consistency"),
        ("GET", "/v1/nothing", None, "worker", 404, "openapi.json"),
        ("DELETE", "/v1/jobs", None, "admin", 405, "method"),
        ("GET", "/v1/events?since=x", None, "worker", 422, "since"),
        ("GET", "/v1/tokens", None, "worker", 403, "admin"),
        ("POST", "/v1/tokens", {"role": "read", "expires_ms": 2**72}, "admin", 422, "expires_ms"),
        ("POST", "/v1/tokens", {"role": "read", "expires_ms": -1}, "admin", 422, "expires_ms"),
        ("POST", "/v1/heartbeats", {"worker": "w", "boot": "b", "seq": 2**72}, "admin", 422, "seq"),
        ("DELETE", "/v1/tokens/none", None, "admin", 404, "no token"),
        ("POST", "/v1/cluster/transfer", {"voter": "voter-9"}, "admin", 404, "voter-1"),
    ],
)
async def test_wrong_input_gets_a_sentence(
    voter: Voter, api: Api, method: str, path: str, body: object, role: str, status: int, hint: str
) -> None:
    """Every refusal is problem+json with the right status and says what is wrong."""
    before = len(voter.machine.completed), len(voter.machine.available)
    got, problem, headers = await api(method, path, body, voter.token(role) if role else "")
    assert (got, problem["status"]) == (status, status)
    assert headers["Content-Type"].startswith("application/problem+json")
    assert hint in problem["detail"]
    assert (len(voter.machine.completed), len(voter.machine.available)) == before


async def test_an_idempotency_key_makes_a_repetition_harmless(voter: Voter, api: Api) -> None:
    """Two requests with one key are one request."""
    admin = voter.token("admin")
    for _ in range(2):
        status, answer, _ = await api(
            "POST", "/v1/jobs", {"id": "a", "kind": "k"}, admin, **{"Idempotency-Key": "once"}
        )
        assert (status, answer["ids"]) == (200, ["a"])
    assert sum(type(request.command).__name__ == "Enqueue" for request in voter.machine.applied) == 1


async def test_without_a_leader_writes_get_503_and_reads_say_their_age(voter: Voter, api: Api) -> None:
    """503 with Retry-After; a view is marked stale with its index and age."""
    voter.replica.lose_leadership()
    status, problem, headers = await api("POST", "/v1/jobs", {"id": "a", "kind": "k"}, voter.token("admin"))
    assert (status, problem["code"]) == (503, "unavailable")
    assert int(headers["Retry-After"]) >= 1
    status, _, headers = await api("GET", "/v1/jobs", None, voter.token("worker"))
    assert (status, headers["Rift-Stale"], headers["Rift-Index"], headers["Rift-Age-Ms"]) == (200, "1", "2", "0")
    assert (await api("GET", "/ready"))[0] == 503


async def test_events_resume_where_they_were_left(voter: Voter, api: Api) -> None:
    """Server-sent events after Last-Event-ID come once, in order, each with its number."""
    admin = voter.token("admin")
    for name in ("a", "b", "c"):
        await api("POST", "/v1/jobs", {"id": name, "kind": "k"}, admin)
    headers = {"Authorization": f"Bearer {admin}", "Last-Event-ID": "1"}
    async with api.session.get(voter.url + "/v1/events", headers=headers) as got:
        assert got.headers["Content-Type"] == "text/event-stream"
        ids = []
        async with asyncio.timeout(5):
            while len(ids) < 2:
                line = (await got.content.readline()).decode()
                if line.startswith("id: "):
                    ids.append(int(line[4:]))
    assert ids == [2, 3]


async def test_tokens_are_made_listed_and_revoked(voter: Voter, api: Api) -> None:
    """A new token works within a moment, its hash is never shown, and revoked it is worthless."""
    admin = voter.token("admin")
    status, made, _ = await api("POST", "/v1/tokens", {"role": "read", "label": "dashboard"}, admin)
    assert status == 201
    await _until(lambda: len(voter.context.core.views["tokens"]) == 3)
    assert (await api("GET", "/v1/jobs", None, made["token"]))[0] == 200
    assert (await api("POST", "/v1/jobs", {"id": "a", "kind": "k"}, made["token"]))[0] == 403
    _, listed, _ = await api("GET", "/v1/tokens", None, admin)
    assert [token["label"] for token in listed] == ["first admin", "first worker", "dashboard"]
    assert not any("hash" in token for token in listed)
    assert (await api("DELETE", f"/v1/tokens/{made['id']}", None, admin))[0] == 200
    await _until(lambda: any(token.get("revoked") for token in voter.context.core.views["tokens"]))
    assert (await api("GET", "/v1/jobs", None, made["token"]))[0] == 401


async def test_health_status_and_metrics(voter: Voter, api: Api) -> None:
    """The operators' pages answer, and those with data only to a token."""
    assert (await api("GET", "/health"))[:2] == (200, {"ok": True})
    assert (await api("GET", "/ready"))[0] == 200
    assert (await api("GET", "/status"))[0] == 401
    status, document_, _ = await api("GET", "/status", None, voter.token("worker"))
    assert (status, document_["consensus"]["role"], document_["schema"]) == (200, "leader", 1)
    headers = {"Authorization": f"Bearer {voter.token('worker')}"}
    async with api.session.get(voter.url + "/metrics", headers=headers) as got:
        text = await got.text()
    assert "rift_consensus_term 1.0" in text
    assert 'rift_http_requests_total{route="/health",status="200"} 1.0' in text


async def test_a_removed_setting_is_refused_at_the_door(voter: Voter, api: Api) -> None:
    """Over HTTP and on the stream, with what holds instead; logs may hold such keys, new commands may not."""
    told = "`gate.alpha_milli` can no longer be set"
    status, problem, _ = await api("PATCH", "/v1/settings", {"values": {"gate.alpha_milli": 10}}, voter.token("admin"))
    assert (status, problem["code"], problem["detail"].startswith(told)) == (422, "invalid", True)
    values = {"target_elo": msgspec.Raw(b"\x01"), "gate.alpha_milli": msgspec.Raw(b"\x01")}
    async with voter.client() as client:
        with pytest.raises(Rejected, match=told):
            await client.submit(PutSettings(values))


async def test_a_large_body_is_refused(voter: Voter, api: Api) -> None:
    """What is larger than the limit gets 413 before it is decoded."""
    status, problem, _ = await api("POST", "/v1/jobs", b" " * (REQUEST_BYTES_MAX + 1), voter.token("admin"))
    assert (status, problem["code"]) == (413, "request_entity_too_large")


async def test_a_flood_is_slowed(voter: Voter, api: Api) -> None:
    """Beyond the allowed rate a caller gets 429 with Retry-After, others go on."""
    voter.context.rates.rate = 5
    worker = voter.token("worker")
    answers = [await api("GET", "/v1/jobs", None, worker) for _ in range(12)]
    assert {status for status, _, _ in answers} == {200, 429}
    slowed = next(headers for status, _, headers in answers if status == 429)
    assert int(slowed["Retry-After"]) >= 1
    assert (await api("GET", "/v1/jobs", None, voter.token("admin")))[0] == 200


async def test_made_up_tokens_have_one_rate(voter: Voter, api: Api) -> None:
    """That of their address, however many are made up; a token that there is goes on beside them."""
    voter.context.rates.rate = 5
    answers = [(await api("GET", "/v1/jobs", None, f"rift_{n:012x}_secret"))[0] for n in range(12)]
    assert set(answers) == {401, 429}
    admin = voter.token("admin")
    assert (await api("GET", "/v1/jobs", None, admin))[0] == 200
    lower = [(await api("GET", "/v1/jobs", None, Authorization=f"bearer {admin}"))[0] for _ in range(12)]
    assert set(lower) == {200, 429}  # the same token, however it is introduced


async def test_rates_are_kept_of_the_last_callers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses without number take no memory without bound."""
    monkeypatch.setattr(limits, "CALLERS_MAX", 10)
    rates = limits.Rates(lambda _: "", 5)
    for n in range(100):
        rates.take(SimpleNamespace(remote=f"2001:db8::{n:x}"))  # type: ignore[arg-type]
    assert len(rates._buckets) <= 10


def test_get_changes_nothing() -> None:
    """No endpoint that proposes a command is a GET, and none that reads is anything else."""
    assert {endpoint.method for endpoint in COMMANDS} <= {"POST", "PATCH"}
    assert {endpoint.method for endpoint in VIEWS} == {"GET"}


def test_every_refusal_has_a_status() -> None:
    """The table from outcome codes to statuses is complete and made of client errors."""
    assert set(STATUS_OF_CODE) == set(Code)
    assert all(400 <= status < 500 for status in STATUS_OF_CODE.values())


def test_the_document_describes_every_endpoint() -> None:
    """OpenAPI lists each path of the table once, with unique operation ids and resolvable references."""
    described = document()
    for endpoint in ENDPOINTS:
        assert described["paths"][endpoint.path][endpoint.method.lower()]["operationId"] == endpoint.name
    names = [operation["operationId"] for path in described["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))
    text = json.dumps(described)
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in described["components"]["schemas"]


async def test_every_route_is_documented_and_every_documented_path_is_served(voter: Voter) -> None:
    """By method and path; HEAD comes with GET."""
    served = {
        (route.method.lower(), route.resource.canonical)
        for route in make_app(voter.context).router.routes()
        if route.resource is not None
    }
    described = {(method, path) for path, operations in document()["paths"].items() for method in operations}
    heads = {("head", path) for method, path in described if method == "get"}
    assert served - heads - described == set()
    assert described - served == set()
    assert ("get", "/v1/gossip") in described


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)
