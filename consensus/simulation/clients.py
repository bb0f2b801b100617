"""Clients that append to keys, retry whatever is unclear, and check that what they are told is linearizable.

Every append adds a token of its own, so the value of a key is its history: answers to a key must be prefixes of one
another, hold each token once, and hold all that was acknowledged before the request was made.
"""

import random
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from consensus.errors import ConsensusError, NotLeader
from consensus.ledger import Command
from consensus.simulation.checks import Violation

if TYPE_CHECKING:
    from consensus.simulation.voter import SimulatedVoter
    from consensus.simulation.world import World

TOKEN = 6
PATIENCE_S = 0.4


class History:
    """What clients were told, by key."""

    def __init__(self) -> None:
        self.longest: dict[str, bytes] = {}
        self.acknowledged: dict[str, int] = {}  # length of the longest value that any client was told
        self.writes = 0
        self.reads = 0

    def floor(self, key: str) -> int:
        """Return the length that every request made from now on must see."""
        return self.acknowledged.get(key, 0)

    def told(self, who: str, key: str, value: bytes, floor: int) -> None:
        """Check an answer against all answers before it."""
        longest = self.longest.get(key, b"")
        if len(value) < floor:
            raise Violation(f"{who} saw {len(value)} bytes of {key}, but {floor} were acknowledged before it asked")
        if not (longest.startswith(value) or value.startswith(longest)):
            raise Violation(f"{who} saw a history of {key} that contradicts another one")
        if len(value) > len(longest):
            self.longest[key] = value
        self.acknowledged[key] = max(self.floor(key), len(value))

    def check_final(self, name: str, values: dict[str, bytes]) -> None:
        """A state at rest holds everything acknowledged, and no token twice."""
        for key in sorted(self.longest):
            value = values.get(key, b"")
            if not value.startswith(self.longest[key]):
                raise Violation(f"{name} lost acknowledged writes of {key}")
        for key, value in sorted(values.items()):
            tokens = [value[i : i + TOKEN] for i in range(0, len(value), TOKEN)]
            if len(set(tokens)) != len(tokens):
                raise Violation(f"{name} applied a write of {key} twice")


class SimulatedClient:
    """One request at a time, sent again with the same number until it is answered."""

    def __init__(self, world: "World", number: int) -> None:
        self.name = f"c{number}"
        self._world = world
        self._chance = random.Random(f"{world.seed}/client/{number}")  # noqa: S311 - a seeded simulation
        self._seq = 0
        self._attempt = 0
        self._command: Command | None = None
        self._key = ""
        self._floor = 0
        self._target = ""
        self.stopped = False

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting for an answer."""
        return self._command is None

    def begin(self) -> None:
        """Make the next request."""
        if self.stopped:
            return
        self._key = self._chance.choice(("a", "b", "c"))
        self._floor = self._world.history.floor(self._key)
        if self._chance.random() < 0.3:
            self._read()
            return
        self._seq += 1
        token = f"{self.name[1:]}{self._seq:0{TOKEN - len(self.name) + 1}d}".encode()
        self._command = Command(self.name, self._seq, "add", self._key, token)
        self._try()

    def _try(self) -> None:
        if self._command is None:
            return
        world = self._world
        self._attempt += 1
        attempt, data = self._attempt, msgspec.msgpack.encode(self._command)
        voter = self._voter()

        def answer(outcomes: object, error: ConsensusError | None) -> None:
            if self._chance.random() < 0.05:
                return  # the answer is lost
            delay = self._chance.uniform(0.0002, 0.002)
            world.at(world.now + voter.spent + delay, lambda: self._answered(attempt, outcomes, error))

        def arrive() -> None:
            voter.driver.propose_nowait([data], answer)

        world.at(world.now + self._chance.uniform(0.0002, 0.002), arrive, voter)
        world.at(world.now + PATIENCE_S, lambda: self._give_up(attempt))

    def _voter(self) -> "SimulatedVoter":
        voters = self._world.voters
        if self._target not in voters or self._chance.random() < 0.05:
            self._target = self._chance.choice(sorted(voters))
        return voters[self._target]

    def _give_up(self, attempt: int) -> None:
        if attempt == self._attempt and self._command is not None:
            self._target = ""
            self._try()

    def _answered(self, attempt: int, outcomes: object, error: ConsensusError | None) -> None:
        command = self._command
        if command is None or attempt != self._attempt:
            return
        if error is not None:
            self._target = (error.leader_id or "") if isinstance(error, NotLeader) else ""
            self._attempt += 1
            self._world.at(self._world.now + self._chance.uniform(0.005, 0.05), self._try)
            return
        if not isinstance(outcomes, list | tuple) or not isinstance(outcomes[0], bytes):
            raise Violation(f"{self.name} was answered {outcomes!r}")
        value = outcomes[0]
        if not value.endswith(command.value):
            raise Violation(f"{self.name} was acknowledged a write that is not in {self._key}")
        self._world.history.told(self.name, self._key, value, self._floor)
        self._world.history.writes += 1
        self._command = None
        self._rest()

    def _rest(self) -> None:
        self._world.at(self._world.now + self._chance.expovariate(1 / 0.02), self.begin)

    # ---- reads

    def _read(self) -> None:
        """Read at every voter that believes to lead, however late the answers come."""
        world, key, floor = self._world, self._key, self._floor
        for voter in world.voters.values():
            if voter.alive and voter.driver.raft.is_leader:
                delay = self._chance.uniform(0.0002, 0.05)
                world.at(world.now + delay, partial(self._read_at, voter, key, floor), voter)
        world.at(world.now + self._chance.uniform(0.01, 0.1), self.begin)

    def _read_at(self, voter: "SimulatedVoter", key: str, floor: int) -> None:
        history = self._world.history

        def answer(index: int | None, _error: ConsensusError | None) -> None:
            if index is not None:
                history.told(f"a read at {voter.name}", key, voter.machine.values.get(key, b""), floor)
                history.reads += 1

        voter.driver.barrier_nowait(answer)
