"""Gossip over sealed UDP in the calling event loop: the driver of the protocol core."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from random import Random, SystemRandom
from types import TracebackType
from typing import Self, assert_never

from membership.api import Event, Member, MembershipError, State, Value, select
from membership.core import Core
from membership.hub import Hub, Subscription
from membership.keys import Keyring, read_key
from membership.local import Action, Notify, Send, Stream
from membership.messages import Ack, Alive, Envelope, Ping, decode, split_address
from membership.sealing import Sealer
from membership.settings import GossipSettings
from membership.transport import Datagrams, wall_ms


def monotonic_ms() -> int:
    """Return the monotonic clock."""
    return time.monotonic_ns() // 1_000_000


class Gossip:
    """A member of the gossip pool; see `membership.api.Membership`."""

    def __init__(self, settings: GossipSettings, *, clock: Callable[[], int] = monotonic_ms) -> None:
        self._settings = settings
        self._clock = clock
        self._keyring = Keyring()
        self._sealer = Sealer(self._keyring, settings.cluster)
        self._datagrams = Datagrams(self._sealer)
        self._hub = Hub()
        self._core: Core | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._random: Random = SystemRandom()

    @property
    def address(self) -> str:
        """The address that the others reach this member at."""
        host, port = split_address(self._settings.advertise or self._settings.bind)
        return f"{host}:{port or self._datagrams.port}"

    @property
    def counters(self) -> dict[str, int]:
        """Packets sent, and packets dropped by cause."""
        protocol = {} if self._core is None else {"health": self._core.health, **self._core.counters}
        return {**self._datagrams.counters, **self._sealer.counters, **protocol}

    async def __aenter__(self) -> Self:
        for file in self._settings.key_files:
            self._keyring.install(Path(file).stem, read_key(file))
        _ = self._keyring.primary  # refuses to start without a key
        await self._datagrams.bind(split_address(self._settings.bind))
        settings = self._settings
        me = Alive(
            settings.node_id,
            settings.boot_id,
            wall_ms(),  # above any incarnation of an earlier boot
            settings.role,
            self.address,
            settings.metadata,
        )
        now_ms = self._clock()
        self._core = Core(me, settings.seeds, settings.timing, self._random, now_ms)
        await self._datagrams.start_receiver(self._receive)
        self._datagrams.respond_with(self._respond)
        self._carry_out(self._core.start(now_ms))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._core = None, self._core
        self._hub.close()
        await self._datagrams.close()

    def members(self, role: str | None = None, state: State | None = None) -> list[Member]:
        """Return the known members, this one included."""
        return select(self._running.members(), role, state)

    def get(self, id: str) -> Member | None:
        """Return the newest boot of a node."""
        return self._running.get(id)

    def events(self) -> Subscription:
        """Subscribe from now on."""
        return self._hub.subscribe()

    async def set_metadata(self, **values: Value) -> None:
        """Change own metadata."""
        self._carry_out(self._running.set_metadata(values, self._clock()))

    async def leave(self) -> None:
        """Say farewell, and answer for a moment so that the others can make sure."""
        self._carry_out(self._running.leave(self._clock()))
        await asyncio.sleep(self._settings.timing.linger_ms / 1000)

    def hint_suspect(self, id: str, reason: str) -> None:
        """Probe a member now; the reason is for those who read a log of hints."""
        del reason
        self._carry_out(self._running.hint(id, self._clock()))

    async def install_key(self, key_id: str, key: Path | str | bytes) -> None:
        """Accept packets under one more key."""
        self._keyring.install(key_id, read_key(key))

    async def use_key(self, key_id: str) -> None:
        """Seal own packets with an installed key."""
        self._keyring.use(key_id)

    async def remove_key(self, key_id: str) -> None:
        """Refuse packets under a key."""
        self._keyring.remove(key_id)
        self._sealer.forget_removed()

    @property
    def _running(self) -> Core:
        if self._core is None:
            raise MembershipError("Gossip has not been started; enter it with `async with`.")
        return self._core

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(address=address, envelope=envelope):
                    self._datagrams.post(address, envelope)
                case Stream(address=address, envelope=envelope):
                    self._datagrams.dial(address, envelope, self._take)
                case Notify(kind=kind, member=member):
                    self._hub.publish(Event(kind, member))
                case _:
                    assert_never(action)
        self._set_timer()

    def _set_timer(self) -> None:
        due_ms = self._running.due_ms
        if self._timer is not None:
            self._timer.cancel()
        if due_ms is not None:
            delay_s = max(0.0, (due_ms - self._clock()) / 1000)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._carry_out(self._running.tick(self._clock()))

    def _receive(self, payload: bytes, source: tuple[str, int]) -> None:
        try:
            envelope = decode(payload)
        except ValueError:
            self._datagrams.counters["undecodable"] += 1
            return
        self._take(envelope, f"{source[0]}:{source[1]}")

    def _take(self, envelope: Envelope, source: str) -> None:
        self._carry_out(self._running.receive(envelope, source, self._clock()))

    def _respond(self, envelope: Envelope, source: str) -> Envelope | None:
        """Answer a challenge that came by connection: the core's answer goes back on it, not to `source`."""
        actions = self._running.receive(envelope, source, self._clock())
        answer: Envelope | None = None
        rest: list[Action] = []
        for action in actions:
            if isinstance(action, Send) and isinstance(action.envelope.message, Ack):
                answer = action.envelope
            elif not (isinstance(action, Send) and action.address == source):
                rest.append(action)
        self._carry_out(rest)
        return answer if isinstance(envelope.message, Ping) else None


__all__ = ["Gossip", "monotonic_ms"]
