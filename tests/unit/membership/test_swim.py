"""The one door to swim-p2p."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import swim

import membership
from membership.messages import Alive
from membership.swim import MemberState, Roster, record_of

# What the repair was written against; another content needs another reading.
PINNED = {
    "protocol/member.py": "47bc90fa6752ae79bac486fe229c1bbf74e88ffb23feead1cc718870310977d6",
    "transport/base.py": "47fb43f90f66ef3e6db3382524696042af0dc57b3ed23d0f4864b9c6b7e0e04f",
}


def alive(node_id: str, incarnation: int = 1, port: int = 1) -> Alive:
    return Alive(node_id, "boot", incarnation, "worker", f"host:{port}", {})


def roster(*ids: str) -> Roster:
    made = Roster(record_of(alive("me"), 0))
    for node_id in ids:
        made.put(record_of(alive(node_id, port=ord(node_id[0]) if len(node_id) == 1 else 2), 0))
    return made


def test_swim_is_the_version_that_was_repaired() -> None:
    """The subclass overrides methods by name: it holds for one version only."""
    assert importlib.metadata.version("swim-p2p") == "1.2.6"
    folder = Path(swim.__file__).parent
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in PINNED} == PINNED


def test_only_one_file_imports_swim() -> None:
    """The adapter is the whole of what an upgrade would touch."""
    importing = set()
    for file in Path(membership.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "swim" for name in names):
                importing.add(file.name)
    assert importing == {"swim.py"}


def test_importing_swim_prints_nothing_and_a_client_never_imports_it() -> None:
    """A command's output stays clean, and a voter's front has no protocol in it."""
    code = (
        "import sys; from membership import RemoteMembership, Presence, Merged, MemoryMembership;"
        "assert 'swim' not in sys.modules and 'membership.core' not in sys.modules;"
        "import membership.service; assert 'swim' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "name",
    [
        "remove_member",
        "cleanup_dead_members",
        "force_resurrect_member",
    ],
)
def test_no_stock_mutator_is_reachable(name: str) -> None:
    """Stock mutators raise incarnations of others and remove by address."""
    with pytest.raises(NotImplementedError):
        getattr(roster("a"), name)(("host", 1))


@pytest.mark.parametrize(
    "name",
    ["mark_alive", "mark_suspect", "mark_dead", "merge_digest", "update_heartbeat", "update_incarnation"],
)
async def test_no_stock_coroutine_mutator_is_reachable(name: str) -> None:
    """The same for those that are coroutines."""
    with pytest.raises(NotImplementedError):
        await getattr(roster("a"), name)(("host", 1))


def test_the_stock_queries_work_on_records() -> None:
    """The list is swim's: its counts and selections read our records."""
    members = roster("a", "b", "c")
    members.change(members.records()[2], state=MemberState.SUSPECT)
    members.change(members.records()[3], state=MemberState.DEAD)
    assert (members.size, members.alive_count, members.suspect_count, members.dead_count) == (4, 2, 1, 1)
    assert list(members.get_dead_members()) == [members.find("c")]
    assert members.present == 3


def test_the_digest_depends_on_content_and_not_on_order() -> None:
    """Two members with one view agree without exchanging it."""
    one, other = roster("a", "b", "c"), roster("c", "a", "b")
    assert one.digest == other.digest
    one.change(one.records()[1], incarnation=2)
    assert one.digest != other.digest
    other.put(record_of(alive("a", 2), 0))
    assert one.digest == other.digest
    for each in (one, other):
        found = each.find("b")
        assert found is not None
        each.drop(found)
    assert one.digest == other.digest


def test_an_overlay_reads_like_a_copy_and_leaves_what_is_below_alone() -> None:
    """Simulated observers share one frozen view."""
    below = roster("a", "b")
    above = Roster(record_of(alive("b", 5), 0), below=below)
    found = above.find("a")
    assert found is not None
    above.change(found, state=MemberState.DEAD)
    above.put(record_of(alive("new"), 0))
    assert [(above.size, above.present), (below.size, below.present)] == [(4, 3), (3, 3)]
    gone = above.find("me")
    assert gone is not None
    above.drop(gone)
    assert sorted(above.ids) == sorted(record.node_id for record in above.records()) == ["a", "b", "new"]
    kept = below.find("a")
    assert kept is not None
    assert kept.status == "alive"


def test_a_sample_never_holds_this_member_nor_one_that_does_not_fit() -> None:
    """At any size of the group, by either way of drawing."""
    for count in (3, 500):
        members = roster(*(f"n{index}" for index in range(count)))
        for seed in range(20):
            chosen = members.sample(Random(seed), 3, lambda record: record.node_id != "n1")
            ids = {record.node_id for record in chosen}
            assert not ids & {"me", "n1"}
            assert len(chosen) == len(ids) == min(3, count - 1)
