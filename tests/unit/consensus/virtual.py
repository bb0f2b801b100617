"""A stock cluster and one of ours behind one face, on a virtual clock and links that keep their order."""

from __future__ import annotations

import collections
import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pysyncobj.syncobj as library
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from consensus import NotLeader, ReplicaSettings, Unknown
from consensus import messages as m
from consensus.driver import Driver
from consensus.storage import DiskStorage, Storage

STEP_S = 0.01
NEVER = 10**9
_values = msgspec.msgpack.Decoder(tuple[int, int, list[Any]])


class Killed(BaseException):
    """The process is gone at this very instruction."""


class VirtualClock:
    """Seconds that pass when told to, and a little at each look so that loops on time end."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.look_s = 2e-6

    def monotonic(self) -> float:
        self.now += self.look_s
        return self.now

    def wall_ms(self) -> int:
        return int(self.now * 1000)


@dataclass
class Asked:
    """A client's write: what it heard, if anything."""

    value: Any
    heard: str | None = None  # done, refused, unknown
    result: object = None


class World:
    """Voters by name; subclasses say what a voter is."""

    stock: bool

    def __init__(self, names: str, folder: Path, clock: VirtualClock, **options: Any) -> None:
        self.names = list(names)
        self.folder = folder
        self.clock = clock
        self.options = options
        self.voters: dict[str, Any] = {}
        self.queues: dict[tuple[str, str], collections.deque[bytes]] = collections.defaultdict(collections.deque)
        self.cuts: set[tuple[str, str]] = set()
        self.errors: list[BaseException] = []
        for name in options.get("started", self.names):
            self.start(name)

    # ---- what a subclass knows

    def make(self, name: str) -> Any: ...

    def step(self, name: str) -> None: ...

    def receive(self, name: str, sender: str, data: bytes) -> None: ...

    def linked(self, name: str, other: str, *, up: bool) -> None: ...

    def end(self, name: str) -> None: ...

    def ask(self, name: str, value: Any) -> Asked: ...

    def leads(self, name: str) -> bool: ...

    def term(self, name: str) -> int: ...

    def values(self, name: str) -> list[Any]: ...

    def last_index(self, name: str) -> int: ...

    def take_snapshot(self, name: str) -> None: ...

    # ---- the network

    def send(self, sender: str, to: str, data: bytes) -> bool:
        if to not in self.voters or (sender, to) in self.cuts:
            return False
        self.queues[sender, to].append(data)
        return True

    def start(self, name: str) -> None:
        self.voters[name] = self.make(name)
        for other in self.voters:
            if other != name and (name, other) not in self.cuts:
                self._link(name, other, up=True)

    def kill(self, name: str) -> None:
        self.end(name)
        del self.voters[name]
        for other in self.voters:
            self._link(name, other, up=False)

    def cut(self, name: str, others: Iterable[str]) -> None:
        for other in others:
            self._link(name, other, up=False)
            self.cuts |= {(name, other), (other, name)}

    def heal(self, name: str, others: Iterable[str]) -> None:
        for other in others:
            self.cuts -= {(name, other), (other, name)}
            self._link(name, other, up=True)

    def _link(self, one: str, other: str, *, up: bool) -> None:
        for here, there in ((one, other), (other, one)):
            self.queues[here, there].clear()
            if here in self.voters:
                self.linked(here, there, up=up)

    def deliver(self, sender: str, to: str, count: int = NEVER) -> None:
        queue = self.queues[sender, to]
        while queue and count > 0 and to in self.voters:
            count -= 1
            self.receive(to, sender, queue.popleft())

    # ---- time

    def run(self, seconds: float, *, only: Iterable[str] | None = None, messages: int = NEVER) -> None:
        self.until(lambda: False, seconds, only=only, messages=messages)

    def until(
        self,
        reached: Callable[[], object],
        seconds: float = 20.0,
        *,
        only: Iterable[str] | None = None,
        messages: int = NEVER,
    ) -> bool:
        """Let time pass, at most so many messages a link and step, until a condition holds; return whether it does."""
        chosen = set(self.names if only is None else only)
        end = self.clock.now + seconds
        while not reached():
            if self.clock.now > end:
                return False
            self.clock.now += STEP_S
            for name in [n for n in self.names if n in self.voters and n in chosen]:
                self.step(name)
            for sender, to in sorted(self.queues):
                if sender in chosen and to in chosen:
                    self.deliver(sender, to, messages)
        return True

    def leader(self, only: Iterable[str] | None = None) -> str:
        """Wait for a leader that has applied all of its log; return its name."""
        chosen = [n for n in self.names if only is None or n in only]
        assert self.until(lambda: any(n in self.voters and self.leads(n) for n in chosen), only=chosen)
        self.run(0.5, only=chosen)
        return max((n for n in chosen if n in self.voters and self.leads(n)), key=self.term)

    def write(self, values: Iterable[Any], at: str, *, only: Iterable[str] | None = None) -> list[Asked]:
        """Write values at a leader, and wait until all are acknowledged."""
        asked = [self.ask(at, value) for value in values]
        assert self.until(lambda: all(a.heard for a in asked), only=only)
        assert {a.heard for a in asked} <= {"done"}
        return asked


