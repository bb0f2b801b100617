"""The library as it is, on files, in a virtual world."""

from __future__ import annotations

from typing import Any

import pysyncobj.syncobj as library
from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from virtual import NEVER, STEP_S, Asked, World


class StableNode(Node):  # type: ignore[misc]
    """A node whose place in a set is the same in every run."""

    def __hash__(self) -> int:
        return int.from_bytes(self.id.encode()[:7], "big")


class _StockWire(Transport):  # type: ignore[misc]
    ready = True

    def __init__(self, world: World, name: str) -> None:
        super().__init__(None, None, None)
        self._world, self._name = world, name

    def send(self, node: Node, message: Any) -> bool:
        return self._world.send(self._name, node.id, library.pickle.dumps(message))


class StockVoter(SyncObj):  # type: ignore[misc]
    """A list of values, replicated as the library's documentation shows."""

    def __init__(self, world: World, name: str, conf: SyncObjConf) -> None:
        others = [StableNode(n) for n in world.names if n != name]
        super().__init__(StableNode(name), others, conf, nodeClass=StableNode, transport=_StockWire(world, name))
        self.log: list[Any] = []

    @replicated
    def apply(self, value: Any) -> int:
        self.log.append(value)
        return len(self.log)


class Stock(World):
    """PySyncObj as it comes, on files, with snapshots written at once instead of by a child."""

    stock = True
    voter: type[StockVoter] = StockVoter

    def make(self, name: str) -> StockVoter:
        fields: dict[str, Any] = {
            "autoTick": False,
            "useFork": False,
            "journalFile": str(self.folder / f"{name}.journal"),
            "fullDumpFile": str(self.folder / f"{name}.dump"),
            "logCompactionMinEntries": NEVER,
            "logCompactionMinTime": NEVER,
            "appendEntriesPeriod": 0.05,
        }
        return self.voter(self, name, SyncObjConf(**fields | self.options.get("stock", {})))

    def step(self, name: str) -> None:
        try:
            self.voters[name].doTick(0)
        except Exception as error:  # noqa: BLE001 - the library's own thread does the same
            self.errors.append(error)

    def receive(self, name: str, sender: str, data: bytes) -> None:
        try:
            self.inject(name, sender, library.pickle.loads(data))
        except Exception as error:  # noqa: BLE001 - as above
            self.errors.append(error)

    def inject(self, name: str, sender: str, message: dict[str, Any]) -> None:
        """Let a voter receive a message that nobody sent."""
        self.voters[name]._SyncObj__onMessageReceived(StableNode(sender), message)

    def linked(self, name: str, other: str, *, up: bool) -> None:
        wire = self.voters[name]._SyncObj__transport
        (wire._onNodeConnected if up else wire._onNodeDisconnected)(StableNode(other))

    def end(self, name: str) -> None:
        """Nothing: its journal is a memory map, which survives the process."""

    def ask(self, name: str, value: Any) -> Asked:
        asked = Asked(value)

        def heard(result: object, reason: int) -> None:
            asked.heard = "done" if reason == FAIL_REASON.SUCCESS else "refused"
            asked.result = result

        self.voters[name].apply(value, callback=heard)
        return asked

    def leads(self, name: str) -> bool:
        return bool(self.voters[name]._isLeader())

    def term(self, name: str) -> int:
        return int(self.voters[name].raftCurrentTerm)

    def values(self, name: str) -> list[Any]:
        return list(self.voters[name].log)

    def last_index(self, name: str) -> int:
        return int(self.voters[name]._SyncObj__raftLog[-1][1])

    def take_snapshot(self, name: str) -> None:
        self.voters[name].forceLogCompaction()
        self.run(2 * STEP_S)
