"""The parts of the library that `Raft` overrides, calls or stands on are the ones that were read and tested."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pysyncobj.config
import pysyncobj.node
import pysyncobj.syncobj
import pysyncobj.transport
import pytest
from pysyncobj import SyncObj

import consensus
from consensus.library import StockRaft
from consensus.raft import Raft

_MANGLED = re.compile(r"_SyncObj__(\w+)")
_OWN = re.compile(r"self\.(__\w+|_[a-z]\w+|[a-z]\w+)")
_ENTRIES = {"__init__", "doTick", "__onMessageReceived", "__setState", "__setCurrentTerm"}

# Digests of sources, by name. When one changes: read what changed, in the light of `docs/consensus.md`, run the
# simulations, and only then correct the digest.
PINNED: dict[str, str] = {
    "SyncObj.__applyLogEntries": "073db677773b5a2d",
    "SyncObj.__callErrCallback": "6037c14ef64c2763",
    "SyncObj.__connectedToAnyone": "acd40e9e3ac6c4cc",
    "SyncObj.__deleteEntriesFrom": "3b23c411bb903d36",
    "SyncObj.__doApplyCommand": "1ea7aa506e950d0a",
    "SyncObj.__doChangeCluster": "247d4d4101b8cd3c",
    "SyncObj.__generateRaftTimeout": "92ed37d3620e781a",
    "SyncObj.__getCurrentLogIndex": "e5af22ca246686bd",
    "SyncObj.__getCurrentLogTerm": "1cb8867e6a13d397",
    "SyncObj.__getEntries": "e29c4b33293b2101",
    "SyncObj.__init__": "09df12cd7fd7d727",
    "SyncObj.__loadDumpFile": "ec66e83905de703b",
    "SyncObj.__onBecomeLeader": "5a3fd97bc17dc1cf",
    "SyncObj.__onLeaderChanged": "53b7685e1d897887",
    "SyncObj.__onMessageReceived": "ddfe34b6c0282179",
    "SyncObj.__onNodeConnected": "2655afb481b4c69b",
    "SyncObj.__onNodeDisconnected": "a81c0475ba2218cc",
    "SyncObj.__onReadonlyNodeConnected": "88ae4a6d87507838",
    "SyncObj.__onReadonlyNodeDisconnected": "9dc1fe5296c63ca7",
    "SyncObj.__onSetCodeVersion": "17b050edb193c853",
    "SyncObj.__parseChangeClusterRequest": "b2d5d695b12e592f",
    "SyncObj.__sendAppendEntries": "9cb9073128c392fa",
    "SyncObj.__sendNextNodeIdx": "68aaeefc267b8896",
    "SyncObj.__setCurrentTerm": "0ad5bf456ac06bd3",
    "SyncObj.__setState": "2c1f239f7bd79b39",
    "SyncObj.__tryLogCompaction": "c2f8a0ec14cc7312",
    "SyncObj._addNodeToCluster": "1052d05207626fff",
    "SyncObj._applyCommand": "827f207d515b2d64",
    "SyncObj._checkCommandsToApply": "a386a8079361d204",
    "SyncObj._getStatus": "6b49575958f7714f",
    "SyncObj._isLeader": "56c32c31db26cdc0",
    "SyncObj._onTick": "cc9eb08232d005ba",
    "SyncObj._removeNodeFromCluster": "dfd1ddfdeb62d45d",
    "SyncObj._setCodeVersion": "50bb678a18be46c9",
    "SyncObj._transferLeadership": "9eb7da3a81694ac1",
    "SyncObj.addNodeToCluster": "409209c3165ec2dc",
    "SyncObj.doTick": "bef78c2ba06d784b",
    "SyncObj.getStatus": "0d3d668f66239ee0",
    "SyncObj.hasQuorum": "a185073d776e6d41",
    "SyncObj.isNodeConnected": "1a92111931e38d3c",
    "SyncObj.raftCommitIndex": "24bac3a764286391",
    "SyncObj.raftCurrentTerm": "81cdf20c84c1b2a8",
    "SyncObj.raftLastApplied": "6edb8060970e9d8f",
    "SyncObj.removeNodeFromCluster": "a655f3c1f1472998",
    "SyncObj.selfNode": "3264e1450de1cbb5",
    "SyncObj.setCodeVersion": "a157058e46debd78",
    "SyncObj.transferLeadership": "c3ac67963962d9aa",
    "Node": "08d57d1bfde2aca1",
    "Transport": "9b0212a7af6123e7",
    "SyncObjConf": "e8d5f06ea6435e2c",
}


def named() -> set[str]:
    """The private names of SyncObj in all that is ours."""
    texts = [path.read_text() for path in sorted(Path(consensus.__file__).parent.rglob("*.py"))]
    return {name for text in texts for name in _MANGLED.findall(text)}


def ours() -> list[type]:
    """The classes between Raft and the library's."""
    return list(Raft.__mro__[: Raft.__mro__.index(SyncObj)])


