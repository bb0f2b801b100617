"""TCP connections are counted from the accept on; who says nothing is cut, and cuts off nobody who has a token."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import resource
import socket
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import structlog

from config.cluster import LimitSettings
from tests.unit.workqueue.test_limits import get
from workqueue.http import bodies, door, events
from workqueue.machine.commands import Enqueue, JobSpec
from workqueue.machine.outcomes import Enqueued
from workqueue.process import allow_files
from workqueue.tls import client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.workqueue.conftest import Voter

GONE_S = 20.0


async def plain(voter: Voter) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TCP connection without TLS."""
    return await asyncio.open_connection("127.0.0.1", int(voter.url.rsplit(":", 1)[1]))


async def shaken(voter: Voter, buffer_bytes: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection after its handshake, perhaps one that takes in little."""
    tls = client_context(voter.created.ca)
    connected = socket.socket()
    if buffer_bytes:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    connected.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", int(voter.url.rsplit(":", 1)[1])))
    return await asyncio.open_connection(sock=connected, ssl=tls, server_hostname="127.0.0.1")


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends it soon."""
    with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
        async with asyncio.timeout(GONE_S):
            return not await reader.read()
    return reader.exception() is not None or reader.at_eof()


def room(sockets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many connections in, all from one address if they come so."""
    monkeypatch.setattr(LimitSettings, "sockets_max", sockets)
    monkeypatch.setattr(LimitSettings, "sockets_address_max", sockets)


def usage(voter: Voter) -> dict[str, int]:
    return voter.context.door.usage()


async def until(condition: Any) -> None:
    async with asyncio.timeout(GONE_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def talker(voter: Voter) -> AsyncIterator[Any]:
    """A client with an open stream."""
    async with voter.client() as client:
        await client.query("status")
        yield client


async def test_a_half_open_client_is_cut(voter: Voter, monkeypatch: pytest.MonkeyPatch) -> None:
    """It connected and never began the handshake."""
    monkeypatch.setattr(door, "FIRST_S", 0.2)
    reader, writer = await plain(voter)
    await until(lambda: usage(voter)["open"] == 1)
    assert await ended(reader)
    writer.close()
    assert usage(voter)["open"] == 0


async def test_a_request_by_the_byte_is_cut(voter: Voter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers that never end do not hold a connection, however busy they look."""
    monkeypatch.setattr(door, "FIRST_S", 0.6)
    reader, writer = await shaken(voter)

    async def drip() -> None:
        for byte in b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 10_000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    assert await ended(reader)
    dripping.cancel()
    assert usage(voter) | {"max": 0} == {"open": 0, "strangers": 0, "refused": 0, "cut": 1, "max": 0}


async def test_strangers_make_room(voter: Voter, talker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood without a token fills the room, and whoever has one comes in all the same; streams notice nothing."""
    monkeypatch.setattr(door, "FIRST_S", 60.0)
    room(10, monkeypatch)
    idle = [await plain(voter) for _ in range(6)] + [await shaken(voter) for _ in range(6)]
    await until(lambda: usage(voter)["cut"] >= 3)
    assert usage(voter)["open"] == 10
    assert await ended(idle[0][0])
    async with voter.client() as other:
        assert await other.submit(Enqueue((JobSpec("j", "open"),))) == [Enqueued(("j",))]
    assert (await get(voter, "/health"))[0] == 200
    assert (await talker.query("status"))["jobs"]
    for _, writer in idle:
        writer.close()
    await until(lambda: usage(voter)["open"] == 1)
    assert usage(voter)["refused"] == 0


async def test_when_all_are_known_the_next_is_refused(
    voter: Voter, talker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told at once, by a reset, and may come when another has left."""
    room(1, monkeypatch)
    reader, writer = await plain(voter)
    assert await ended(reader)
    writer.close()
    assert usage(voter)["refused"] == 1
    assert (await talker.query("status")) is not None
    room(2, monkeypatch)
    assert (await get(voter, "/health"))[0] == 200


async def test_an_address_has_its_share(voter: Voter, talker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One address fills its own part, its oldest strangers first, and not the voter."""
    monkeypatch.setattr(door, "FIRST_S", 60.0)
    monkeypatch.setattr(LimitSettings, "sockets_address_max", 4)
    other = voter.context.door.enter("192.0.2.1", asyncio.Protocol(), 0.0)  # the oldest of all
    assert other is not None
    idle = [await plain(voter) for _ in range(6)]
    await until(lambda: usage(voter)["cut"] >= 3)
    assert usage(voter)["open"] == 5
    assert await ended(idle[0][0])
    assert await ended(idle[1][0])
    assert other in voter.context.door._strangers
    other.cut()
    for _ in range(9):  # what has left takes no part of the share
        passing = voter.context.door.enter("192.0.2.1", asyncio.Protocol(), 0.0)
        assert passing is not None
        passing.cut()
    for _, writer in idle:
        writer.close()
    assert (await talker.query("status")) is not None


async def test_a_token_that_does_not_hold_makes_nobody_known(voter: Voter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a connection stays a stranger, which gives way."""
    tls = client_context(voter.created.ca)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        for token, strangers in (("", 1), ("wrong", 1), (voter.token("worker"), 0)):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with session.get(voter.url + "/v1/jobs", headers=headers) as got:
                await got.read()
            assert (usage(voter)["open"], usage(voter)["strangers"]) == (1, strangers)
    await until(lambda: usage(voter)["open"] == 0)


async def test_a_stranger_who_asked_in_time_may_stay(voter: Voter) -> None:
    """As one that asks for /health again and again; who never asked is cut at the same look."""
    tls = client_context(voter.created.ca)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        async with session.get(voter.url + "/health") as got:
            await got.read()
        silent, writer = await plain(voter)
        await until(lambda: usage(voter)["strangers"] == 2)
        voter.context.door.sweep(asyncio.get_running_loop().time() + door.FIRST_S)
        assert await ended(silent)
        writer.close()
        assert (usage(voter)["open"], usage(voter)["strangers"], usage(voter)["cut"]) == (1, 1, 1)


async def test_a_body_by_the_byte_is_refused(voter: Voter, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token too: 408 says that the body must come at once."""
    monkeypatch.setattr(bodies, "BODY_S", 0.2)
    reader, writer = await shaken(voter)
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {voter.token('admin')}\r\n"
    writer.write(head.encode() + b"Content-Length: 1000\r\n\r\n{")
    answer = await asyncio.wait_for(reader.readuntil(b"}"), GONE_S)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within" in answer
    writer.close()


async def test_a_listener_who_reads_nothing_is_cut(voter: Voter, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event stream whose reader stopped does not stay for ever."""
    monkeypatch.setattr(events, "WRITE_S", 0.3)
    reader, writer = await shaken(voter, buffer_bytes=1 << 16)
    transport: Any = writer.transport
    head = f"GET /v1/events?since=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {voter.token('admin')}\r\n\r\n"
    writer.write(head.encode())
    await reader.readuntil(b"\r\n\r\n")
    transport.pause_reading()
    sent: list[object] = []

    def large(event: object) -> bytes:
        sent.append(event)
        return b": " + b"x" * (4 << 20) + b"\n\n"

    monkeypatch.setattr(events, "_encode", large)
    async with voter.client() as client:
        for n in range(10):
            await client.submit(Enqueue((JobSpec(f"j{n}", "open"),)))
            await until(lambda n=n: len(sent) > n or usage(voter)["open"] == 1)
        await until(lambda: usage(voter)["open"] == 1)
    assert len(sent) < 10
    transport.abort()


async def test_a_connection_that_brought_a_large_body_leaves_too(voter: Voter) -> None:
    """The body is taken past the web server's protocol; the connection counts only until it ends all the same."""
    data = b"x" * (6 << 20)
    url = f"{voter.url}/v1/artifacts/{hashlib.sha256(data).hexdigest()}"
    headers = {"Authorization": f"Bearer {voter.token('worker')}"}
    connector = aiohttp.TCPConnector(ssl=client_context(voter.created.ca))
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        session.put(url, data=io.BytesIO(data)) as got,
    ):
        assert got.status in {201, 202}
        assert got.headers["Connection"] == "close"
    await until(lambda: usage(voter)["open"] == 0)


async def test_a_port_that_is_taken_is_named(voter: Voter) -> None:
    """The sentence says which."""
    port = int(voter.url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
        door._bound(2, ("127.0.0.1", port))


@pytest.mark.parametrize(
    ("soft", "hard", "became"),
    [(1024, resource.RLIM_INFINITY, 10_500), (1024, 4096, 4096), (1024, 20_000, 10_500), (20_000, 20_000, 20_000)],
)
def test_a_voter_may_open_as_many_files_as_it_lets_connections_in(
    soft: int, hard: int, became: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as the system allows; where that is not far enough it says so, and how to mend it."""
    limits = [soft, hard]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.__setitem__(slice(None), wanted))
    with structlog.testing.capture_logs() as logs:
        allow_files(10_000)
    assert limits == [became, hard]
    assert [log["fix"] for log in logs] == (["raise LimitNOFILE"] if became < 10_500 else [])
