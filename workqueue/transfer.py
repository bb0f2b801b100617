"""Artifacts over HTTP: uploads that go on where they broke off, downloads verified on arrival.

An upload asks for the offset that a voter holds and sends the rest; the voter verifies the digest before it gives the
bytes their name. A download keeps a partial file and goes on from any holder; what arrives with another digest is
thrown away, its holder is asked to check itself, and the next one is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Protocol

import aiohttp
import msgspec

from workqueue.blocks import BLOCK_BYTES, Throttle, gather_blocks, pipe, read_blocks
from workqueue.errors import CorruptArtifact, Rejected, Unavailable
from workqueue.machine.commands import ArtifactRef
from workqueue.mirror import OFFSET, Mirror
from workqueue.store import digest_file

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from workqueue.blocks import Block

PROVIDER = "Rift-Provider"  # headers that say whose bandwidth a transfer uses
JOB = "Rift-Job"
Progress = Callable[[int, int], None]  # bytes done, bytes in all
_TRIES = 6
_PAUSE_S = 0.2
_READ_S = 60.0
_PIECE_BYTES = 256 << 10  # what is given to a connection at once: it moves what it cannot send at once in memory
_SLOW_PIECE_BYTES = 32 << 10  # with a limit, so that no pause looks like a connection that has stalled
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=_READ_S)
_TRANSIENT = frozenset({409, 422, 429, 500, 502, 503, 504})  # 422: bytes were damaged on the way


class Http(Protocol):
    """What a transfer needs of a client: a session, what authenticates it, and where to go."""

    @property
    def session(self) -> aiohttp.ClientSession:
        """An open session."""

    @property
    def headers(self) -> dict[str, str]:
        """What authenticates a request."""

    @property
    def servers(self) -> list[str]:
        """URLs of voters, the best first."""


class ForJob:
    """A client on behalf of one job."""

    def __init__(self, http: Http, job: str) -> None:
        self.session = http.session
        self.servers = http.servers
        self.headers = http.headers | ({JOB: job} if job else {})


class Stored(msgspec.Struct, frozen=True):
    """What a voter answers to a finished upload: who holds the bytes, and how many should."""

    sha256: str
    size_bytes: int
    holders: tuple[str, ...]
    wanted: int


async def put_artifact(
    http: Http,
    path: Path,
    *,
    kind: str,
    config: str = "",
    sha256: str = "",
    progress: Progress | None = None,
    throttles: Sequence[Throttle] = (),
) -> ArtifactRef:
    """Store a file's bytes, whose digest may be known.

    Raises Unavailable when no voter takes them, Rejected when they are refused, and CorruptArtifact when they are no
    longer what `sha256` says.
    """
    digest = sha256 or await asyncio.to_thread(digest_file, path)
    size = (await asyncio.to_thread(path.stat)).st_size
    ref = ArtifactRef(digest, size, kind)
    query = {"kind": kind, "config": config}
    try:
        await upload(http, http.servers, path, ref, query, progress=progress, throttles=throttles)
    except (Unavailable, Rejected) as error:
        if sha256 and await asyncio.to_thread(digest_file, path) != sha256:
            raise CorruptArtifact(sha256) from error
        raise
    return ref


async def upload(
    http: Http,
    servers: Sequence[str],
    path: Path,
    ref: ArtifactRef,
    query: Mapping[str, str],
    *,
    progress: Progress | None = None,
    throttles: Sequence[Throttle] = (),
) -> Stored:
    """Send bytes to the first of `servers` that takes them, going on where an earlier connection broke off."""
    tried: list[str] = []
    refused: Rejected | None = None
    for server in servers:
        url = f"{server}/v1/artifacts/{ref.sha256}"
        for attempt in range(_TRIES):
            try:
                return await _send_rest(http, url, path, ref, query, progress, throttles)
            except Rejected as error:
                refused = error
                break
            except (aiohttp.ClientError, OSError, _Transient) as error:
                tried.append(f"{server} ({_text(error)})")
                if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                    break
            await _pause(attempt)
    if refused:
        raise refused
    raise Unavailable(tried[-3:] or list(servers), "upload")


async def get_artifact(
    http: Http,
    sha256: str,
    path: Path,
    progress: Progress | None = None,
    *,
    throttles: Sequence[Throttle] = (),
) -> None:
    """Fetch bytes by name into `path`; raises CorruptArtifact, Rejected (no such artifact) or Unavailable."""
    await download(http, http.servers, sha256, path, progress, throttles=throttles)


async def download(
    http: Http,
    servers: Sequence[str],
    sha256: str,
    path: Path,
    progress: Progress | None = None,
    *,
    throttles: Sequence[Throttle] = (),
) -> None:
    """Fetch from any of `servers`, going on from one to the next; `path` appears only whole and verified."""
    partial = path.with_name(path.name + ".part")
    tried: list[str] = []
    corrupt = missing = 0
    for attempt in range(_TRIES):
        for server in servers:
            url = f"{server}/v1/artifacts/{sha256}"
            try:
                digest = await _fetch_rest(http, url, partial, progress, throttles)
            except _Missing:
                missing += 1
                continue
            except (aiohttp.ClientError, OSError, _Transient) as error:
                tried.append(f"{server} ({_text(error)})")
                continue
            if digest == sha256:
                await asyncio.to_thread(_place, partial, path)
                return
            corrupt += 1
            partial.unlink(missing_ok=True)
            await _ask_to_verify(http, url)
        if corrupt > 1 or missing >= len(servers):
            break
        await _pause(attempt)
    if corrupt:
        raise CorruptArtifact(sha256)
    if missing:
        raise Rejected("not_found", f"no voter that answers holds artifact {sha256}")
    raise Unavailable(tried[-3:], "download")


class Holders:
    """The artifact routes of other voters, reached with this voter's certificate (the session's)."""

    def __init__(
        self, urls: Mapping[str, str], session: aiohttp.ClientSession, tls: ssl.SSLContext | None = None
    ) -> None:
        self.headers: dict[str, str] = {}
        self.urls = dict(urls)
        self.session = session
        self._tls = tls

    @property
    def servers(self) -> list[str]:
        """URLs of all the others."""
        return list(self.urls.values())

    def mirror(self, voter: str, sha256: str, kind: str) -> Mirror:
        """A way to pass an upload on to another voter while it arrives."""
        return Mirror(self.urls[voter], self._tls, sha256, kind)

    async def push(self, voter: str, path: Path, ref: ArtifactRef) -> None:
        """Copy a file to another voter, which verifies it."""
        await upload(self, [self.urls[voter]], path, ref, {"kind": ref.kind, "copy": "1"})

    async def pull(self, voter: str, sha256: str, path: Path) -> None:
        """Copy an artifact from another voter into a file, verified."""
        await download(self, [self.urls[voter]], sha256, path)

    async def call(self, voter: str, method: str, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """Run one of the routes for voters; raises Rejected or Unavailable."""
        url = f"{self.urls[voter]}{path}"
        try:
            async with self.session.request(method, url, params=query, timeout=_TIMEOUT) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable([url], str(error)) from error
        if answer.status >= 400:
            raise Rejected(str(answer.status), body.decode(errors="replace")[:300])
        return body


class _Transient(Exception):
    """Try again."""


class _Missing(Exception):
    """Not held by anyone this voter knows of."""


async def _send_rest(
    http: Http, url: str, path: Path, ref: ArtifactRef, query: Mapping[str, str], progress: Progress | None,
    throttles: Sequence[Throttle],
) -> Stored:  # fmt: skip
    async with http.session.head(url, headers=http.headers, timeout=_TIMEOUT) as held:
        stored, offset = held.status == 200, int(held.headers.get(OFFSET, "0"))
        if held.status not in {200, 404}:
            await _refuse(held)
    start = ref.size_bytes if stored else offset
    rest = f"{start}-{ref.size_bytes - 1}" if start < ref.size_bytes else "*"
    headers = http.headers | {
        "Content-Range": f"bytes {rest}/{ref.size_bytes}",
        "Content-Length": str(ref.size_bytes - start),
        "Content-Type": "application/octet-stream",
    }
    body = _blocks(path, start, ref.size_bytes, progress, throttles) if start < ref.size_bytes else None
    async with http.session.put(url, data=body, params=dict(query), headers=headers, timeout=_TIMEOUT) as answer:
        if answer.status >= 300:
            await _refuse(answer)
        return msgspec.json.decode(await answer.read(), type=Stored)


async def _refuse(answer: aiohttp.ClientResponse) -> None:
    text = (await answer.read()).decode(errors="replace")
    if answer.status in _TRANSIENT:
        raise _Transient(f"HTTP {answer.status}")
    try:
        problem = msgspec.json.decode(text, type=dict[str, object])
        text = str(problem.get("detail") or problem.get("title") or text)
    except msgspec.DecodeError:
        pass
    raise Rejected(str(answer.status), text[:500] or f"the voter answered {answer.status}")


async def _blocks(
    path: Path, start: int, size: int, progress: Progress | None, throttles: Sequence[Throttle]
) -> AsyncIterator[bytes]:
    piece_bytes = _SLOW_PIECE_BYTES if throttles else _PIECE_BYTES
    async with contextlib.aclosing(read_blocks(path, start, size)) as blocks:
        async for block in blocks:
            for at in range(0, len(block), piece_bytes):
                piece = block[at : at + piece_bytes]
                for throttle in throttles:
                    await throttle.take(len(piece))
                yield piece
            start += len(block)
            if progress:
                progress(start, size)


async def _fetch_rest(
    http: Http, url: str, partial: Path, progress: Progress | None, throttles: Sequence[Throttle]
) -> str:
    have = _held(partial)
    headers = http.headers | ({"Range": f"bytes={have}-"} if have else {})
    async with http.session.get(url, headers=headers, timeout=_TIMEOUT, read_bufsize=BLOCK_BYTES) as answer:
        if answer.status == 404:
            raise _Missing
        if answer.status == 416:  # all bytes are here already
            return await asyncio.to_thread(digest_file, partial)
        if answer.status not in {200, 206}:
            await _refuse(answer)
        have = have if answer.status == 206 else 0
        size = have + int(answer.headers.get("Content-Length", "0"))
        return await _receive(answer, partial, have, size, progress, throttles)


async def _receive(
    answer: aiohttp.ClientResponse, partial: Path, have: int, size: int, progress: Progress | None,
    throttles: Sequence[Throttle],
) -> str:  # fmt: skip
    digest = hashlib.sha256()
    with partial.open("r+b" if have else "wb") as file:
        await asyncio.to_thread(_replay, file, digest, have)

        def keep(block: Block) -> None:
            file.write(block)
            digest.update(block)

        async with contextlib.aclosing(gather_blocks(answer.content, _READ_S)) as blocks:
            await pipe(_told(blocks, have, size, progress), [keep], throttles)
    return digest.hexdigest()


async def _told(blocks: AsyncIterator[bytes], done: int, size: int, progress: Progress | None) -> AsyncIterator[bytes]:
    async for block in blocks:
        yield block
        done += len(block)
        if progress:
            progress(done, size)


def _replay(file: BinaryIO, digest: hashlib._Hash, have: int) -> None:
    while have > 0:
        block = file.read(min(BLOCK_BYTES, have))
        digest.update(block)
        have -= len(block)


async def _ask_to_verify(http: Http, url: str) -> None:
    try:
        async with http.session.post(f"{url}/verify", headers=http.headers, timeout=_TIMEOUT) as answer:
            await answer.read()
    except (aiohttp.ClientError, OSError):
        return  # it is down: the repair duty will look at it


def _place(partial: Path, path: Path) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.rename(path)


def _held(partial: Path) -> int:
    return partial.stat().st_size if partial.exists() else 0


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _pause(attempt: int) -> None:
    await asyncio.sleep(random.uniform(0.5, 1.0) * _PAUSE_S * 2**attempt)  # noqa: S311  spreads retries
