"""Our driver on files, in a virtual world: only clock, links and children are not real."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from virtual import Asked, VirtualClock, World

from consensus import NotLeader, ReplicaSettings, Unknown
from consensus import messages as m
from consensus.driver import Driver
from consensus.storage import DiskStorage, Storage

_values = msgspec.msgpack.Decoder(tuple[int, int, list[Any]])


class Values:
    """The same list of values, as a state machine of ours."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def apply(self, entry: bytes) -> Sequence[object]:
        version, _now_ms, commands = _values.decode(entry)
        if version != 1:
            return ["version"] * len(commands)
        outcomes = []
        for command in commands:
            self.log.append(command)
            outcomes.append(len(self.log))
        return outcomes

    def snapshot(self) -> Iterable[bytes]:
        yield msgspec.msgpack.encode(self.log)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.log = msgspec.msgpack.decode(b"".join(chunks))

    def digest(self) -> bytes:
        return len(self.log).to_bytes(8, "big")


class _Timer:
    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None


class VirtualScheduler:
    """Callbacks of one process, in order of time; an error in one is noted, as asyncio does."""

    def __init__(self, clock: VirtualClock, errors: list[BaseException]) -> None:
        self._clock, self._errors = clock, errors
        self._due: list[tuple[float, int, _Timer]] = []
        self._number = 0

    def call_soon(self, callback: Callable[..., object], *args: Any) -> _Timer:
        return self.call_later(0.0, callback, *args)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> _Timer:
        timer = _Timer(callback, args)
        self._number += 1
        heapq.heappush(self._due, (self._clock.now + delay, self._number, timer))
        return timer

    def run(self) -> None:
        now = self._clock.now
        while self._due and self._due[0][0] <= now:
            timer = heapq.heappop(self._due)[2]
            if timer.callback is not None:
                try:
                    timer.callback(*timer.args)
                except Exception as error:  # noqa: BLE001 - as an event loop does
                    self._errors.append(error)


class _Outbox:
    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name

    def send(self, node_id: str, data: bytes) -> bool:
        return self._world.send(self._name, node_id, data)

    def backlog(self, node_id: str) -> int | None:
        there = node_id in self._world.voters and (self._name, node_id) not in self._world.cuts
        return 0 if there else None


class OurChild:
    """Does a snapshot's work at once; its parent notices when the world lets it."""

    def __init__(self, world: Ours, work: Callable[[], None]) -> None:
        self._world = world
        work()

    def poll(self) -> bool | None:
        return None if self._world.children_unnoticed else True

    def kill(self) -> None:
        """It has ended already."""


class Ours(World):
    """Our driver on real files; only clock, links and children are virtual."""

    stock = False
    machine: type[Values] = Values
    storage: Callable[[Path], Storage] = DiskStorage

    def __init__(self, names: str, folder: Path, clock: VirtualClock, **options: Any) -> None:
        self.children_unnoticed = False
        self.schedulers: dict[str, VirtualScheduler] = {}
        self.spawn: Callable[[Callable[[], None]], Any] = lambda work: OurChild(self, work)
        super().__init__(names, folder, clock, **options)

    def make(self, name: str) -> Driver:
        peers = {n: f"127.0.0.1:{at}" for at, n in enumerate(self.names) if n != name}
        fields: dict[str, Any] = {"digest_every": 0, "trailing_entries": 0} | self.options.get("ours", {})
        settings = ReplicaSettings(
            node_id=name, address="127.0.0.1:9", peers=peers, data_dir=self.folder / name, cluster_id="test", **fields
        )
        self.schedulers[name] = scheduler = VirtualScheduler(self.clock, self.errors)
        storage = type(self).storage(settings.data_dir)
        chance = random.Random(ord(name[0]))
        outbox = _Outbox(self, name)
        driver = Driver(settings, self.machine(), storage, outbox, scheduler, self.clock, chance, self.child)
        driver.start()
        return driver

    def child(self, work: Callable[[], None]) -> Any:
        return self.spawn(work)

    def step(self, name: str) -> None:
        self.schedulers[name].run()

    def receive(self, name: str, sender: str, data: bytes) -> None:
        self.inject(name, sender, m.decode(data))

    def inject(self, name: str, sender: str, message: m.Message) -> None:
        """Let a voter receive a message that nobody sent."""
        self.voters[name].receive(sender, message)
        self.step(name)

    def linked(self, name: str, other: str, *, up: bool) -> None:
        driver = self.voters[name]
        (driver.connected if up else driver.disconnected)(other)

    def end(self, name: str) -> None:
        self.voters[name].raft.journal.close()

    def ask(self, name: str, value: Any) -> Asked:
        asked = Asked(value)

        def heard(outcomes: Sequence[object] | None, error: Exception | None) -> None:
            match error:
                case None:
                    asked.heard, asked.result = "done", (outcomes or [None])[0]
                case Unknown():
                    asked.heard = "unknown"
                case _:
                    asked.heard = "refused"
                    assert isinstance(error, NotLeader)

        self.voters[name].propose_nowait([msgspec.msgpack.encode(value)], heard)
        return asked

    def leads(self, name: str) -> bool:
        return bool(self.voters[name].role().is_leader)

    def term(self, name: str) -> int:
        return int(self.voters[name].raft.term)

    def values(self, name: str) -> list[Any]:
        return list(self.voters[name].machine.log)

    def last_index(self, name: str) -> int:
        return int(self.voters[name].raft.journal.last_index)

    def take_snapshot(self, name: str) -> None:
        self.voters[name].snapshot_nowait(lambda _ok: None)
        self.run(0.2)
