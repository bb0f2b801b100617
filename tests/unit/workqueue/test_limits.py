"""What a caller may ask for is bounded on every way in: sizes, rates, connections, and what results may be."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest

from tests.unit.workqueue.conftest import Voter, running_voter
from workqueue.errors import Rejected, Unavailable
from workqueue.http import stream
from workqueue.machine.commands import (
    Capability,
    Claim,
    Complete,
    Completion,
    Enqueue,
    Free,
    Halt,
    JobSpec,
    RegisterKind,
    RegisterWorker,
)
from workqueue.machine.outcomes import Completed, Enqueued, Granted, Settled
from workqueue.tls import client_context, voter_client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from workqueue.client import Client

FREE = Free(1, 1, 1)
COUNT = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


def limit(voter: Voter, **limits: int) -> None:
    settings = voter.context.settings
    changed = msgspec.structs.replace(settings.limits, **limits)
    voter.context.settings = msgspec.structs.replace(settings, limits=changed)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


# ---- results of open kinds, on the stream


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Voter]:
    async with running_voter(tmp_path, real=True) as running:
        yield running


async def claimed(client: Client, *jobs: str) -> None:
    await client.submit(RegisterKind("count", result_schema=COUNT))
    await client.submit(RegisterWorker("w", "b", Capability(9, 9, 9, kinds=("count", "free"))))
    await client.submit(RegisterKind("free"))
    await client.submit(Enqueue(tuple(JobSpec(job, "free" if job.startswith("free") else "count") for job in jobs)))
    granted = await client.claim(Claim("w", "b", Free(9, 9, 9), len(jobs)), 0)
    assert isinstance(granted, Granted)
    assert sorted(lease.job for lease in granted.leases) == sorted(jobs)


def done(**results: object) -> Complete:
    return Complete("w", tuple(Completion(job, 1, raw(result)) for job, result in results.items()))


@pytest.mark.parametrize("result", [{}, {"n": "two"}, [1], None])
async def test_a_result_that_does_not_fit_is_refused_on_the_stream(real: Voter, result: object) -> None:
    """As over HTTP: the sentence names the job and the place, and the job goes on running."""
    async with real.client() as client:
        await claimed(client, "c1")
        [outcome] = await client.submit(done(c1=result))
        [refused] = outcome.settled
        assert refused.code == "invalid_result"
        assert "the result of `count` job c1 does not fit its schema" in refused.message
        assert (await client.query("job", job="c1"))["state"] == "running"
        assert await client.submit(done(c1={"n": 2})) == [Completed((Settled("c1", "completed"),))]


async def test_each_result_of_a_batch_is_judged(real: Voter) -> None:
    """Those that fit are taken, also beside one that does not; every answer is in its place."""
    async with real.client() as client:
        await claimed(client, "c1", "c2", "c3", "free1")
        wrong = done(c3={"n": None})
        mixed = done(c1={"n": 1}, c2={"n": "x"}, free1="anything")
        enqueued, first, second = await client.submit(Enqueue((JobSpec("c4", "count"),)), wrong, mixed)
        assert enqueued == Enqueued(("c4",))
        assert [each.code for each in first.settled] == ["invalid_result"]
        assert [type(each).__name__ for each in second.settled] == ["Settled", "Refused", "Settled"]
        assert [(await client.query("job", job=job))["state"] for job in ("c1", "c2", "c3", "free1")] == [
            "completed",
            "running",
            "running",
            "completed",
        ]


async def test_bytes_that_are_no_msgpack_are_refused(real: Voter) -> None:
    """A text that is not UTF-8 inside a result is refused as any other, and the connection goes on."""
    async with real.client() as client:
        await claimed(client, "c1")
        [outcome] = await client.submit(Complete("w", (Completion("c1", 1, msgspec.Raw(b"\xa2\xff\xfe")),)))
        assert outcome.settled[0].code == "invalid_result"
        assert (await client.query("job", job="c1"))["state"] == "running"


async def test_a_job_that_nobody_knows_is_the_machines_to_refuse(real: Voter) -> None:
    """The check asks and finds nothing."""
    async with real.client() as client:
        await claimed(client, "c1")
        [outcome] = await client.submit(done(nothing={"n": 1}))
        assert outcome.settled[0].code == "stale_attempt"


async def test_a_kind_with_a_wrong_schema_is_refused_on_the_stream(real: Voter) -> None:
    """Before it could make every later check fail."""
    async with real.client() as client:
        with pytest.raises(Rejected, match="not a JSON schema"):
            await client.submit(RegisterKind("k", payload_schema='{"type": 3}'))
        with pytest.raises(Rejected, match="not JSON"):
            await client.submit(RegisterKind("k", result_schema="{"))


async def test_a_kind_holds_from_its_answer_on(real: Voter) -> None:
    """Whoever was told that a kind is registered finds its schema in force."""
    async with real.client() as client:
        for n in range(20):
            await client.submit(RegisterKind(f"k{n}", payload_schema=COUNT))
            with pytest.raises(Rejected, match="is a required property"):
                await client.submit(Enqueue((JobSpec("j", f"k{n}"),)))


# ---- sizes, rates, connections


async def test_a_call_that_is_too_large_is_refused_on_the_stream(voter: Voter, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one is answered."""
    monkeypatch.setattr(stream, "REQUEST_BYTES_MAX", 1_000)
    async with voter.client() as client:
        with pytest.raises(Rejected, match="at most 1000 are allowed") as refused:
            await client.submit(Enqueue((JobSpec("j", "open", raw("x" * 2_000)),)))
        assert refused.value.code == "too_large"
        await client.submit(Enqueue((JobSpec("j", "open"),)))
    assert list(voter.machine.available) == ["j"]


