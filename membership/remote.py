"""The client of a gossip process: the view is copied, so that reading it never waits."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from membership import frames
from membership.api import Event, Member, MembershipError, State, Value, select
from membership.hub import RESYNC, Hub, Subscription

_ANSWER_S = 5.0
_RETRY_S = 0.5
_REFRESH_S = 30.0


class RemoteMembership:
    """The membership that a gossip process serves on a socket; see `membership.api.Membership`.

    It reconnects by itself when the process restarts, and tells its subscribers to resync then.
    """

    def __init__(self, socket_path: Path | str, *, connect_timeout_s: float = 10.0) -> None:
        self._path = Path(socket_path)
        self._connect_timeout_s = connect_timeout_s
        self._hub = Hub()
        self._view: dict[str, Member] = {}
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the copied view is kept up to date at present."""
        return self._ready.is_set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._stay_connected())
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._ready.wait()
        except TimeoutError:
            await self.__aexit__(None, None, None)
            raise MembershipError(f"No gossip process serves {self._path}; start it first.") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._hub.close()

    def members(self, role: str | None = None, state: State | None = None) -> list[Member]:
        """Return the copied view."""
        return select(list(self._view.values()), role, state)

    def get(self, id: str) -> Member | None:
        """Return the newest boot of a node."""
        return self._view.get(id)

    def events(self) -> Subscription:
        """Subscribe from now on."""
        return self._hub.subscribe()

    async def set_metadata(self, **values: Value) -> None:
        """Change the process's own metadata."""
        await self._ask("set_metadata", values)
        await self._copy_view()

    async def leave(self) -> None:
        """Let the process say farewell."""
        await self._ask("leave", None)
        await self._copy_view()

    def hint_suspect(self, id: str, reason: str) -> None:
        """Ask for a probe; while the process is away the hint is lost, as a hint may be."""
        if self._writer is not None:
            body = {"id": id, "reason": reason}
            self._writer.write(frames.pack(frames.Frame(next(self._ids), "hint_suspect", body)))

    async def install_key(self, key_id: str, key: Path | str | bytes) -> None:
        """Accept packets under one more key."""
        await self._ask("install_key", {"key_id": key_id, "key": str(key) if isinstance(key, Path) else key})

    async def use_key(self, key_id: str) -> None:
        """Seal own packets with an installed key."""
        await self._ask("use_key", key_id)

    async def remove_key(self, key_id: str) -> None:
        """Refuse packets under a key."""
        await self._ask("remove_key", key_id)

    async def _stay_connected(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                await asyncio.sleep(_RETRY_S)
                continue
            self._writer = writer
            reading = asyncio.create_task(self._read(reader))
            try:
                await self._copy_view()
                self._ready.set()
                self._hub.publish(RESYNC)
                while not reading.done():
                    await asyncio.wait({reading}, timeout=_REFRESH_S)
                    if not reading.done():
                        await self._copy_view()  # forgets whom the process has forgotten
            except (MembershipError, ValueError):
                await asyncio.sleep(_RETRY_S)
            finally:
                await self._disconnect(reading)

    async def _disconnect(self, reading: asyncio.Task[None]) -> None:
        self._ready.clear()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(MembershipError(f"The gossip process at {self._path} ended; ask again."))
        self._waiting.clear()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            await frames.hang_up(writer)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while (frame := await frames.read(reader)) is not None:
            if frame.id == 0:
                self._take(msgspec.convert(frame.body, Event))
                continue
            future = self._waiting.pop(frame.id, None)
            if future is None or future.done():
                continue
            if frame.op == "ok":
                future.set_result(frame.body)
            else:
                future.set_exception(MembershipError(str(frame.body)))

    def _take(self, event: Event) -> None:
        if event.member is None and self._writer is not None:
            self._writer.close()  # the process dropped events for us: connect anew, which copies the view
            return
        if event.member is not None:
            self._view[event.member.id] = event.member
        self._hub.publish(event)

    async def _copy_view(self) -> None:
        body = await self._ask("members", {"role": None, "state": None})
        self._view = {member.id: member for member in msgspec.convert(body, list[Member])}

    async def _ask(self, op: str, body: object) -> Any:
        if self._writer is None:
            raise MembershipError(f"No gossip process serves {self._path}; start it, or ask again in a moment.")
        number = next(self._ids)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(frames.pack(frames.Frame(number, op, body)))
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await future
        except TimeoutError:
            raise MembershipError(f"The gossip process at {self._path} does not answer.") from None
        finally:
            self._waiting.pop(number, None)
