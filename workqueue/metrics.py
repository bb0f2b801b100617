"""What the front counts and measures, in Prometheus' text format."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from workqueue.http.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

disable_created_metrics()  # type: ignore[no-untyped-call]  # series that say only when this process began
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """One registry a front."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._open = 0
        self.connections = Gauge("rift_stream_connections", "Open streams", registry=self.registry)
        self.calls = Histogram(
            "rift_call_seconds", "Calls of clients until answered", ["op"], buckets=_BUCKETS, registry=self.registry
        )
        self.requests = Counter(
            "rift_http_requests", "HTTP requests by route and status", ["route", "status"], registry=self.registry
        )
        self.terms = Counter("rift_leader_changes", "Terms that this front has seen begin", registry=self.registry)
        self.propose = self.calls.labels("propose")
        self.claim = self.calls.labels("claim")

    @contextlib.contextmanager
    def connection(self, limit: int) -> Iterator[None]:
        """Count a stream while it is open; raises Problem(429) beyond the limit."""
        if self._open >= limit:
            raise Problem(429, "limit", f"{limit} streams are open; try another voter", retry_ms=1_000)
        self._open += 1
        self.connections.set(self._open)
        try:
            yield
        finally:
            self._open -= 1
            self.connections.set(self._open)

    def text(self, families: Iterable[Metric]) -> bytes:
        """Return what was counted here, and other families, in the text format."""
        return generate_latest(self.registry) + generate_latest(_Given(list(families)))


class _Given:
    """As much of a registry as writing text needs."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families
