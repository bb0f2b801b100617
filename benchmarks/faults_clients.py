"""Clients of a fault run: each does one operation after the other and records what it asked and heard.

A client that hears nothing asks again under the same request number, at any voter, until it gives up; it then goes
on under another name, and its operation counts as unanswered. Only operations that every voter asked certainly
refused are left out of the history.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.faults_machine import Request
from benchmarks.faults_voter import frame, read_frame
from benchmarks.histories import Op

ANSWER_S = 1.0  # after which a voter is thought dead
PATIENCE_S = 6.0  # after which an operation is given up
GENERATION_S = 4.0  # after which other keys are used, so that no key's history grows too long to judge
KINDS = {"r": ("put", "get", "look", "swap"), "c": ("add", "add", "get", "look"), "l": ("append", "append", "look")}


class Link:
    """A connection to one voter's socket, made when needed; whatever goes wrong on it closes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, what: str, body: Any, seconds: float = ANSWER_S) -> tuple[str, Any]:
        """Return ("ok" | "fail" | "unknown", result); "fail" if the voter certainly got nothing."""
        sent = False
        try:
            async with asyncio.timeout(seconds):
                reader, writer = self._streams or await asyncio.open_unix_connection(self._path)
                self._streams = reader, writer
                self._number += 1
                sent = True
                writer.write(frame([self._number, what, body]))
                while True:
                    number, outcome, result = await read_frame(reader)
                    if number == self._number:
                        return outcome, result
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.close()
            return ("unknown" if sent else "fail"), None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Client:
    """One client."""

    def __init__(self, name: str, sockets: dict[str, Path], log: Log, chance: random.Random) -> None:
        self._name, self._life, self._number = name, 0, 0
        self._links = {voter: Link(path) for voter, path in sockets.items()}
        self._leader = chance.choice(list(sockets))
        self._log, self._chance = log, chance
        self._last_value: str | None = None

    async def run(self, pause_s: float) -> None:
        try:
            while True:
                await self._operation()
                await asyncio.sleep(self._chance.random() * 2 * pause_s)
        finally:
            for link in self._links.values():
                link.close()

    async def _operation(self) -> None:
        key, kind, argument = self._choose()
        self._number += 1
        request = Request(f"{self._name}.{self._life}", self._number, key, kind, argument)
        called = time.monotonic()
        outcome, result = "unknown", None
        try:
            outcome, result = await self._insist(request, called)
        finally:
            returned = time.monotonic() if outcome == "ok" else math.inf
            result = tuple(result) if isinstance(result, list) else result
            kind = "get" if kind == "look" else kind
            op = Op(f"{self._name}.{self._life}", key, kind, argument, result, called, returned)
            self._log.add(op, certainly_not=outcome == "fail")
            if outcome == "unknown":
                self._life, self._number = self._life + 1, 0

    def _choose(self) -> tuple[str, str, Any]:
        chance = self._chance
        generation = int((time.monotonic() - self._log.started) / GENERATION_S)
        sort = chance.choice("rcl")
        kind = chance.choice(KINDS[sort])
        value = f"{self._name}-{self._life}-{self._number}"
        match kind:
            case "put":
                self._last_value = value
                argument: Any = value
            case "swap":
                argument = (self._last_value, value)
            case "add":
                argument = chance.randint(1, 9)
            case "append":
                argument = value
            case _:
                argument = None
        return f"{sort}{chance.randrange(2)}-{generation}", kind, argument

    async def _insist(self, request: Request, since: float) -> tuple[str, Any]:
        what, body = ("look", request.key) if request.kind == "look" else ("do", msgspec.msgpack.encode(request))
        maybe = False
        if request.kind == "look" and self._chance.random() < 0.3:  # who does not lead must say so
            self._leader = self._chance.choice(list(self._links))
        while time.monotonic() - since < PATIENCE_S:
            outcome, result = await self._links[self._leader].ask(what, body)
            if outcome == "ok":
                return outcome, result
            maybe = maybe or outcome == "unknown"
            if outcome == "fail" and result in self._links:
                self._leader = result
                await asyncio.sleep(0.002)
            else:
                self._leader = self._chance.choice(list(self._links))
                await asyncio.sleep(0.02)
        return ("unknown" if maybe else "fail"), None


class Log:
    """The history as it is made, and how many operations were acknowledged, unanswered and refused."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.history: list[Op] = []
        self.refused = 0

    def add(self, op: Op, *, certainly_not: bool) -> None:
        if certainly_not:
            self.refused += 1
        else:
            self.history.append(op)

    @property
    def acknowledged(self) -> int:
        return sum(op.answered for op in self.history)


@contextlib.asynccontextmanager
async def clients(sockets: dict[str, Path], log: Log, *, count: int = 8, pause_s: float = 0.015, seed: int = 1) -> Any:
    """Run clients while open."""
    made = [Client(f"c{k}", sockets, log, random.Random(seed * 1000 + k)) for k in range(count)]
    tasks = [asyncio.create_task(client.run(pause_s)) for client in made]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        mistakes = [e for e in ended if isinstance(e, Exception) and not isinstance(e, asyncio.CancelledError)]
        if mistakes:
            raise mistakes[0]
