"""Artifact routes: resumable upload, ranged download, and what voters ask of each other.

An upload is acknowledged when the bytes are verified, synced, copied to as many voters as `replicas` asks for and
registered with their holders. When some voters cannot be reached a majority is enough, which a cluster that can
complete jobs at all always has (202, the replicate duty makes the rest); with fewer the answer is 503 and the client
tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from aiohttp import web

from workqueue.blocks import BLOCK_BYTES, pipe
from workqueue.errors import ClientError, CorruptArtifact
from workqueue.http.bandwidth import Bandwidth
from workqueue.http.copies import Copies
from workqueue.http.intake import TAKEN, Bodies
from workqueue.http.problem import Problem
from workqueue.machine.commands import ArtifactRef, DropHolder, RegisterArtifact
from workqueue.machine.outcomes import Refused
from workqueue.mirror import OFFSET
from workqueue.store import StoreError, is_name
from workqueue.transfer import Stored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from config.cluster import ClusterSettings
    from workqueue.blocks import Throttle
    from workqueue.machine.commands import AnyCommand
    from workqueue.machine.outcomes import AnyOutcome
    from workqueue.store import ArtifactStore, Upload
    from workqueue.transfer import Holders

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STORE_HOLDER = "store"
KINDS = frozenset({"shard", "weights", "checkpoint", "games", "log", "export", "curves", "other"})
_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-(?P<end>\d+)|\*)/(?P<size>\d+)")
_CODES = {
    400: "malformed",
    404: "not_found",
    409: "conflict",
    413: "request_entity_too_large",
    416: "range",
    422: "corrupt",
    503: "unavailable",
    507: "disk_full",
}
_READ_S = 30.0  # a connection that sends nothing for this long gives its upload up


class ArtifactContext(Protocol):
    """What these routes need of a voter's front."""

    voter_id: str
    settings: ClusterSettings
    store: ArtifactStore
    holders: Holders  # the other voters

    async def authenticate(self, request: web.Request, role: str) -> str:
        """Return the actor of a request, or raise an HTTP error when it has not at least this role."""

    async def propose(self, *commands: AnyCommand) -> list[AnyOutcome]:
        """Propose commands as this voter."""

    async def query(self, name: str, /, **args: object) -> Any:
        """Ask for a view of the state; plain maps and lists, None when it is not found."""


def routes(context: ArtifactContext) -> list[web.RouteDef]:
    """The routes below `/v1/artifacts`."""
    handlers = _Handlers(context)
    path = "/v1/artifacts/{sha256}"
    return [
        web.put(path, handlers.answer("worker", handlers.put)),
        web.head(path, handlers.answer("read", handlers.head)),
        web.get(path, handlers.answer("read", handlers.get), allow_head=False),
        web.delete(path, handlers.answer("voter", handlers.delete)),
        web.post(path + "/verify", handlers.answer("worker", handlers.verify)),
        web.post(path + "/pull", handlers.answer("voter", handlers.pull)),
        web.get("/v1/artifact-inventory", handlers.answer("voter", handlers.inventory)),
    ]


