"""When followers hear that an entry is committed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from virtual import VirtualClock
from virtual_ours import Ours

from consensus import messages as m
from consensus.raft import LARGE_COMMIT_BYTES


@pytest.mark.parametrize(("length", "at_once"), [(LARGE_COMMIT_BYTES, True), (LARGE_COMMIT_BYTES // 2, False)])
def test_followers_apply_a_large_commit_while_the_leader_does(
    length: int, *, at_once: bool, clock: VirtualClock, tmp_path: Path
) -> None:
    """They are told before the leader begins; of a small one they hear with the next entries, or a little later."""
    world = Ours("abc", tmp_path, clock)
    leader = world.leader()
    followers = [n for n in world.names if n != leader]
    raft = world.voters[leader].raft
    machine, told = raft.machine, []

    def apply(entry: bytes) -> Sequence[object]:
        sent = [m.decode(data) for to in followers for data in world.queues[leader, to]]
        told.append([isinstance(each, m.Append) and each.commit_index == raft.commit_index for each in sent])
        return machine.apply(entry)

    raft.machine = type("Watched", (), {"apply": staticmethod(apply), "digest": machine.digest})()
    world.write(["x" * length], leader)
    assert told == [[True, True] if at_once else []]
    assert world.until(lambda: all(world.values(n) == ["x" * length] for n in world.names), 0.05)