def own_methods() -> dict[str, Callable[..., object]]:
    """The methods of SyncObj by the names that they have in its source."""
    found = {}
    for name, value in vars(SyncObj).items():
        function = value.fget if isinstance(value, property) else value
        if inspect.isfunction(function):
            found[name.removeprefix("_SyncObj") if name.startswith("_SyncObj__") else name] = function
    return found


def stood_on() -> Iterator[str]:
    """What `Raft` overrides or names, and what that and the library's entry points call without being overridden."""
    methods = own_methods()
    replaced = {name for part in ours() for name in vars(part)}
    overridden = {n for n in methods if (f"_SyncObj{n}" if n.startswith("__") else n) in replaced} - {"__init__"}
    touched = {f"__{n}" for n in named()} & set(methods)
    todo, seen = sorted(overridden | touched | _ENTRIES), set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in overridden:
            todo += [n for n in _OWN.findall(inspect.getsource(methods[name])) if n in methods]
    yield from sorted(seen)


def sources() -> dict[str, str]:
    methods = own_methods()
    texts = {f"SyncObj.{name}": inspect.getsource(methods[name]) for name in stood_on()}
    for part in (pysyncobj.node.Node, pysyncobj.transport.Transport, pysyncobj.config.SyncObjConf):
        texts[part.__name__] = inspect.getsource(part)
    return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in texts.items()}


def complaint(found: dict[str, str], pinned: dict[str, str]) -> str:
    """Say in one sentence what differs from what was read, or nothing."""
    changed = sorted(n for n in found if n in pinned and found[n] != pinned[n])
    added, gone = sorted(found.keys() - pinned.keys()), sorted(pinned.keys() - found.keys())
    parts = [f"{what}: {', '.join(names)}" for what, names in
             (("changed", changed), ("not read yet", added), ("gone", gone)) if names]  # fmt: skip
    return f"pysyncobj is not the one that consensus was made for ({'; '.join(parts)})" if parts else ""


def test_the_library_is_the_one_that_was_read() -> None:
    """An upgrade fails here, with the names of what changed."""
    assert not (text := complaint(sources(), PINNED)), text


def test_what_is_overridden_is_found_in_every_class_of_ours() -> None:
    """The digests would miss what a class between Raft and the library overrides."""
    assert ours() == [Raft, StockRaft]
    assert all(any(f"_SyncObj{n}" in vars(part) for n in own_methods()) for part in ours())


def test_every_private_name_exists() -> None:
    """A private attribute that the library does not have would be made silently by an assignment."""
    source = inspect.getsource(pysyncobj.syncobj)
    missing = [n for n in sorted(named()) if f"__{n}" not in source]
    assert missing == []


@pytest.mark.parametrize("name", ["__sendAppendEntries", "_onTick", "__init__"])
def test_a_changed_method_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The complaint says which one."""
    source = inspect.getsource

    def changed(part: object) -> str:
        text = source(part)  # type: ignore[arg-type]
        return text + "# changed" if getattr(part, "__name__", "").endswith(name.removeprefix("__")) else text

    found = sources()
    monkeypatch.setattr(inspect, "getsource", changed)
    after = sources()
    assert f"changed: SyncObj.{name}" in complaint(after, found)
    assert complaint({"a": "1"}, {"b": "1"}).endswith("(not read yet: a; gone: b)")
