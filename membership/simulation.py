"""Many members in one process on a virtual clock: the protocol core as it is, the network and all chance from a seed.

world = World(count=1000, seed=1, loss=0.1)
world.run(30_000)
world.kill(7)
world.run_until(lambda: world.knows("dead", 7) == 999, limit_ms=20_000)
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

import msgspec

from membership.api import EventKind
from membership.core import Core
from membership.local import Action, Notify, Send
from membership.messages import Ack, Alive, Envelope, encode, split_address
from membership.settings import Timing
from membership.swim import Roster, record_of

PACKET_OVERHEAD_BYTES = 95  # seal 53, UDP and IP 28, Ethernet 14
_INBOX_MAX = 500  # packets that a sleeping member's socket keeps
_RESEND_MS = 1000  # of a lost connection attempt


class Seen(msgspec.Struct, frozen=True):
    """One event at one observer."""

    at_ms: int
    observer: int
    kind: EventKind
    subject: int
    boot_id: str


class _Node:
    def __init__(self, core: Core) -> None:
        self.core = core
        self.up = True
        self.asleep = False
        self.boot = 1
        self.inbox: list[tuple[Envelope, int]] = []
        self.sent_bytes = 0
        self.sent_packets = 0


class World:
    """A network of `count` members that know each other, or that join by the first three when `cold`."""

    def __init__(
        self,
        count: int,
        seed: int,
        *,
        loss: float = 0.0,
        timing: Timing | None = None,
        latency_ms: tuple[int, int] = (1, 5),
        cold: bool = False,
    ) -> None:
        self.random = Random(seed)  # noqa: S311 - reproducible by its seed
        self.timing = timing or Timing()
        self.loss = loss
        self.latency_ms = latency_ms
        self.now_ms = 0
        self.seen: list[Seen] = []
        self.counts: Counter[tuple[EventKind, int]] = Counter()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._entered = 0
        self._sides: dict[int, int] = {}  # during a partition
        self._seeds = [_address(i) for i in range(min(3, count))] if cold else []
        below = None if cold else _frozen_view(count)
        self._nodes = [_Node(self._core(i, 1, below)) for i in range(count)]
        for i, node in enumerate(self._nodes):
            self._carry_out(i, node.core.start(0))

    def run(self, duration_ms: int) -> None:
        """Let virtual time pass."""
        end_ms = self.now_ms + duration_ms
        while self._events and self._events[0][0] <= end_ms:
            self.now_ms, _, task = heapq.heappop(self._events)
            task()
        self.now_ms = end_ms

    def run_until(self, reached: Callable[[], bool], limit_ms: int, step_ms: int = 10) -> int | None:
        """Let time pass until a condition holds; return how long it took, None when it did not within the limit."""
        started_ms = self.now_ms
        while not reached():
            if self.now_ms - started_ms >= limit_ms:
                return None
            self.run(step_ms)
        return self.now_ms - started_ms

    def kill(self, index: int) -> None:
        """End a member without a farewell."""
        self._nodes[index].up = False

    def restart(self, index: int, *, seeds: Iterable[int] = (0, 1, 2)) -> None:
        """Start a new boot of a member at the same address."""
        former = self._nodes[index]
        node = self._nodes[index] = _Node(
            self._core(index, former.boot + 1, None, seeds=[_address(seed) for seed in seeds])
        )
        node.boot, node.sent_bytes, node.sent_packets = former.boot + 1, former.sent_bytes, former.sent_packets
        self._carry_out(index, node.core.start(self.now_ms))

    def sleep(self, index: int) -> None:
        """Stop a member's process; its socket still fills."""
        self._nodes[index].asleep = True

    def wake(self, index: int) -> None:
        """Continue a stopped process."""
        node = self._nodes[index]
        node.asleep = False
        inbox, node.inbox = node.inbox, []
        for envelope, source in inbox:
            self._carry_out(index, node.core.receive(envelope, _address(source), self.now_ms))
        self._carry_out(index, node.core.tick(self.now_ms))

    def leave(self, index: int) -> None:
        """Let a member say farewell and end."""
        node = self._nodes[index]
        self._carry_out(index, node.core.leave(self.now_ms))
        self._at(self.now_ms + self.timing.linger_ms, lambda: self.kill(index))

    def part(self, *groups: Iterable[int]) -> None:
        """Let no packet pass between groups; no group heals."""
        self._sides = {index: side for side, group in enumerate(groups) for index in group}

    def core(self, index: int) -> Core:
        """Return a member's protocol."""
        return self._nodes[index].core

    def inject(self, index: int, envelope: Envelope, source: int) -> None:
        """Deliver a message of the caller's making."""
        self._carry_out(index, self._nodes[index].core.receive(envelope, _address(source), self.now_ms))

    def knows(self, kind: EventKind, subject: int) -> int:
        """Return how many events of a kind about a member there were."""
        return self.counts[(kind, subject)]

    def sent(self) -> tuple[int, int]:
        """Return bytes and packets sent by all members so far, seal and headers included."""
        return sum(node.sent_bytes for node in self._nodes), sum(node.sent_packets for node in self._nodes)

    def holding(self, state: str) -> int:
        """Return how many running observers hold how many running others in a state: the number of such pairs."""
        running = {_name(i) for i, node in enumerate(self._nodes) if node.up}
        return sum(
            member.state == state and member.id in running and member.id != _name(i)
            for i, node in enumerate(self._nodes)
            if node.up
            for member in node.core.members()
        )

    def _core(self, index: int, boot: int, below: Roster | None, seeds: list[str] | None = None) -> Core:
        me = _alive(index, boot, incarnation=boot * 1_000_000)
        random = Random(self.random.getrandbits(64))  # noqa: S311 - as above
        return Core(me, self._seeds if seeds is None else seeds, self.timing, random, self.now_ms, below=below)

    def _at(self, due_ms: int, task: Callable[[], None]) -> None:
        self._entered += 1
        heapq.heappush(self._events, (due_ms, self._entered, task))

    def _carry_out(self, index: int, actions: list[Action]) -> None:
        node = self._nodes[index]
        for action in actions:
            if isinstance(action, Notify):
                self._record(index, action)
                continue
            size_bytes = len(encode(action.envelope)) + PACKET_OVERHEAD_BYTES
            node.sent_bytes += size_bytes
            node.sent_packets += 1
            target = split_address(action.address)[1]
            reliable = not isinstance(action, Send)
            self._transmit(index, target, action.envelope, reliable=reliable)
        self._schedule(index)

    def _record(self, index: int, notice: Notify) -> None:
        subject = int(notice.member.id[1:])
        self.seen.append(Seen(self.now_ms, index, notice.kind, subject, notice.member.boot_id))
        self.counts[(notice.kind, subject)] += 1

    def _schedule(self, index: int) -> None:
        node = self._nodes[index]
        due_ms = node.core.due_ms
        if due_ms is None or not node.up:
            return

        def tick() -> None:
            current = self._nodes[index]
            due = current.core.due_ms
            if current is node and node.up and not node.asleep and due is not None and due <= self.now_ms:
                self._carry_out(index, node.core.tick(self.now_ms))

        self._at(max(due_ms, self.now_ms), tick)

    def _transmit(self, source: int, target: int, envelope: Envelope, *, reliable: bool) -> None:
        delay_ms = self.random.randint(*self.latency_ms)
        if self._sides and self._sides.get(source) != self._sides.get(target):
            return
        if reliable:
            delay_ms *= 3  # the handshake before the data
            while self.random.random() < 1 - (1 - self.loss) ** 3:
                delay_ms += _RESEND_MS
        elif self.random.random() < self.loss:
            return
        self._at(self.now_ms + delay_ms, lambda: self._deliver(source, target, envelope, reliable=reliable))

    def _deliver(self, source: int, target: int, envelope: Envelope, *, reliable: bool) -> None:
        node = self._nodes[target]
        if not node.up:
            return
        if node.asleep:
            if len(node.inbox) < _INBOX_MAX:
                node.inbox.append((envelope, source))
            return
        actions = node.core.receive(envelope, _address(source), self.now_ms)
        if reliable:  # the answer goes back on the same connection
            answers = [a for a in actions if isinstance(a, Send) and isinstance(a.envelope.message, Ack)]
            for answer in answers:
                self._transmit(target, source, answer.envelope, reliable=True)
            actions = [action for action in actions if action not in answers]
        self._carry_out(target, actions)


def _address(index: int) -> str:
    return f"simulated:{index}"


def _name(index: int) -> str:
    return f"m{index}"


def _alive(index: int, boot: int, incarnation: int) -> Alive:
    return Alive(_name(index), f"boot-{boot}", incarnation, "worker", _address(index), {"device": "H100", "count": 8})


def _frozen_view(count: int) -> Roster:
    view = Roster(record_of(_alive(0, 1, 1_000_000), 0))
    for index in range(1, count):
        view.put(record_of(_alive(index, 1, 1_000_000), 0))
    return view
