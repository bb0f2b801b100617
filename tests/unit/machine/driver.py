"""A machine with a clock and short words, for tests."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import msgspec

from workqueue.machine import invariants
from workqueue.machine.commands import (
    ArtifactRef,
    Capability,
    Claim,
    Complete,
    Completion,
    Enqueue,
    Free,
    JobSpec,
    RegisterArtifact,
    RegisterKind,
    RegisterWorker,
    Request,
    Tick,
)
from workqueue.machine.machine import Machine
from workqueue.machine.outcomes import Granted, Lease, Refused, Registered
from workqueue.machine.transitions import State
from workqueue.schema import (
    GameResult,
    MatchesResult,
    PlayerSpec,
    SelfplayPayload,
    SelfplayResult,
    ShardRef,
    TournamentPayload,
    TrainPayload,
    TrainResult,
)

CONFIG = "square8_2p"
KINDS = ("selfplay", "train", "tournament", "gauntlet", "evaluate", "plain")


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


class Driver:
    """Sends commands one entry at a time and checks the invariants after each."""

    def __init__(self, machine: Machine | None = None, *, checked: bool = True) -> None:
        self.machine = machine or Machine()
        self.now_ms = 1_000_000
        self.numbers = itertools.count(1)
        self.checked = checked
        self.followers: list[Machine] = []  # replicas that must answer the same

    def do(self, command: Any, *, key: tuple[str, int] | None = None, actor: str = "test") -> Any:
        client, number = key or ("driver", next(self.numbers))
        entry = msgspec.msgpack.encode([1, self.now_ms, [Request(client, number, actor, command)]])
        [outcome] = self.machine.apply(entry)
        for follower in self.followers:
            assert msgspec.msgpack.encode(follower.apply(entry)) == msgspec.msgpack.encode([outcome]), command
        if self.checked:
            invariants.check(self.machine.ledger)
        return outcome

    def kind(self, name: str = "plain", **fields: Any) -> None:
        self.do(RegisterKind(name, **fields))

    def worker(self, name: str = "w1", boot: str = "b1", **fields: Any) -> None:
        capability = Capability(**{"cpus": 8, "ram_mb": 8000, "disk_mb": 8000, "kinds": KINDS, **fields})
        assert isinstance(self.do(RegisterWorker(name, boot, capability)), Registered)

    def add(self, *names: str, **fields: Any) -> Any:
        return self.do(Enqueue(tuple(JobSpec(name, fields.get("kind", "plain"), **_rest(fields)) for name in names)))

    def claim(self, worker: str = "w1", boot: str = "b1", limit: int = 1, **free: Any) -> Any:
        left = Free(**{"cpus": 8, "ram_mb": 8000, "disk_mb": 8000, **free})
        return self.do(Claim(worker, boot, left, limit))

    def lease(self, worker: str = "w1", boot: str = "b1") -> Lease:
        outcome = self.claim(worker, boot)
        assert isinstance(outcome, Granted)
        return outcome.leases[0]

    def complete(self, lease: Lease, worker: str = "w1", result: object = None, artifacts: tuple[str, ...] = ()) -> Any:
        refs = tuple(ArtifactRef(sha, 10, "shard") for sha in artifacts)
        [settled] = self.do(Complete(worker, (Completion(lease.job, lease.attempt, raw(result or {}), refs),))).settled
        return settled

    def store(self, *names: str, kind: str = "shard", config: str = CONFIG) -> None:
        for name in names:
            self.do(RegisterArtifact(ArtifactRef(name, 10, kind), ("v1", "v2"), config))

    def state(self, job: str) -> State:
        return State(self.job(job).state)

    def view(self, name: str, **args: object) -> Any:
        """Ask a query that is answered."""
        found = self.ask(name, **args)
        assert not isinstance(found, Refused), found
        return found

    def ask(self, name: str, **args: object) -> Any:
        """Ask a query that may be refused."""
        return self.machine.query(name, args)

    def job(self, name: str) -> Any:
        return self.view("job", job=name)

    def tick(self, ms: int = 0) -> Any:
        """Let time pass."""
        self.now_ms += ms
        return self.do(Tick())

    def restored(self) -> Driver:
        """Return a driver of a replica that loaded this one's snapshot, with the same clock."""
        twin = Driver(checked=self.checked)
        twin.machine.restore(list(self.machine.snapshot()))
        twin.now_ms, twin.numbers = self.now_ms, itertools.count(next(self.numbers) + 1)
        return twin

    def picture(self) -> str:
        """Return a digest of everything that is replicated."""
        return hashlib.sha256(b"".join(self.machine.snapshot())).hexdigest()

    # ---- the built-in kinds

    def selfplay(self, name: str, model: str = "", games: int = 10) -> Lease:
        player = PlayerSpec("gumbel" if model else "heuristic", model)
        self.add(name, kind="selfplay", config=CONFIG, payload=raw(SelfplayPayload("square8", 2, player, games, 1)))
        return self.lease()

    def selfplay_done(self, lease: Lease, shard: str, games: int = 10, player: str = "none:heuristic:-") -> Any:
        self.store(shard)
        result = SelfplayResult(games, 600, 600, 1000, (ShardRef(shard, 10, games, 600),), (5, 5), player, "")
        return self.complete(lease, result=result, artifacts=(shard,))

    def train(self, name: str, model: str, parent: str = "") -> Any:
        payload = TrainPayload("square8", 2, ("shard1",), 10, 1, parent=parent)
        self.add(name, kind="train", config=CONFIG, payload=raw(payload))
        lease = self.lease()
        self.store(model, kind="weights")
        result = TrainResult(model, 10, 10, 100, 1, 1, 1, 1, 1, raw({"arch": "32x4"}))
        return self.complete(lease, result=result, artifacts=(model,))

    def tournament(self, name: str, games: list[tuple[str, tuple[int, ...]]], model: str = "") -> Any:
        entrants = (PlayerSpec("random"), PlayerSpec("gumbel", model, 16) if model else PlayerSpec("heuristic"))
        payload = TournamentPayload("square8", 2, entrants, len(games), 1)
        self.add(name, kind="tournament", config=CONFIG, payload=raw(payload))
        lease = self.lease()
        self.store("games1", kind="games")
        seats = tuple(entrant.key for entrant in entrants)
        played = tuple(GameResult(game, seats, ranks, 50, "x", "o1", "games1", 0) for game, ranks in games)
        return self.complete(lease, result=MatchesResult(played, 1000, ""), artifacts=("games1",))

    def match(self, name: str, kind: str, payload: object, games: list[GameResult], **verdict: Any) -> Any:
        """Run a job that plays matches to its end."""
        self.add(name, kind=kind, config=CONFIG, payload=raw(payload))
        lease = self.lease()
        assert lease.job == name
        self.store(*sorted({game.record for game in games}), kind="games")
        records = tuple(sorted({game.record for game in games}))
        return self.complete(lease, result=MatchesResult(tuple(games), 1000, "", **verdict), artifacts=records)


def _rest(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "kind"}
