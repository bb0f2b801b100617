"""The way of a call to the leader's core: by the own core when this voter leads, else by the leader's front.

A call waits a moment for a leader to appear. It is sent again after any failure, which is safe because requests carry
their ids; when it may have been sent and no answer came in time, its caller learns `unknown`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from workqueue.stream import Calls, OnReply, StreamError, error_of, settling

if TYPE_CHECKING:
    from collections.abc import Callable

    from workqueue.corelink import CoreLink
    from workqueue.peers import Peers

HOLD_S = 3.0  # a call waits this long for a leader
_AGAIN = frozenset({"not_leader", "closed", "unavailable", "unknown"})
_PAUSE_S = 0.02
_RETRY_MS = 500
_encode = msgspec.msgpack.Encoder().encode


class Routed:
    """A call on its way."""

    __slots__ = ("_at", "_body", "_deadline", "_local", "_on_reply", "_op", "_router", "_sent", "done")

    def __init__(self, router: Router, op: str, body: object, on_reply: OnReply, *, hold_s: float) -> None:
        self._router = router
        self._op = op
        self._body = body
        self._on_reply = on_reply
        self._deadline = router.loop.time() + hold_s
        self._local = hold_s == 0.0
        self._sent = False
        self.done = False
        self._at: tuple[Calls, int] | None = None

    def attempt(self) -> None:
        """Send the call to the leader, or wait for one."""
        if self.done:
            return
        calls = self._router.core_calls if self._local else self._router.leader_calls()
        if calls is None:
            self._again("unavailable", "no leader is known; the cluster has no majority or is electing")
            return
        self._at = (calls, calls.send(self._op, self._body, self._replied))

    def abandon(self) -> None:
        """The caller is gone: a parked claim need not wait for it."""
        self.done = True
        if self._at:
            calls, call_id = self._at
            calls.notify("drop", call_id)

    def _replied(self, answer: str, body: msgspec.Raw) -> None:
        if self.done:
            return
        if answer == "ok":
            self._finish(answer, body)
            return
        error = error_of(body)
        if error.code in _AGAIN and not self._local:
            self._sent = self._sent or error.code in {"closed", "unknown"}
            self._again(error.code, str(error))
        else:
            self._finish(answer, body)

    def _again(self, code: str, reason: str) -> None:
        if self._router.loop.time() < self._deadline:
            self._router.soon(self.attempt)
            return
        final = "unknown" if self._sent else "unavailable"
        self._finish("error", msgspec.Raw(_encode(StreamError(final, f"{reason} ({code})", _RETRY_MS).body)))

    def _finish(self, answer: str, body: msgspec.Raw) -> None:
        self.done = True
        self._on_reply(answer, body)


class Router:
    """Finds the leader for calls."""

    def __init__(self, core: CoreLink, peers: Peers, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self.loop = asyncio.get_running_loop()
        self._core = core
        self._peers = peers

    def send(self, op: str, body: object, on_reply: OnReply) -> Routed:
        """Send a call whose answer is handed to a function, exactly once."""
        routed = Routed(self, op, body, on_reply, hold_s=self._hold_s)
        routed.attempt()
        return routed

    def send_local(self, op: str, body: object, on_reply: OnReply) -> Routed:
        """Send a call that another voter forwarded to the own core; it is answered, or refused at once."""
        routed = Routed(self, op, body, on_reply, hold_s=0.0)
        routed.attempt()
        return routed

    async def call(self, op: str, body: object = None) -> msgspec.Raw:
        """Send a call and wait for its answer; raises StreamError."""
        future: asyncio.Future[msgspec.Raw] = self.loop.create_future()
        routed = self.send(op, body, settling(future))
        try:
            return await future
        except asyncio.CancelledError:
            routed.abandon()
            raise

    @property
    def core_calls(self) -> Calls:
        """The own core, whether it leads or not."""
        return self._core.calls

    def leader_calls(self) -> Calls | None:
        """Where to send what only the leader can do; None while no leader can be reached."""
        state = self._core.state
        if state.role == "leader":
            return self._core.calls
        return self._peers.calls(state.leader) if state.leader else None

    def soon(self, attempt: Callable[[], None]) -> None:
        """Try again in a moment."""
        self.loop.call_later(_PAUSE_S, attempt)
