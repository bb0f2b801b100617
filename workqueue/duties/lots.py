"""Which completed jobs are checked again: every one that promotions rest on, each worker's first, and a share by lot.

Reads the events, so that none is missed however many complete between two looks. What is remembered here a new leader
draws again, alike, from the events that are kept.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from workqueue.duties import trust
from workqueue.machine.views import Event

DECISIVE = ("gauntlet", "evaluate")  # promotions rest on them: every one is checked
CHECKED = ("selfplay", "tournament", *DECISIVE)
CLAIMED_MAX = 20_000  # jobs whose worker is remembered


class Drawn(msgspec.Struct, frozen=True):
    """A completed job that is to be checked."""

    job: str
    kind: str
    must: bool = True  # whatever else waits for its check; by lot only otherwise
    makers: tuple[str, ...] = ()  # who claimed it, attempt by attempt, as far as the events tell


class Lots:
    """Follows the events in order."""

    def __init__(self) -> None:
        self.seq = 0  # of the last event that was seen
        self._claimed: dict[str, tuple[str, ...]] = {}  # running job -> the workers of its attempts
        self._known: set[tuple[str, str]] = set()  # (worker, kind) with a first result

    def draw(self, events: Iterable[Event], share_milli: int) -> list[Drawn]:
        """Return what is to be checked of the jobs that these events complete."""
        drawn = []
        for event in events:
            self.seq = event.seq
            kind = str(event.detail.get("kind", ""))
            if event.name == "job.claimed" and kind in CHECKED:
                worker = str(event.detail.get("worker", ""))
                self._claimed[event.subject] = (*self._claimed.get(event.subject, ()), worker)
            elif event.name == "job.completed" and kind in CHECKED:
                makers = self._claimed.pop(event.subject, ())
                first = any((worker, kind) not in self._known for worker in makers[-1:])
                self._known.update((worker, kind) for worker in makers[-1:])
                # Who works cannot know the lot: it needs the time at which the leader has the result.
                by_lot = trust.chance_milli(trust.lot_of(event.subject, event.at_ms)) < share_milli
                must = first or kind in DECISIVE
                if must or by_lot:
                    drawn.append(Drawn(event.subject, kind, must, makers))
        while len(self._claimed) > CLAIMED_MAX:
            self._claimed.pop(next(iter(self._claimed)))
        return drawn
