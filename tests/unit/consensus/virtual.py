"""Voters on a virtual clock and links that keep their order: one face for a stock cluster and for one of ours."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEP_S = 0.01
NEVER = 10**9


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