class _Handlers:
    def __init__(self, context: ArtifactContext) -> None:
        self._context = context
        self._store = context.store
        self._bandwidth = Bandwidth(context.settings.store)
        self._bodies = Bodies()
        self._wanted = 1 if context.store.shared else context.settings.store.replicas
        self._copies = Copies(context, self._wanted - 1)

    def answer(self, role: str, handler: Handler) -> Handler:
        """Authenticate, check the name, and turn errors into problem documents."""

        async def run(request: web.Request) -> web.StreamResponse:
            await self._context.authenticate(request, role)
            name = request.match_info.get("sha256")
            if name is not None and not is_name(name):
                return _problem(400, "an artifact is named by its SHA-256 in 64 lower-case hexadecimal digits")
            response = await _explained(handler, request)
            if TAKEN in request:
                response.force_close()
            return response

        return run

    # ---- what clients use

    async def put(self, request: web.Request) -> web.Response:
        """Take the rest of an upload."""
        sha256 = request.match_info["sha256"]
        start, size = self._range_of(request)
        if size > self._context.settings.limits.artifact_bytes_max:
            limit = self._context.settings.limits.artifact_bytes_max >> 20
            return _problem(413, f"larger than the {limit} MB that limits.artifact_bytes_max allows")
        ref = ArtifactRef(sha256, size, request.query.get("kind", "other"))
        copied: list[str] = []
        if await self._store.size(sha256) is None and self._staged(sha256) is None:
            upload = await self._store.begin(sha256, size, start)
            taken = await self._take(request, upload, ref)
            if taken is None:
                return _problem(409, "bytes are still missing; go on", {OFFSET: str(upload.offset)})
            copied = taken
        await self._store.commit(sha256)
        if request.query.get("copy"):
            return _json(201, Stored(sha256, size, (self._context.voter_id,), 1))
        return await self._register(ref, request.query.get("config", ""), copied)

    async def head(self, request: web.Request) -> web.Response:
        """Size of stored bytes, or the offset of an unfinished upload."""
        sha256 = request.match_info["sha256"]
        size = await self._store.size(sha256)
        if size is None:
            return web.Response(status=404, headers={OFFSET: str(await self._store.offset(sha256))})
        return web.Response(headers={"Content-Length": str(size), "Accept-Ranges": "bytes", "ETag": f'"{sha256}"'})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Send bytes, or pass on those of another holder."""
        sha256 = request.match_info["sha256"]
        path = self._store.local(sha256)
        headers = {"ETag": f'"{sha256}"', "Cache-Control": "private, immutable, max-age=31536000"}
        throttles = self._bandwidth.throttles(request)
        if path and not throttles:
            return web.FileResponse(path, chunk_size=BLOCK_BYTES, headers=headers)
        size = await self._store.size(sha256)
        if size is None:
            return await self._relay(request, sha256, throttles)
        return await self._send(request, sha256, size, headers, throttles)

    async def verify(self, request: web.Request) -> web.Response:
        """Check stored bytes against their name; what is damaged is deleted and its holder dropped."""
        sha256 = request.match_info["sha256"]
        if await self._store.size(sha256) is None:
            return _problem(404, "not stored here")
        whole = await self._store.verify(sha256)
        if not whole:
            await self._context.propose(DropHolder(sha256, self._me))
        return _json(200, {"sha256": sha256, "whole": whole})

    # ---- what voters use

    async def delete(self, request: web.Request) -> web.Response:
        """Delete bytes that the state no longer knows."""
        await self._store.delete(request.match_info["sha256"])
        return web.Response(status=204)

    async def pull(self, request: web.Request) -> web.Response:
        """Copy bytes from the voter named by `from`."""
        sha256, source = request.match_info["sha256"], request.query.get("from", "")
        if source not in self._context.holders.urls:
            return _problem(400, f"`from` must name another voter, not {source!r}")
        if await self._store.size(sha256) is None:
            path = await self._store.room(sha256, int(request.query.get("size", "0")))
            await self._context.holders.pull(source, sha256, path)
            await asyncio.to_thread(self._store.adopt, path, sha256)
        return _json(200, {"sha256": sha256, "holder": self._me})

    async def inventory(self, request: web.Request) -> web.Response:
        """Everything that is stored here."""
        del request
        return _json(200, await self._store.inventory())

    # ---- parts

    @property
    def _me(self) -> str:
        return STORE_HOLDER if self._store.shared else self._context.voter_id

    def _staged(self, sha256: str) -> object:
        staging = getattr(self._store, "staging", None)
        return staging.local(sha256) if staging else None

    def _range_of(self, request: web.Request) -> tuple[int, int]:
        text = request.headers.get("Content-Range", "")
        found = _RANGE.fullmatch(text)
        if not found:
            if text or request.content_length is None:
                raise web.HTTPBadRequest(
                    text="say Content-Range: bytes START-END/SIZE, or send all with Content-Length"
                )
            return 0, request.content_length
        size = int(found["size"])
        return (int(found["start"]) if found["start"] else size), size

    async def _take(self, request: web.Request, upload: Upload, ref: ArtifactRef) -> list[str] | None:
        """Return the voters that got a copy meanwhile, None when bytes are still to come."""
        throttles = self._bandwidth.throttles(request)
        copies = None if request.query.get("copy") else self._copies
        mirrors = await copies.mirrors(ref, upload.offset) if copies else None
        try:
            async with contextlib.aclosing(self._bodies.blocks(request, _READ_S)) as blocks:
                sinks = [upload.write, upload.digest, *(mirrors.sinks if mirrors else ())]
                await pipe(blocks, sinks, throttles)
            if upload.missing_bytes:
                return None
            await _all(asyncio.to_thread(upload.finish), *([mirrors.finish()] if mirrors else ()))
        except (OSError, TimeoutError):  # the client hung up or stalled: it may go on from here
            return None
        finally:
            upload.close()
            if mirrors:
                mirrors.close()
        return mirrors.stored if mirrors else []

    async def _register(self, ref: ArtifactRef, config: str, copied: Sequence[str]) -> web.Response:
        holders = [self._me, *copied]
        wanted = self._wanted
        path = self._store.local(ref.sha256)
        if path:
            holders += await self._copies.make(path, ref, holders)
        [outcome] = await self._context.propose(RegisterArtifact(ref, tuple(holders), config))
        if isinstance(outcome, Refused):
            return _problem(409 if outcome.retry_ms else 400, outcome.message)
        if len(holders) < least(wanted, len(self._context.settings.voters)):
            return _problem(503, f"only {len(holders)} of {wanted} voters could store it", {"Retry-After": "1"})
        stored = Stored(ref.sha256, ref.size_bytes, tuple(holders), wanted)
        return _json(201 if len(holders) >= wanted else 202, stored)

    async def _relay(self, request: web.Request, sha256: str, throttles: Sequence[Throttle]) -> web.StreamResponse:
        known = await self._context.query("artifact", sha256=sha256)
        holders: Sequence[str] = known.get("holders", ()) if isinstance(known, dict) else ()
        peers = self._context.holders
        if request.query.get("here"):
            holders = ()
        wanted = {key: value for key, value in request.headers.items() if key == "Range"}
        for voter in holders:
            url = peers.urls.get(voter)
            if not url:
                continue
            with contextlib.suppress(ClientError, OSError):
                async with peers.session.get(f"{url}/v1/artifacts/{sha256}?here=1", headers=wanted) as got:
                    if got.status not in {200, 206}:
                        continue
                    return await _pass_on(request, got, throttles)
        return _problem(404, "no holder of this artifact answers" if holders else "no such artifact")

    async def _send(
        self, request: web.Request, sha256: str, size: int, headers: dict[str, str], throttles: Sequence[Throttle]
    ) -> web.StreamResponse:
        part = request.http_range
        start, end, _ = part.indices(size)
        if start >= size > 0:
            return _problem(416, "the range lies past the end", {"Content-Range": f"bytes */{size}"})
        ranged = part.start is not None
        headers |= {"Content-Length": str(end - start), "Accept-Ranges": "bytes"}
        headers |= {"Content-Range": f"bytes {start}-{end - 1}/{size}"} if ranged else {}
        response = web.StreamResponse(status=206 if ranged else 200, headers=headers)
        await response.prepare(request)
        async for block in self._store.read(sha256, start, end):
            for throttle in throttles:
                await throttle.take(len(block))
            await response.write(block)
        await response.write_eof()
        return response


def least(replicas: int, voters: int) -> int:
    """Fewest holders with which an upload may be acknowledged."""
    return min(replicas, voters // 2 + 1)


async def _all(*works: Awaitable[object]) -> None:
    """Wait for all, then raise what the first one raised."""
    for found in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(found, BaseException):
            raise found


async def _pass_on(request: web.Request, got: Any, throttles: Sequence[Throttle]) -> web.StreamResponse:
    kept = ("Content-Length", "Content-Range", "ETag", "Accept-Ranges")
    headers = {name: got.headers[name] for name in kept if name in got.headers}
    response = web.StreamResponse(status=got.status, headers=headers)
    await response.prepare(request)
    async for block in got.content.iter_chunked(BLOCK_BYTES):
        for throttle in throttles:
            await throttle.take(len(block))
        await response.write(block)
    await response.write_eof()
    return response


async def _explained(handler: Handler, request: web.Request) -> web.StreamResponse:
    try:
        return await handler(request)
    except CorruptArtifact as error:
        return _problem(422, str(error))
    except StoreError as error:
        offset = getattr(error, "offset", None)
        return _problem(error.status, str(error), {} if offset is None else {OFFSET: str(offset)})
    except ClientError as error:
        return _problem(503, str(error), {"Retry-After": "1"})


def _json(status: int, value: object) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    response = Problem(status, _CODES.get(status, "failed"), detail).response()
    response.headers.update(headers or {})
    return response
