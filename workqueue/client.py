"""Client: the only door to the queue for workers, commands and pages."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import aiohttp
import msgspec

from workqueue.errors import Rejected, Unavailable, Unknown
from workqueue.machine.commands import AnyCommand, ArtifactRef, Claim, Request
from workqueue.machine.outcomes import AnyOutcome, Empty, Granted, Refused
from workqueue.stream import StreamError
from workqueue.tls import client_context
from workqueue.wslink import WsLink

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from pathlib import Path

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode
_outcomes = msgspec.msgpack.Decoder(list[AnyOutcome]).decode
_outcome = msgspec.msgpack.Decoder(Granted | Empty | Refused).decode
_RETRYABLE = frozenset({"unavailable", "not_leader", "closed", "unknown", "limit"})
_PAUSE_S = 0.05
_HOLD_S = 3.2  # how long a voter holds a call while it knows no leader
_EVENTS_WAIT_MS = 20_000
_PAUSE_S_MAX = 1.0
_POLL_S = 1.0
_STREAM_AGAIN_S = 5.0
_SILENT_S = 30.0  # a voter says something every ten seconds


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What a query returns, and how old it may be."""

    value: msgspec.Raw
    index: int
    age_ms: int


class Client:
    """Talks to whichever voter answers; a request keeps its id over every retry, so it takes effect once."""

    def __init__(
        self,
        servers: Sequence[str],
        *,
        token: str,
        ca: Path | None,
        actor: str = "",
        client_id: str | None = None,
        deadline_s: float = 30.0,
    ) -> None:
        self._servers = [url.rstrip("/") for url in servers]
        if not self._servers:
            raise ValueError("servers: name at least one voter's URL")
        self._at = random.randrange(len(self._servers))  # noqa: S311  spreads clients, guards nothing
        self._token = token
        self._ca = ca
        self._actor = actor
        self._client_id = client_id or secrets.token_hex(8)
        self._ids = itertools.count(1)
        self._deadline_s = deadline_s
        self._link: WsLink | None = None
        self._connecting = asyncio.Lock()
        self._identity: dict[str, Any] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._tls = client_context(self._ca)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls, limit=64))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._link:
            await self._link.close()
        if self._session:
            await self._session.close()

    # ---- what callers use

    async def submit(self, *commands: AnyCommand) -> list[AnyOutcome]:
        """Propose commands and return their outcomes, in order; raises Unavailable, Unknown or Rejected."""
        requests = [self._request(command) for command in commands]
        body = await self._call("propose", lambda: requests, request_id=requests[0].request_id if requests else 0)
        return _outcomes(body)

    async def claim(self, command: Claim, wait_ms: int) -> Granted | Empty | Refused:
        """Claim jobs, waiting up to `wait_ms` on the leader for some to appear."""
        request = self._request(command)
        deadline_s = self._deadline_s + wait_ms / 1000
        body = await self._call("claim", lambda: (request, wait_ms), request.request_id, deadline_s)
        outcome: Granted | Empty | Refused = _outcome(body)
        return outcome

    async def query(self, name: str, /, **args: object) -> Any:
        """Ask for a view of the state as of now (linearizable); returns plain maps and lists."""
        return msgspec.msgpack.decode((await self._ask(name, args, "linear")).value)

    async def query_as(self, kind: type[T], name: str, /, **args: object) -> T:
        """As `query`, checked and decoded as `kind`."""
        return msgspec.msgpack.decode((await self._ask(name, args, "linear")).value, type=kind)

    async def query_stale(self, name: str, /, **args: object) -> tuple[Any, int, int]:
        """Ask the connected voter alone: (view, commit index, age in ms); works without a leader."""
        answer = await self._ask(name, args, "stale")
        return msgspec.msgpack.decode(answer.value), answer.index, answer.age_ms

    async def events(self, since: int = -1) -> AsyncIterator[Any]:
        """Yield events after `since` (-1 = from now on) as they happen, over reconnections too."""
        from workqueue.machine.views import Event  # only those who follow events need the views

        batch = msgspec.msgpack.Decoder(tuple[int, list[Event]])
        while True:
            arguments = (since, 500, _EVENTS_WAIT_MS)
            body = await self._call("events", partial(tuple, arguments), deadline_s=self._deadline_s + 20)
            since, events = batch.decode(body)
            for event in events:
                yield event

    async def beat(self, worker: str, boot: str, seq: int, metadata: dict[str, object]) -> None:
        """Say that a worker is alive."""
        await self._call("beat", lambda: (worker, boot, seq, metadata))

    async def status(self) -> dict[str, Any]:
        """Return the `/status` document of the voter that answers."""
        document: dict[str, Any] = msgspec.json.decode(await self.get("/status"))
        return document

    async def statuses(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the `/status` document at once and whenever it changes; raises Unavailable when no voter has one.

        It comes over the event stream. Where that breaks or cannot be had, this asks once a second, and tries the
        stream again after some seconds.
        """
        loop = asyncio.get_running_loop()
        for turn in itertools.count(self._at):
            with contextlib.suppress(aiohttp.ClientError, OSError):  # TimeoutError is one of the latter
                async with contextlib.aclosing(self._streamed(self._servers[turn % len(self._servers)])) as documents:
                    async for document in documents:
                        yield document
            again = loop.time() + _STREAM_AGAIN_S
            while loop.time() < again:
                yield await self.status()
                await asyncio.sleep(_POLL_S)

    async def _streamed(self, server: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the documents of a voter's event stream until it ends; none where it cannot be had."""
        limit = aiohttp.ClientTimeout(total=None, connect=5, sock_read=_SILENT_S)
        async with self.session.get(f"{server}/v1/events?status=1", headers=self.headers, timeout=limit) as got:
            if got.status != 200:
                return
            wanted, text = False, bytearray()
            async for piece in got.content.iter_any():
                text += piece
                *lines, rest = text.split(b"\n")
                text = bytearray(rest)
                for line in lines:
                    if line.startswith(b"event:"):
                        wanted = line[6:].strip() == b"status"
                    elif wanted and line.startswith(b"data:"):
                        yield msgspec.json.decode(line[5:])

    async def cluster(self, op: str, *args: object) -> Any:
        """Run an operator's call ("transfer", "snapshot", "barrier") and return its plain answer."""
        return msgspec.msgpack.decode(await self._call(op, lambda: args))

    async def get(self, path: str) -> bytes:
        """Fetch a path of the HTTP API from a voter that answers."""
        tried: list[str] = []
        for turn in range(len(self._servers)):
            url = self._servers[(self._at + turn) % len(self._servers)]
            try:
                async with self.session.get(
                    url + path, headers=self.headers, timeout=_timeout(self._deadline_s)
                ) as got:
                    if got.status < 500:
                        return await _body(got)
                    tried.append(f"{url} ({got.status})")
            except (aiohttp.ClientError, OSError) as error:
                tried.append(f"{url} ({str(error) or type(error).__name__})")
        raise Unavailable(tried)

    async def put_artifact(
        self, path: Path, *, kind: str, config: str = "", progress: Callable[[int, int], None] | None = None
    ) -> ArtifactRef:
        """Store a file's bytes on the voters, resuming what an earlier try left; returns its reference."""
        from workqueue.transfer import put_artifact

        return await put_artifact(self, path, kind=kind, config=config, progress=progress)

    async def get_artifact(self, sha256: str, path: Path, progress: Callable[[int, int], None] | None = None) -> None:
        """Fetch bytes by their name into `path`, resuming and verifying."""
        from workqueue.transfer import get_artifact

        await get_artifact(self, sha256, path, progress)

    # ---- for transfers

    @property
    def session(self) -> aiohttp.ClientSession:
        """The HTTP session; only inside `async with`."""
        assert self._session, "use `async with Client(...)`"
        return self._session

    @property
    def headers(self) -> dict[str, str]:
        """What authenticates a request of the HTTP API."""
        return {"Authorization": f"Bearer {self._token}"}

    @property
    def servers(self) -> list[str]:
        """The voters' URLs, the connected one first."""
        return self._servers[self._at :] + self._servers[: self._at]

    # ---- the stream

    def _request(self, command: AnyCommand) -> Request:
        return Request(self._client_id, next(self._ids), self._actor, command)

    async def _ask(self, name: str, args: dict[str, object], consistency: str) -> Answer:
        body = await self._call("query", lambda: (name, args, consistency))
        return msgspec.msgpack.decode(body, type=Answer)

    async def _call(
        self, op: str, body: Callable[[], object], request_id: int = 0, deadline_s: float = 0.0
    ) -> msgspec.Raw:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (deadline_s or self._deadline_s)
        sent, pause, reason = False, _PAUSE_S, ""
        while (left := deadline - loop.time()) > 0:
            link: WsLink | None = None
            try:
                async with asyncio.timeout(left):
                    link = await self._connected()
                    return await link.calls.call(op, body())
            except TimeoutError:
                sent = sent or link is not None
                break
            except StreamError as error:
                if error.code not in _RETRYABLE:
                    raise Rejected(error.code, str(error), error.retry_ms) from error
                sent = sent or (link is not None and error.code in {"closed", "unknown"})
                wait_s, reason = error.retry_ms / 1000, str(error)
                if error.code == "unavailable" and deadline - loop.time() < wait_s + _HOLD_S:
                    break  # a voter would hold the next try for longer than there is time
            wait_s = min(max(wait_s, pause * random.uniform(0.5, 1.0)), max(deadline - loop.time(), 0))  # noqa: S311
            await asyncio.sleep(wait_s)
            pause = min(2 * pause, _PAUSE_S_MAX)
        if sent and request_id:
            raise Unknown(request_id)
        raise Unavailable(self._servers, reason)

    async def _connected(self) -> WsLink:
        link = self._link
        if link and not link.closed.is_set():
            return link
        async with self._connecting:
            if self._link and not self._link.closed.is_set():
                return self._link
            if self._link:
                await self._link.close()
                self._link = None
                self._at = (self._at + 1) % len(self._servers)
            self._link = await self._open_any()
            return self._link

    async def _open_any(self) -> WsLink:
        failure: StreamError | None = None
        for _ in self._servers:
            link = WsLink(
                self.session, self._servers[self._at], tls=self._tls, headers=self.headers, on_push=self._pushed
            )
            try:
                await link.open()
            except StreamError as error:
                failure = error
                self._at = (self._at + 1) % len(self._servers)
            else:
                return link
        assert failure
        raise failure

    def _pushed(self, op: str, body: msgspec.Raw) -> None:
        if op == "hello":
            self._identity = msgspec.msgpack.decode(body)
            self._actor = self._actor or str(self._identity.get("actor", ""))


def _timeout(total_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total_s, connect=5)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    data = await response.read()
    if response.status < 400:
        return data
    try:
        problem = msgspec.json.decode(data)
        text = str(problem.get("detail") or problem.get("title"))
    except (msgspec.DecodeError, AttributeError):
        text = f"the voter answered {response.status}"
    raise Rejected(str(response.status), text)
