"""Defects of the library towards who proposes and who applies: each shows the harm on it, and none on ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pysyncobj import SyncObj, SyncObjConf, replicated
from virtual import VirtualClock, World
from virtual_ours import Ours, Values
from virtual_stock import Stock, StockVoter

from consensus import MachineFailed, Overloaded
from consensus import messages as m

WorldOf = Callable[..., World]


def test_defect_07_a_callback_that_raises_repeats_nothing(world_of: WorldOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the client's callback raises, the command is applied again, and the replicas differ."""
    world = world_of("abc")
    leader = world.leader()
    calls = []

    def heard(*_: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("the client went away")

    if isinstance(world, Stock):
        world.voters[leader].apply("x", callback=heard)
    else:
        world.voters[leader].propose_nowait([msgspec.msgpack.encode("x")], heard)
    world.run(1)
    assert [str(e) for e in world.errors] == ["the client went away"]
    assert world.values(leader) == (["x", "x"] if world.stock else ["x"])
    assert all(world.values(n) == ["x"] for n in world.names if n != leader)


class _StockPoison(StockVoter):
    @replicated
    def apply(self, value: Any) -> None:
        self.log.append(value)
        if value == "poison":
            raise KeyError("a mistake in the state machine")


class _OurPoison(Values):
    def apply(self, entry: bytes) -> Sequence[object]:
        outcomes = super().apply(entry)
        if self.log[-1] == "poison":
            raise KeyError("a mistake in the state machine")
        return outcomes


def test_defect_08_a_command_that_raises_is_tried_once(world_of: WorldOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in apply is retried on every tick, effects and all, and nothing behind it is ever applied."""
    monkeypatch.setattr(Stock, "voter", _StockPoison)
    monkeypatch.setattr(Ours, "machine", _OurPoison)
    world = world_of("abc")
    leader = world.leader()
    asked = world.ask(leader, "poison")
    world.run(2)
    partial = world.values(leader).count("poison")
    if world.stock:
        assert partial > 50
        assert asked.heard is None
    else:
        assert partial == 1
        assert asked.heard == "unknown"
        assert isinstance(world.voters[leader].failure, MachineFailed)


def test_defect_10_every_caller_is_answered(world_of: WorldOf) -> None:
    """A write forwarded over a link that drops while the leader stays is never answered."""
    world = world_of("abc")
    leader = world.leader()
    follower = next(n for n in world.names if n != leader)
    world.cut(follower, [leader])
    asked = world.ask(follower, "x")
    world.run(0.1)
    world.heal(follower, [leader])
    world.run(60)
    assert world.leads(leader)
    assert asked.heard is (None if world.stock else "refused")


def test_defect_11_an_answer_belongs_to_its_question(world_of: WorldOf) -> None:
    """After a restart a voter's forwarded requests are numbered anew, and take the answers to its earlier life's."""
    world = world_of("abc")
    leader = world.leader()
    follower = next(n for n in world.names if n != leader)
    first = world.ask(follower, "first")
    world.step(follower)
    world.deliver(follower, leader)  # the leader has it in its queue when the follower restarts
    world.kill(follower)
    world.start(follower)
    second = world.ask(follower, "second")
    world.clock.now += 0.1
    world.step(leader)
    world.deliver(leader, follower, 1)  # a heartbeat, from which the follower learns who leads
    world.step(follower)
    world.queues[follower, leader].clear()  # the network loses the second write
    world.run(5)
    assert "second" not in world.values(leader)
    assert second.heard == ("done" if world.stock else "refused")
    if not world.stock:
        assert first.heard == "refused"


class _StockNewer(StockVoter):
    @replicated(ver=1)
    def apply2(self, value: Any) -> None:
        self.log.append(value)


class _Mixed(Stock):
    def make(self, name: str) -> StockVoter:
        self.voter = StockVoter if name == "c" else _StockNewer
        return super().make(name)


def test_defect_18_a_command_of_a_newer_version_is_counted_once(tmp_path: Path, clock: VirtualClock) -> None:
    """A voter with older code skips the change of version without counting it, and applies later entries twice."""
    (tmp_path / "stock").mkdir()
    mixed = _Mixed("abc", tmp_path / "stock", clock)
    leader = mixed.leader()
    while leader == "c":
        mixed.voters["c"].transferLeadership("a")
        mixed.run(1)
        leader = mixed.leader()
    mixed.voters[leader].setCodeVersion(1)
    mixed.run(0.5)
    for k in range(3):
        mixed.ask(leader, k)
        mixed.run(0.5)
    assert mixed.values("a") == [0, 1, 2]
    assert sorted(set(mixed.values("c"))) == [0, 1, 2]
    assert len(mixed.values("c")) > 3

    machines = {"a": Values, "b": Values, "c": _OlderValues}
    ours = _MixedOurs("abc", tmp_path / "ours", clock, machines=machines)
    leader = ours.leader()
    ours.write(["newer", 0, 1, 2], leader)
    ours.run(0.5)
    assert ours.values("a") == ["newer", 0, 1, 2]
    assert ours.values("c") == [0, 1, 2]


class _OlderValues(Values):
    def apply(self, entry: bytes) -> Sequence[object]:
        outcomes = super().apply(entry)
        if "newer" in self.log:  # what it does not know it refuses, and counts
            self.log.remove("newer")
        return outcomes


class _MixedOurs(Ours):
    def make(self, name: str) -> Any:
        self.machine = self.options["machines"][name]
        return super().make(name)


def test_defect_22_a_full_queue_refuses_before_it_takes(world_of: WorldOf) -> None:
    """The 65,537th command between two turns raises although it was queued and will be applied."""
    world = world_of("abc", stock={"appendEntriesUseBatch": False}, ours={"max_pending_commands": 1000})
    leader = world.leader()
    if isinstance(world, Stock):
        voter = world.voters[leader]
        for number in range(65_536):
            voter.apply(number)
        with pytest.raises(BlockingIOError):
            voter.apply("refused")
        assert b"refused" in voter._SyncObj__commandsQueue._FastQueue__queue[-1][0]
    else:
        heard: list[object] = []
        for number in range(1001):
            command = msgspec.msgpack.encode(number)
            world.voters[leader].propose_nowait([command], lambda _outcomes, error: heard.append(error))
        assert isinstance(heard[0], Overloaded)
        world.run(1)
        assert heard[1:] == [None] * 1000
        assert world.values(leader) == list(range(1000))


@pytest.mark.parametrize("length", [1900, 1920, 1940])
def test_defect_23_a_command_may_have_any_length(world_of: WorldOf, length: int) -> None:
    """A command just below a multiple of the batch size is declared finished before its last piece is sent."""
    world = world_of("abc", stock={"appendEntriesBatchSizeBytes": 1000}, ours={"max_batch_bytes": 1000})
    leader = world.leader()
    world.write([b"x" * length], leader)
    world.run(1)
    assert bool(world.errors) is world.stock


def test_defect_25_an_acknowledgement_counts_in_its_own_term(world_of: WorldOf) -> None:
    """A delayed acknowledgement of an earlier leadership commits other entries, which nobody else has."""
    world = world_of("abc", started="a")
    world.linked("a", "b", up=True)
    world.linked("a", "c", up=True)
    first = elect(world)
    for k in range(4):
        world.ask("a", f"first-{k}")
        world.run(0.05, only="a")
    held = world.last_index("a")
    depose(world, first + 1)
    second = elect(world)
    asked = []
    while world.last_index("a") < held:
        asked.append(world.ask("a", f"second-{len(asked)}"))
        world.run(0.05, only="a")
    if isinstance(world, Stock):
        late = {"type": "next_node_idx", "reset": False, "success": True, "next_node_idx": held + 1}
        world.inject("a", "b", late)
    elif isinstance(world, Ours):
        world.inject("a", "b", m.Appended(first, held + 1, success=True))
    world.run(0.2, only="a")
    assert second > first + 1
    heard = {a.heard for a in asked}
    assert heard == ({"done"} if world.stock else {None})


def elect(world: World) -> int:
    """Let voter a become the leader by the votes of b; return its term."""
    for _ in range(500):
        world.run(0.01, only="a")
        term = world.term("a")
        if world.leads("a"):
            return term
        if isinstance(world, Stock):
            world.inject("a", "b", {"type": "response_vote", "term": term})
        elif isinstance(world, Ours):
            world.inject("a", "b", m.PreVoteGranted(term, world.voters["a"].raft._pre_votes._round))
            world.inject("a", "b", m.Vote(world.term("a")))
    raise AssertionError("it was not elected")


def depose(world: World, term: int) -> None:
    """Let c lead, with one entry that replaces all that a holds of its own."""
    if isinstance(world, Stock):
        head = {"type": "append_entries", "term": term, "commit_index": 1}
        world.inject("a", "c", {**head, "prevLogIdx": 1, "prevLogTerm": 0, "entries": [(b"\x01", 2, term)]})
    elif isinstance(world, Ours):
        world.inject("a", "c", m.Append(term, 1, 1, 0, [(b"\x01", 2, term)]))


def test_defect_27_the_state_is_there_before_the_log_is_read(tmp_path: Path, clock: VirtualClock) -> None:
    """As documented, the state is made after the library has begun to restore it, and erases what was restored."""
    stock = Stock("a", tmp_path, clock)
    stock.write(range(10), stock.leader())
    stock.take_snapshot("a")
    names = {"journalFile": str(tmp_path / "a.journal"), "fullDumpFile": str(tmp_path / "a.dump")}

    class Documented(SyncObj):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("127.0.0.1:0", [], SyncObjConf(**names, autoTickPeriod=0.01, appendEntriesPeriod=0.01))
            deadline = time.monotonic() + 5
            while self.raftLastApplied < 2 and time.monotonic() < deadline:
                clock.now += 0.1
                time.sleep(0.01)
            self.restored = list(getattr(self, "log", []))
            self.log: list[Any] = []

        @replicated
        def apply(self, value: Any) -> None:
            self.log.append(value)

    voter = Documented()
    kept = list(voter.log)
    voter.destroy_synchronous()
    assert voter.restored == list(range(10))
    assert kept == []

    ours = Ours("a", tmp_path / "ours", clock)
    ours.write(range(10), ours.leader())
    ours.take_snapshot("a")
    ours.kill("a")
    ours.start("a")
    ours.leader()
    assert ours.values("a") == list(range(10))
