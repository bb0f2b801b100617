"""Defects of the library in how voters agree: each scenario shows the harm on it, and none on ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from virtual import Asked, Killed, VirtualClock, World
from virtual_ours import Ours
from virtual_stock import Stock

from consensus import messages as m

WorldOf = Callable[..., World]


def acked(asked: list[Asked]) -> list[Any]:
    return [a.value for a in asked if a.heard == "done"]


def test_defect_03_a_snapshot_commits_nothing_of_the_receiver(world_of: WorldOf) -> None:
    """An old leader's own tail, never committed, is acknowledged when the new leader sends it a snapshot in pieces."""
    world = world_of(
        "abcde", stock={"logCompactionMinEntries": 50, "logCompactionBatchSize": 200}, ours={"snapshot_entries": 50}
    )
    old = world.leader()
    world.write(range(5), old)
    others = [n for n in world.names if n != old]
    world.cut(old, others)
    doomed = [world.ask(old, f"doomed-{k}") for k in range(3)]
    world.run(0.1)
    new = world.leader(others)
    for k in range(15):
        world.write([f"{k}-{j}-{hash((k, j)):x}" for j in range(20)], new, only=others)
    world.heal(old, others)
    assert world.until(lambda: len(world.values(old)) >= len(world.values(new)), 30, messages=1)
    world.run(2, messages=1)
    lost = [v for v in acked(doomed) if v not in world.values(new)]
    assert len(lost) == (3 if world.stock else 0)
    if not world.stock:
        assert {a.heard for a in doomed} == {"unknown"}


def test_defect_05_what_was_acknowledged_stays_in_the_log(world_of: WorldOf) -> None:
    """A repeated, older message of the same leader removes entries that this voter had acknowledged."""
    world = world_of("abc", started="b")
    append(world, "b", 2, 40)
    assert world.last_index("b") == 40
    append(world, "b", 2, 20)
    assert world.last_index("b") == (20 if world.stock else 40)


def append(world: World, to: str, first: int, last: int) -> None:
    """Send entries of term 1 from voter a, as behind the very first entry."""
    if isinstance(world, Stock):
        entries = [(b"\x01", index, 1) for index in range(first, last + 1)]
        head = {"type": "append_entries", "term": 1, "commit_index": 1}
        world.inject(to, "a", {**head, "prevLogIdx": 1, "prevLogTerm": 0, "entries": entries})
    elif isinstance(world, Ours):
        ours = [(b"\x01", index, 1) for index in range(first, last + 1)]
        world.inject(to, "a", m.Append(1, 1, first - 1, 0, ours))


def test_defect_06_a_voter_with_a_conflicting_tail_rejoins(world_of: WorldOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """With several messages behind a conflict, the leader obeys the last refusal and probes it for ever."""
    monkeypatch.setattr("consensus.replication.MAX_MESSAGE_BYTES", 1 << 16)  # as the library's
    world = world_of("abcde")
    old = world.leader()
    world.write(["first"], old)
    others = [n for n in world.names if n != old]
    world.cut(old, others)
    for k in range(20):
        world.ask(old, f"doomed-{k}")
        world.run(0.02)
    new = world.leader(others)
    for _ in range(40):
        world.write([b"x" * 10_000], new, only=others)
    world.kill(new)  # its successor does not know how far the old leader's log agrees
    rest = [n for n in others if n != new]
    new = world.leader(rest)
    world.heal(old, rest)
    rejoined = world.until(lambda: len(world.values(old)) == len(world.values(new)), 30)
    assert rejoined is not world.stock


def test_defect_12_a_voter_that_hears_nobody_deposes_nobody(world_of: WorldOf) -> None:
    """A voter whose incoming messages are lost deposes one leader after the other."""
    world = world_of("abcde")
    leader = world.leader()
    before = world.term(leader)
    deaf = next(n for n in world.names if n != leader)
    world.cuts |= {(n, deaf) for n in world.names}  # one way, and no end notices
    world.run(20)
    terms = max(map(world.term, world.names)) - before
    assert terms >= 10 if world.stock else terms == 0


def test_defect_14_a_leader_that_is_cut_off_soon_knows_it(world_of: WorldOf) -> None:
    """For half a minute a deposed leader believes to lead and serves what others have overwritten since."""
    world = world_of("abcde")
    old = world.leader()
    world.write(["before"], old)
    others = [n for n in world.names if n != old]
    world.cut(old, others)
    new = world.leader(others)
    world.write(["after"], new, only=others)
    world.run(2)
    stale_reads = 0
    for _ in range(100):
        world.run(0.1)
        stale_reads += world.leads(old) and "after" not in world.values(old)
    assert stale_reads == (100 if world.stock else 0)


def test_defect_20_waiting_for_a_snapshot_costs_one_message_a_turn(
    world_of: WorldOf, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the snapshot for a lagging voter is still written, the leader sends it empty messages without end."""
    world = world_of("abc", stock={"logCompactionMinEntries": 10**9}, ours={})
    leader = world.leader()
    behind = next(n for n in world.names if n != leader)
    rest = [n for n in world.names if n != behind]
    world.kill(behind)
    world.write(range(30), leader, only=rest)
    world.take_snapshot(leader)
    world.write(range(30, 40), leader, only=rest)
    if isinstance(world, Stock):
        monkeypatch.setattr(world.voters[leader]._SyncObj__serializer, "getTransmissionData", lambda _node: None)
    else:
        monkeypatch.setattr(world.voters[leader].snapshots, "feed", lambda _node: False)
    world.start(behind)
    sent = 0
    send = world.send

    def counting(sender: str, to: str, data: bytes) -> bool:
        nonlocal sent
        sent += (sender, to) == (leader, behind)
        if sent > 10_000:
            raise Killed
        return send(sender, to, data)

    monkeypatch.setattr(world, "send", counting)
    clock.look_s = 0.0
    endless = False
    try:
        world.run(0.5)
    except Killed:
        endless = True
    assert endless is world.stock


def test_defect_24_an_older_snapshot_is_refused(world_of: WorldOf, tmp_path: Path) -> None:
    """A delayed snapshot, older than what a voter has applied, takes its state and log back."""
    world = world_of("abc")
    leader = world.leader()
    follower = next(n for n in world.names if n != leader)
    world.write(range(20), leader)
    world.take_snapshot(leader)
    older = (tmp_path / (f"{leader}.dump" if world.stock else f"{leader}/snapshot")).read_bytes()
    head = None if world.stock else world.voters[leader].snapshots._child_head or head_of(world, leader)
    world.write(range(20, 40), leader)
    world.run(1)
    assert len(world.values(follower)) == 40
    if isinstance(world, Stock):
        message = {"type": "append_entries", "term": world.term(leader), "commit_index": 1}
        world.inject(follower, leader, {**message, "serialized": (older, True, False)})
        world.inject(follower, leader, {**message, "serialized": (b"", False, True)})
    elif isinstance(world, Ours):
        chunk = m.SnapshotChunk(world.term(leader), head.index, head.term, len(older), 0, older)
        world.inject(follower, leader, chunk)
        assert world.voters[follower].snapshots.installed == 0
    assert len(world.values(follower)) == (20 if world.stock else 40)
    assert (world.last_index(follower) < world.last_index(leader)) is world.stock


def head_of(world: World, name: str) -> Any:
    from consensus.snapshot import read_head
    from consensus.storage import DiskStorage

    return read_head(DiskStorage(world.folder / name))
