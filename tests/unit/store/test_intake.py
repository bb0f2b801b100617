"""Large bodies that go past the web server's parser: every byte once, in order, whatever the connection does."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import ssl
import threading
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import aiohttp
import pytest
from aiohttp import web

from benchmarks.artifacts import certificate
from workqueue.blocks import AHEAD, pipe
from workqueue.http.intake import LEFT_BYTES_MIN, TAKEN, Bodies, Intake

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from workqueue.blocks import Block

TIMEOUT_S = 0.3


class Taker:
    """A server that digests bodies and refuses those that hold more than `limit` bytes."""

    def __init__(self) -> None:
        self.limit = 1 << 40
        self.bodies = Bodies(1)
        self.taken = 0
        self.direct = False
        self.errors: list[BaseException] = []
        self.url = ""
        self.tls: ssl.SSLContext | bool = True

    async def put(self, request: web.Request) -> web.Response:
        self.taken, digest = 0, hashlib.sha256()
        response = web.Response(status=507)

        def keep(block: Block) -> None:
            self.taken += len(block)
            if self.taken > self.limit:
                raise OverflowError
            digest.update(block)

        try:
            async with contextlib.aclosing(self.bodies.blocks(request, TIMEOUT_S)) as blocks:
                await pipe(blocks, [keep])
            response = web.Response(text=digest.hexdigest())
        except OverflowError:
            pass
        except (OSError, TimeoutError) as error:
            self.errors.append(error)
        self.direct = TAKEN in request
        if self.direct:
            response.force_close()
        return response


@pytest.fixture(params=["http", "https"])
async def taker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Taker]:
    made = Taker()
    server_tls = None
    if request.param == "https":
        certificate(tmp_path)
        server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server_tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        made.tls = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    app = web.Application(client_max_size=1 << 40)
    app.add_routes([web.put("/", made.put)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls)
    await site.start()
    made.url = f"{request.param}://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


def bytes_of(size: int) -> bytes:
    return hashlib.shake_128(size.to_bytes(8)).digest(size)


@pytest.mark.parametrize("size", [LEFT_BYTES_MIN - 1, LEFT_BYTES_MIN, (6 << 20) + 1, 20 << 20])
async def test_all_bytes_arrive_in_order(taker: Taker, size: int) -> None:
    """Twice in a session, because the first connection is closed by its answer."""
    data = bytes_of(size)
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.put(taker.url, data=io.BytesIO(data), ssl=taker.tls) as answer:
                assert await answer.text() == hashlib.sha256(data).hexdigest()
    assert taker.direct is (size >= LEFT_BYTES_MIN)


async def test_more_at_a_time_go_by_the_parser(taker: Taker) -> None:
    """Memory is bounded; those that find no place are as whole."""
    data = bytes_of(9 << 20)
    async with aiohttp.ClientSession() as session:

        async def put() -> tuple[str, bool]:
            async with session.put(taker.url, data=io.BytesIO(data), ssl=taker.tls) as answer:
                return await answer.text(), answer.headers.get("Connection") == "close"

        found = await asyncio.gather(*(put() for _ in range(4)))
        assert {text for text, _ in found} == {hashlib.sha256(data).hexdigest()}
        assert {direct for _, direct in found} == {True, False}
        assert (await put())[1]


async def test_a_refusal_in_the_midst_is_read_by_the_client(taker: Taker) -> None:
    """The rest is thrown away first: a connection that is closed under a sender loses the answer."""
    taker.limit = 1 << 20
    data = bytes_of(24 << 20)
    async with (
        aiohttp.ClientSession() as session,
        session.put(taker.url, data=io.BytesIO(data), ssl=taker.tls) as answer,
    ):
        assert answer.status == 507


@pytest.mark.parametrize("stalled", [False, True])
async def test_what_arrived_is_kept_when_a_sender_goes(taker: Taker, stalled: bool) -> None:
    """Whether it hangs up or only stops to send."""
    sent = 5 << 20
    port = int(taker.url.rsplit(":", 1)[1].strip("/"))
    tls = taker.tls if isinstance(taker.tls, ssl.SSLContext) else None
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    writer.write(f"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * sent}\r\n\r\n".encode() + bytes_of(sent))
    await writer.drain()
    await until(lambda: taker.taken >= 4 << 20)
    if not stalled:
        writer.close()
    await until(lambda: bool(taker.errors))
    assert taker.taken == sent
    assert isinstance(taker.errors[0], TimeoutError if stalled else OSError)
    writer.close()


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.01)


def arrive(intake: Intake, data: bytes) -> None:
    """As the event loop does it, in as many pieces as there is room for."""
    while data:
        room = intake.get_buffer(-1)
        piece, data = data[: len(room)], data[len(room) :]
        room[: len(piece)] = piece
        intake.buffer_updated(len(piece))


@pytest.fixture
def connection() -> MagicMock:
    """The request of a connection on which nothing happens by itself."""
    made = MagicMock()
    made.transport.get_protocol.return_value = asyncio.Protocol()
    return made


async def test_a_sender_is_held_back_while_blocks_wait(connection: MagicMock) -> None:
    """So that a slow disk costs no memory; it may go on when one was taken."""
    intake = Intake(connection, b"", 20 << 20)
    arrive(intake, b"x" * (3 << 20))
    connection.transport.pause_reading.assert_not_called()
    arrive(intake, b"x" * (1 << 20))
    connection.transport.pause_reading.assert_called_once()
    connection.transport.resume_reading.reset_mock()
    assert len(await anext(intake.blocks(1))) == 2 << 20
    connection.transport.resume_reading.assert_called_once()


async def test_the_rest_is_thrown_away_when_nobody_wants_it(connection: MagicMock) -> None:
    """Without holding the sender back; at its end the web server has the connection again."""
    intake = Intake(connection, b"", 20 << 20)
    blocks = intake.blocks(1)
    arrive(intake, b"x" * (4 << 20))
    await anext(blocks)
    connection.transport.pause_reading.reset_mock()
    await blocks.aclose()
    arrive(intake, b"x" * (16 << 20))
    connection.transport.pause_reading.assert_not_called()
    connection.content.feed_eof.assert_called_once()
    connection.transport.set_protocol.assert_called_with(connection.transport.get_protocol())


async def test_an_encoded_body_is_decoded(taker: Taker) -> None:
    """It goes by the parser, which knows how."""
    data = bytes_of(6 << 20)
    headers = {"Content-Encoding": "gzip"}
    sent = io.BytesIO(gzip.compress(data, 1))
    async with (
        aiohttp.ClientSession() as session,
        session.put(taker.url, data=sent, headers=headers, ssl=taker.tls) as answer,
    ):
        assert await answer.text() == hashlib.sha256(data).hexdigest()
    assert not taker.direct


async def test_bytes_that_come_after_a_stall_do_not_change_those_before(connection: MagicMock) -> None:
    """A sender that goes on when it is given up writes into other memory than what is being written to disk."""
    intake = Intake(connection, b"", 100)
    arrive(intake, b"a" * 10)
    blocks = intake.blocks(0.01)
    first = await anext(blocks)
    arrive(intake, b"b" * 5)
    assert (bytes(first), bytes(await anext(blocks))) == (b"a" * 10, b"b" * 5)
    with pytest.raises(TimeoutError):
        await anext(blocks)


async def test_no_more_blocks_are_under_way_than_said() -> None:
    """Whoever gives them uses their memory again after so many."""
    given, written, most = 0, 0, 0
    hurry = threading.Event()

    def write(_: Block) -> None:
        nonlocal written
        hurry.wait(0.01)
        written += 1

    async def blocks() -> AsyncIterator[bytes]:
        nonlocal given, most
        for _ in range(30):
            most = max(most, given - written)
            given += 1
            yield b"x"

    await pipe(blocks(), [write])
    assert (given, written) == (30, 30)
    assert 1 <= most <= AHEAD
