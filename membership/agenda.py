"""What is to be done at which moment, for a core that has no clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TypeAlias

Task: TypeAlias = Callable[[], None]


class Agenda:
    """Tasks by due time; equal times run in the order of entry."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Task]] = []
        self._entered = 0

    @property
    def due_ms(self) -> int | None:
        """The earliest due time."""
        return self._heap[0][0] if self._heap else None

    def at(self, due_ms: int, task: Task) -> None:
        """Enter a task."""
        self._entered += 1
        heapq.heappush(self._heap, (due_ms, self._entered, task))

    def pop(self, now_ms: int) -> Task | None:
        """Take the next task that is due."""
        if self._heap and self._heap[0][0] <= now_ms:
            return heapq.heappop(self._heap)[2]
        return None