# ---- the library as it is


class StableNode(Node):  # type: ignore[misc]
    """A node whose place in a set is the same in every run."""

    def __hash__(self) -> int:
        return int.from_bytes(self.id.encode()[:7], "big")


class _StockWire(Transport):  # type: ignore[misc]
    ready = True

    def __init__(self, world: World, name: str) -> None:
        super().__init__(None, None, None)
        self._world, self._name = world, name

    def send(self, node: Node, message: Any) -> bool:
        return self._world.send(self._name, node.id, library.pickle.dumps(message))


class StockVoter(SyncObj):  # type: ignore[misc]
    """A list of values, replicated as the library's documentation shows."""

    def __init__(self, world: World, name: str, conf: SyncObjConf) -> None:
        others = [StableNode(n) for n in world.names if n != name]
        super().__init__(StableNode(name), others, conf, nodeClass=StableNode, transport=_StockWire(world, name))
        self.log: list[Any] = []

    @replicated
    def apply(self, value: Any) -> int:
        self.log.append(value)
        return len(self.log)


class Stock(World):
    """PySyncObj as it comes, on files, with snapshots written at once instead of by a child."""

    stock = True
    voter: type[StockVoter] = StockVoter

    def make(self, name: str) -> StockVoter:
        fields: dict[str, Any] = {
            "autoTick": False,
            "useFork": False,
            "journalFile": str(self.folder / f"{name}.journal"),
            "fullDumpFile": str(self.folder / f"{name}.dump"),
            "logCompactionMinEntries": NEVER,
            "logCompactionMinTime": NEVER,
            "appendEntriesPeriod": 0.05,
        }
        return self.voter(self, name, SyncObjConf(**fields | self.options.get("stock", {})))

    def step(self, name: str) -> None:
        try:
            self.voters[name].doTick(0)
        except Exception as error:  # noqa: BLE001 - the library's own thread does the same
            self.errors.append(error)

    def receive(self, name: str, sender: str, data: bytes) -> None:
        try:
            self.inject(name, sender, library.pickle.loads(data))
        except Exception as error:  # noqa: BLE001 - as above
            self.errors.append(error)

    def inject(self, name: str, sender: str, message: dict[str, Any]) -> None:
        """Let a voter receive a message that nobody sent."""
        self.voters[name]._SyncObj__onMessageReceived(StableNode(sender), message)

    def linked(self, name: str, other: str, *, up: bool) -> None:
        wire = self.voters[name]._SyncObj__transport
        (wire._onNodeConnected if up else wire._onNodeDisconnected)(StableNode(other))

    def end(self, name: str) -> None:
        """Nothing: its journal is a memory map, which survives the process."""

    def ask(self, name: str, value: Any) -> Asked:
        asked = Asked(value)

        def heard(result: object, reason: int) -> None:
            asked.heard = "done" if reason == FAIL_REASON.SUCCESS else "refused"
            asked.result = result

        self.voters[name].apply(value, callback=heard)
        return asked

    def leads(self, name: str) -> bool:
        return bool(self.voters[name]._isLeader())

    def term(self, name: str) -> int:
        return int(self.voters[name].raftCurrentTerm)

    def values(self, name: str) -> list[Any]:
        return list(self.voters[name].log)

    def last_index(self, name: str) -> int:
        return int(self.voters[name]._SyncObj__raftLog[-1][1])

    def take_snapshot(self, name: str) -> None:
        self.voters[name].forceLogCompaction()
        self.run(2 * STEP_S)


# ---- ours


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
        driver = Driver(settings, self.machine(), storage, outbox, scheduler, self.clock, chance, self.spawn)
        driver.start()
        return driver

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