async def test_a_stream_that_floods_is_slowed(voter: Voter) -> None:
    """Beyond the rate calls are refused with a pause, which the client keeps; everything is done in the end."""
    voter.context.rates.rate = 20
    async with voter.client(deadline_s=20) as client:
        started = asyncio.get_running_loop().time()
        await asyncio.gather(*(client.submit(Enqueue((JobSpec(f"j{n}", "open"),))) for n in range(50)))
        assert asyncio.get_running_loop().time() - started > 1.0
    assert len(voter.machine.available) == 50


async def test_the_queue_is_bounded_as_the_settings_say(voter: Voter) -> None:
    """On the stream and over HTTP, with a time to come again; a place is free when a job has ended."""
    limit(voter, queue_max=2)
    async with voter.client() as client:
        await client.submit(Enqueue((JobSpec("a", "open"), JobSpec("b", "open"))))
        await until(lambda: voter.context.core.state.live == 2)
        with pytest.raises(Rejected, match=r"limits.queue_max allows 2; try again later") as refused:
            await client.submit(Enqueue((JobSpec("c", "open"),)))
        assert (refused.value.code, refused.value.retry_ms) == ("queue_full", 5_000)
        body = json.dumps({"id": "c", "kind": "open"}).encode()
        tls, headers = client_context(voter.created.ca), {"Authorization": f"Bearer {voter.token('admin')}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(voter.url + "/v1/jobs", data=body, ssl=tls) as got,
        ):
            assert (got.status, (await got.json(content_type=None))["code"]) == (429, "queue_full")
            assert got.headers["Retry-After"] == "5"
        await client.claim(Claim("w", "b", FREE), 0)
        await client.submit(done(a={}))
        await until(lambda: voter.context.core.state.live == 1)
        assert await client.submit(Enqueue((JobSpec("c", "open"),))) == [Enqueued(("c",))]


async def test_streams_are_limited(voter: Voter) -> None:
    """One too many is told to go elsewhere; the place is free again when another leaves."""
    limit(voter, connections_max=1)
    async with voter.client() as first:
        await first.query("status")
        async with voter.client(deadline_s=0.5) as second:
            with pytest.raises((Unavailable, Rejected)):
                await second.query("status")
        status, problem = await get(voter, "/v1/events")
        assert (status, problem["code"]) == (429, "limit")
        assert "another voter" in problem["detail"]
        own, folder = voter.context.voter, voter.created.folder
        tls = voter_client_context(folder / own.cert, folder / own.key, voter.created.ca)
        async with aiohttp.ClientSession() as session, session.ws_connect(voter.url + "/v1/stream", ssl=tls) as link:
            assert not link.closed  # voters must reach each other, or nothing could be forwarded
    async with voter.client(deadline_s=5) as third:
        await third.query("status")


async def get(voter: Voter, path: str, **headers: str) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {voter.token('admin')}"} | headers
    tls = client_context(voter.created.ca)
    async with aiohttp.ClientSession() as session, session.get(voter.url + path, headers=headers, ssl=tls) as got:
        return got.status, await got.json()


async def test_one_connection_has_so_many_calls_in_flight(voter: Voter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims that wait count; the next call is refused until one of them ends."""
    monkeypatch.setattr("workqueue.http.stream.IN_FLIGHT_MAX", 3)
    async with voter.client(deadline_s=1) as client:
        waiting = [asyncio.create_task(client.claim(Claim("w", "b", FREE), 400)) for _ in range(3)]
        while voter.context.core.state.parked < 3:
            await asyncio.sleep(0.01)
        link = await client._connected()
        with pytest.raises(Exception, match="more than 3 calls in flight"):
            await link.calls.call("query", ("status", {}, "stale"))
        await asyncio.gather(*waiting)
        await client.query("status")


async def test_a_head_that_is_too_large_is_refused(voter: Voter) -> None:
    """A header of 20 kB never reaches a handler, and the voter goes on."""
    tls = client_context(voter.created.ca)
    async with aiohttp.ClientSession() as session:
        async with session.get(voter.url + "/health", headers={"X-Long": "x" * 20_000}, ssl=tls) as got:
            assert got.status == 400
        async with session.get(voter.url + "/health", ssl=tls) as got:
            assert got.status == 200


async def test_a_token_is_not_in_what_is_counted_or_said(voter: Voter) -> None:
    """Neither metrics nor problems repeat a caller's secret."""
    token = "rift_abcdef_this-is-a-secret"
    status, problem = await get(voter, f"/v1/jobs/{token[12:]}?consistency=x", Authorization=f"Bearer {token}")
    assert status == 401
    assert "this-is-a-secret" not in json.dumps(problem)
    headers = {"Authorization": f"Bearer {voter.token('admin')}"}
    tls = client_context(voter.created.ca)
    url = voter.url + "/metrics"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, ssl=tls) as got:
        text = await got.text()
    assert "this-is-a-secret" not in text
    assert voter.token("admin") not in text


async def test_halts_are_for_admins_on_every_way_in(voter: Voter) -> None:
    """The same role is asked for over HTTP and on the stream."""
    async with voter.client("worker") as client:
        with pytest.raises(Rejected, match="may not propose Halt"):
            await client.submit(Halt("*", "no"))
