"""Requests travel together, whole and in order, within bounds, and everyone is answered once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import pytest

from consensus import NotLeader, Overloaded, ReplicaSettings
from consensus.entry import Stamp, entry_head
from consensus.errors import ConsensusError
from consensus.group_commit import GroupCommit
from consensus.ports import Done
from tests.unit.consensus.soon import Soon


class Clocks:
    """Time that stands still."""

    def monotonic(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return 1000


class Log:
    """What was proposed, by a leader of which the test decides the fate."""

    def __init__(self) -> None:
        self.is_leader = True
        self.term = 1
        self.ahead: list[int] = []
        self.entries: list[tuple[bytes, Done]] = []

    def propose(self, entry: bytes, done: Done) -> None:
        self.entries.append((entry, done))

    def times_ahead(self) -> Iterable[int]:
        return self.ahead

    def commands(self) -> list[list[object]]:
        return [msgspec.msgpack.decode(entry)[2] for entry, _ in self.entries]


class Callers:
    """Who was told what."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[object] | None, str]] = []

    def __call__(self, name: str) -> Callable[[Sequence[object] | None, ConsensusError | None], None]:
        def answer(outcomes: Sequence[object] | None, error: ConsensusError | None) -> None:
            self.told.append((name, None if outcomes is None else list(outcomes), type(error).__name__))

        return answer


def made(**changes: int) -> tuple[GroupCommit, Log, Soon, Callers]:
    settings = ReplicaSettings(
        node_id="a", address="localhost:1", peers={}, data_dir=Path("unused"), cluster_id="c", **changes
    )  # type: ignore[arg-type]
    log, soon = Log(), Soon()
    return GroupCommit(settings, log, Stamp(Clocks()), soon), log, soon, Callers()


def test_what_gathers_while_entries_are_in_flight_travels_in_the_next() -> None:
    """Each caller gets the outcomes of its own commands, from the loop."""
    group, log, soon, callers = made(inflight=1)
    for name, commands in (("a", [b"\x01"]), ("b", [b"\x02", b"\x03"]), ("c", [b"\x04"])):
        assert group.add(commands, callers(name)) is None
        group.launch()
    assert log.commands() == [[1]]
    log.entries[0][1](["one"])
    group.launch()
    assert log.commands() == [[1], [2, 3, 4]]
    assert (group.inflight, group.pending_commands) == (1, 0)
    log.entries[1][1](["two", "three", "four"])
    assert callers.told == []
    soon.run()
    assert callers.told == [
        ("a", ["one"], "NoneType"),
        ("b", ["two", "three"], "NoneType"),
        ("c", ["four"], "NoneType"),
    ]


def test_a_batch_ends_at_its_bounds_between_requests() -> None:
    """A request is never divided among entries, and one that is larger than a batch travels alone."""
    group, log, _, callers = made(inflight=9, max_batch_commands=3)
    for size in (2, 2, 1, 5, 1):
        group.add([b"\x01"] * size, callers("a"))
    group.launch()
    assert [len(commands) for commands in log.commands()] == [2, 3, 5, 1]


def test_requests_beyond_the_room_are_refused_and_counted() -> None:
    """What was taken before stays; what is proposed makes room."""
    group, _, _, callers = made(max_pending_commands=2, max_request_commands=2)
    assert group.add([b"\x01", b"\x01"], callers("a")) is None
    assert isinstance(group.add([b"\x01"], callers("b")), Overloaded)
    assert group.overloaded == 1
    group.launch()
    assert group.add([b"\x01"], callers("c")) is None
    with pytest.raises(ValueError, match="3 commands"):
        group.add([b"\x01"] * 3, callers("d"))


def test_everyone_hears_of_a_lost_leadership() -> None:
    """Unknown for what was proposed, certainly not applied for what was not."""
    group, log, soon, callers = made(inflight=2)
    group.add([b"\x01"], callers("proposed"))
    group.launch()
    group.add([b"\x02"], callers("gathered"))
    log.is_leader = False
    group.launch()
    log.entries[0][1](None)
    group.fail(NotLeader("b"))
    soon.run()
    assert sorted(callers.told) == [("gathered", None, "NotLeader"), ("proposed", None, "Unknown")]
    assert (group.unknown, group.inflight, group.pending_commands, len(log.entries)) == (1, 0, 0, 1)


def test_times_never_go_behind_those_that_are_in_the_log() -> None:
    """A new leader reads, once a term, the entries that it has not applied yet."""
    group, log, _, callers = made(inflight=9)
    log.ahead = [5000, 7000]
    group.add([b"\x01"], callers("a"))
    group.launch()
    log.ahead, log.term = [9000], 2
    group.add([b"\x01"], callers("a"))
    group.launch()
    assert [entry_head(entry)[0] for entry, _ in log.entries] == [7000, 9000]
