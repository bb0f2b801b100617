"""A front's view of its own core: calls over the unix socket, and the pushed state, tokens and kinds."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Any

import msgspec

from workqueue.replication import CoreState
from workqueue.stream import Calls, OnReply, UnixLink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOCKET = "core.sock"
GOSSIP_SOCKET = "gossip.sock"
_PATH_MAX = 100  # a unix socket's path has 108 bytes at most
_state = msgspec.msgpack.Decoder(CoreState).decode


def socket_path(run_folder: Path, name: str) -> str:
    """Return a path for a unix socket in `run_folder`, short enough whatever the folder is called."""
    path = str(run_folder / name)
    if len(path.encode()) <= _PATH_MAX:
        return path
    descriptor = os.open(run_folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # kept open as long as the process
    return f"/proc/self/fd/{descriptor}/{name}"


def make_private(path: str) -> None:
    """Let only the owner connect."""
    os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)  # noqa: PTH101  the path may go through /proc


class CoreLink:
    """The front's connection to its core."""

    def __init__(self, voter_id: str) -> None:
        self.state = CoreState(voter_id, "follower", "", 0, 0, 0, 0)
        self.views: dict[str, Any] = {}
        self.heard_at = 0.0  # loop time of the last pushed state
        self._watchers: list[Callable[[], None]] = []
        self._changed = asyncio.Event()
        self._link: UnixLink

    async def connect(self, path: str, timeout_s: float = 10.0) -> None:
        """Connect to the core, which may still be starting; raises TimeoutError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    _, self._link = await loop.create_unix_connection(lambda: UnixLink(self._pushed), path)
                except (FileNotFoundError, ConnectionRefusedError):
                    await asyncio.sleep(0.05)
                else:
                    break
            while not self.heard_at:
                await self.changed()

    async def close(self) -> None:
        """End the connection and every call in flight."""
        self._link.transport.close()
        await self._link.closed

    @property
    def closed(self) -> asyncio.Future[None]:
        """Done when the core is gone."""
        return self._link.closed

    @property
    def calls(self) -> Calls:
        """The calls in flight."""
        return self._link.calls

    @property
    def leads(self) -> bool:
        """Whether this voter is the leader, as far as the front knows."""
        return self.state.role == "leader"

    def send(self, op: str, body: object, on_reply: OnReply) -> int:
        """Send a call whose answer is handed to a function."""
        return self._link.calls.send(op, body, on_reply)

    async def call(self, op: str, body: object = None) -> msgspec.Raw:
        """Send a call and wait for its answer; raises StreamError."""
        return await self._link.calls.call(op, body)

    def watch(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` whenever role, leader, term, tokens or kinds change."""
        self._watchers.append(on_change)

    async def changed(self) -> None:
        """Wait for the next such change."""
        await self._changed.wait()

    def _pushed(self, op: str, body: msgspec.Raw) -> None:
        if op == "state":
            first = not self.heard_at
            self.heard_at = asyncio.get_running_loop().time()
            before, self.state = self.state, _state(body)
            same = (before.role, before.leader, before.term) == (self.state.role, self.state.leader, self.state.term)
            if same and not first:
                return
        else:
            self.views[op] = msgspec.msgpack.decode(body)
        event, self._changed = self._changed, asyncio.Event()
        event.set()
        for watcher in self._watchers:
            watcher()
