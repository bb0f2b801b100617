"""A scheduler that runs what is due when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Call:
    """A callback to come."""

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.run = lambda: callback(*args)
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Soon:
    """Callbacks in the order in which they were asked for, whatever their delay."""

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def call_soon(self, callback: Callable[..., object], *args: Any) -> Call:
        return self.call_later(0.0, callback, *args)

    def call_later(self, _delay: float, callback: Callable[..., object], *args: Any) -> Call:
        self._calls.append(Call(callback, args))
        return self._calls[-1]

    def run(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            if not call.cancelled:
                call.run()
