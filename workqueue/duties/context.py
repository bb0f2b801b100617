"""What a leader's duty may use: fresh views, guarded commands, hints of membership."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from config.cluster import ClusterSettings
    from workqueue.http.context import FrontContext
    from workqueue.machine.commands import AnyCommand
    from workqueue.machine.outcomes import AnyOutcome
    from workqueue.replication import CoreState

T = TypeVar("T")


class Duty(Protocol):
    """A reconciler: reads the state, proposes guarded commands, keeps nothing between two runs."""

    @property
    def name(self) -> str:
        """Name it in logs; its commands have the actor `duty:<name>`."""
        ...

    @property
    def period_s(self) -> float:
        """Seconds between the end of a run and the next."""
        ...

    async def run(self, context: DutyContext) -> None:
        """Look once and propose what is missing."""
        ...


class DutyContext:
    """One duty's view of the cluster while its voter leads."""

    def __init__(self, front: FrontContext, name: str, now_ms: Callable[[], int]) -> None:
        self._front = front
        self._actor = f"duty:{name}"
        self.now_ms = now_ms

    @property
    def settings(self) -> ClusterSettings:
        """`cluster.yaml`; what is replicated is read by `query("settings")`."""
        return self._front.settings

    @property
    def folder(self) -> Path:
        """The cluster's folder, where loop.yaml is."""
        return self._front.folder

    @property
    def data_dir(self) -> Path:
        """The voter's data folder."""
        return self._front.data_dir

    @property
    def voter_id(self) -> str:
        """This voter, which leads."""
        return self._front.voter_id

    @property
    def core(self) -> CoreState:
        """Where the core stands."""
        return self._front.core.state

    @property
    def membership(self) -> Any:
        """`membership.api.Membership`, or None where no gossip runs."""
        return self._front.membership

    @property
    def store(self) -> Any:
        """The artifact store, or None."""
        return self._front.store

    @property
    def front(self) -> FrontContext:
        """The front's context, for duties that talk to other voters."""
        return self._front

    async def query(self, name: str, /, **args: object) -> Any:
        """Return a view as of now, as plain maps and lists; raises StreamError when leadership is lost."""
        return msgspec.msgpack.decode((await self._front.leader.query(name, args)).value)

    async def query_as(self, kind: type[T], name: str, /, **args: object) -> T:
        """As `query`, checked and decoded as `kind`."""
        return msgspec.msgpack.decode((await self._front.leader.query(name, args)).value, type=kind)

    async def find(self, name: str, /, **args: object) -> Any:
        """As `query`, None when there is no such thing."""
        return await self._front.query(name, **args)

    async def events(self, since: int, limit: int) -> tuple[int, list[Any]]:
        """Return (number of the last event, events after `since`) that the own core keeps, as plain maps."""
        seq, events = msgspec.msgpack.decode(await self._front.core.call("events", (since, limit, 0)))
        return int(seq), list(events)

    async def propose(self, *commands: AnyCommand) -> list[AnyOutcome]:
        """Propose commands in the duty's name; raises StreamError when leadership is lost."""
        return await self._front.leader.propose(*commands, actor=self._actor)
