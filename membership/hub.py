"""Fans events out to subscribers through bounded queues; a slow one gets one `resync` in place of what it missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Self

from membership.api import Event

QUEUE_MAX = 1024
RESYNC = Event("resync", None)


class Subscription(AsyncIterator[Event]):
    """The events of one subscriber; ends when the membership closes."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._queue.get()
        if event is None:
            self._queue.put_nowait(None)
            raise StopAsyncIteration
        return event

    def offer(self, event: Event | None) -> None:
        """Queue an event, or on overflow forget all and queue a resync."""
        if event is not None and self._queue.qsize() >= self._hub.queue_max:
            while not self._queue.empty():
                self._queue.get_nowait()
            event = RESYNC
        self._queue.put_nowait(event)

    def close(self) -> None:
        """Stop listening."""
        self._hub.drop(self)


class Hub:
    """All subscriptions of one membership."""

    def __init__(self, queue_max: int = QUEUE_MAX) -> None:
        self.queue_max = queue_max
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    def subscribe(self) -> Subscription:
        """Open a subscription from now on."""
        subscription = Subscription(self)
        if self._closed:
            subscription.offer(None)
        else:
            self._subscriptions.add(subscription)
        return subscription

    def publish(self, event: Event) -> None:
        """Offer an event to every subscriber."""
        for subscription in self._subscriptions:
            subscription.offer(event)

    def drop(self, subscription: Subscription) -> None:
        """Forget a subscriber."""
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.offer(None)
        self._subscriptions.clear()
