"""Who seems alive, as the front sees it: gossip of its own process, and heartbeats that workers send to any voter.

Heartbeats are passed on to the leader, whose duty confirms deaths; a new leader gives everyone a whole time to live.
Only the leader hears them all, so only there is silence a verdict; elsewhere the silent are forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from membership.api import MembershipError, Metadata
from membership.merge import Merged
from membership.presence import Presence
from membership.remote import RemoteMembership
from workqueue.corelink import GOSSIP_SOCKET, socket_path
from workqueue.stream import StreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from workqueue.corelink import CoreLink
    from workqueue.peers import Peers
    from workqueue.process import VoterConfig


NAME_MAX = 200  # what is silent is remembered for an hour


def monotonic_ms() -> int:
    """Return milliseconds that never go backwards."""
    return time.monotonic_ns() // 1_000_000


class Beats:
    """Takes workers' heartbeats."""

    def __init__(self, presence: Presence, core: CoreLink, peers: Peers) -> None:
        self._presence = presence
        self._core = core
        self._peers = peers
        self._led = False

    def beat(self, worker: str, boot: str, seq: int, metadata: Metadata, *, forwarded: bool = False) -> None:
        """Note a heartbeat, and pass it on to the leader unless it came from a voter.

        Raises StreamError when the leader cannot be reached from here: the worker does better at another voter.
        """
        if not (0 < len(worker) <= NAME_MAX and 0 < len(boot) <= NAME_MAX):
            raise StreamError("invalid", f"the names of a worker and its boot have 1 to {NAME_MAX} characters")
        try:
            self._presence.beat(worker, boot, seq, metadata, monotonic_ms())
        except MembershipError as error:
            raise StreamError("limit", str(error), 5_000) from error
        if forwarded or self._core.leads:
            return
        leader = self._core.state.leader
        calls = self._peers.calls(leader) if leader else None
        if calls is None:
            raise StreamError("unavailable", "this voter cannot reach the leader", 200)
        calls.notify("beat", (worker, boot, seq, metadata))

    def expect(self, worker: str, boot: str) -> None:
        """Have a registered worker beat within the time to live, also one that beat to an earlier leader only."""
        self._presence.expect(worker, boot, monotonic_ms())

    async def watch(self) -> None:
        """Hold the silent for suspect, then dead."""
        while True:
            self.look(monotonic_ms())
            await asyncio.sleep(self._presence.ttl_ms / 20_000)

    def look(self, now_ms: int) -> None:
        """Judge who is silent by now."""
        leads = self._core.leads
        if leads and not self._led:
            self._presence.grant_again(now_ms)
        self._led = leads
        if leads:
            self._presence.expire(now_ms)
        else:
            self._presence.forget_silent(now_ms)


@contextlib.asynccontextmanager
async def liveness(config: VoterConfig, core: CoreLink, peers: Peers) -> AsyncIterator[tuple[Merged, Beats]]:
    """Take part in membership while open."""
    presence = Presence(config.cluster.gossip.presence_ttl_ms)
    gossip = RemoteMembership(Path(socket_path(config.run, GOSSIP_SOCKET)))
    async with Merged(gossip, presence) as merged:
        beats = Beats(presence, core, peers)
        watching = asyncio.create_task(beats.watch())
        try:
            yield merged, beats
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
