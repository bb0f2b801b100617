"""A cluster with something to see: workers, jobs in every state, generations of models, alerts."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from typing import TYPE_CHECKING, Any

import msgspec

from workqueue.machine import commands as c
from workqueue.machine.outcomes import Granted, Lease, Refused
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

if TYPE_CHECKING:
    from tests.unit.workqueue.conftest import Voter

KINDS = ("selfplay", "train", "tournament", "evaluate", "thumbnail")
NAMES = {"square8_2p": ("square8", 2), "hex8_3p": ("hex8", 3)}


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def player_of(model: str) -> PlayerSpec:
    """Who plays against itself."""
    return PlayerSpec("gumbel", model, 32) if model else PlayerSpec("heuristic")


class Scene:
    """Proposes commands to a voter's log as whoever it likes."""

    def __init__(self, voter: Voter) -> None:
        self._replica = voter.replica
        self._numbers = itertools.count(1)

    async def do(self, command: Any, actor: str = "admin:alice") -> Any:
        request = c.Request("scene", next(self._numbers), actor, command)
        [outcome] = await self._replica.propose([msgspec.msgpack.encode(request)])
        assert not isinstance(outcome, Refused), outcome
        return outcome

    async def worker(self, name: str, **fields: Any) -> None:
        capability = c.Capability(**{"cpus": 8, "ram_mb": 64_000, "disk_mb": 64_000, "kinds": KINDS} | fields)
        await self.do(c.RegisterWorker(name, "b1", capability), f"worker:{name}")

    async def add(self, name: str, kind: str, config: str, payload: object, **fields: Any) -> None:
        await self.do(c.Enqueue((c.JobSpec(name, kind, raw(payload), config, **fields),)), "voter:voter-1")

    async def lease(self, worker: str, kind: str) -> Lease:
        granted = await self.do(c.Claim(worker, "b1", c.Free(8, 64_000, 64_000, (24_000,), (0,)), 1, kinds=(kind,)))
        assert isinstance(granted, Granted), granted
        return granted.leases[0]

    async def complete(self, worker: str, lease: Lease, result: object, *refs: c.ArtifactRef) -> None:
        for ref in refs:
            await self.do(c.RegisterArtifact(ref, ("voter-1",)))
        completion = c.Completion(lease.job, lease.attempt, raw(result), refs)
        [settled] = (await self.do(c.Complete(worker, (completion,)), f"worker:{worker}")).settled
        assert not isinstance(settled, Refused), settled

    async def progress(self, worker: str, lease: Lease, **report: Any) -> None:
        await self.do(c.Renew(worker, "b1", (c.LeaseRenewal(lease.job, lease.attempt, raw(report)),)))

    async def selfplay(self, name: str, config: str, model: str = "", **fields: Any) -> None:
        board, players = NAMES[config]
        await self.add(name, "selfplay", config, SelfplayPayload(board, players, player_of(model), 200, 1), **fields)

    async def generation(self, config: str, n: int, parent: str, score: int) -> str:
        """Self-play, a training, and a tournament that the new model wins `score` of 10."""
        await asyncio.sleep(0.002)  # generations are told apart by when they were made
        board, players = NAMES[config]
        await self.selfplay(f"play-{config}-{n}", config, parent)
        lease = await self.lease("gpu-1", "selfplay")
        shard = c.ArtifactRef(digest(f"shard {config} {n}"), 4_000_000, "shard")
        wins = (100,) * players
        ref = ShardRef(shard.sha256, shard.size_bytes, 200, 12_000)
        result = SelfplayResult(200, 12_000, 12_000, 60_000, (ref,), wins, player_of(parent).key, "")
        await self.complete("gpu-1", lease, result, shard)
        model = c.ArtifactRef(digest(f"model {config} {n}"), 1_200_000, "weights")
        payload = TrainPayload(board, players, (shard.sha256,), 400, 1, parent=parent)
        await self.add(f"train-{config}-{n}", "train", config, payload)
        lease = await self.lease("gpu-1", "train")
        trained = TrainResult(
            model.sha256,
            model.size_bytes,
            400,
            100_000,
            2_100 - 150 * n,
            900,
            400,
            2_200,
            50_000,
            raw({"arch": "32x4"}),
        )
        await self.complete("gpu-1", lease, trained, model)
        await self.tournament(config, n, model.sha256, parent, score)
        return model.sha256

    async def tournament(self, config: str, n: int, model: str, parent: str, score: int) -> None:
        board, players = NAMES[config]
        rival = PlayerSpec("gumbel", parent, 16) if parent else PlayerSpec("random")
        entrants = (PlayerSpec("gumbel", model, 16), rival)
        await self.add(f"cup-{config}-{n}", "tournament", config, TournamentPayload(board, players, entrants, 10, 1))
        lease = await self.lease("cpu-1", "tournament")
        seats = tuple(entrants[k % 2].key for k in range(players))
        record = c.ArtifactRef(digest(f"games {config} {n}"), 30_000, "games")
        games = []
        for k in range(10):
            ranks = tuple(1 if (seat % 2 == 0) == (k < score) else 2 for seat in range(players))
            games.append(GameResult(f"{config}-{n}-{k}", seats, ranks, 60, "territory", "o", record.sha256, k))
        await self.complete("cpu-1", lease, MatchesResult(tuple(games), 9_000, ""), record)

    async def promote(self, config: str, model: str, champion: str, games: tuple[str, ...]) -> None:
        rule = "sprt" if champion else "manual"
        evidence = c.Evidence(rule, champion, games, 10, 7, 1, 2, 3_100, 2_944, {"random": (930, 100, 850)}, "strong")
        await self.do(c.SetAlias(f"champion/{config}", model, champion, evidence, "better"), "voter:voter-1")

    async def build(self) -> None:
        """Everything."""
        await self.do(c.RegisterKind("thumbnail"))
        for name in ("gpu-1", "gpu-2"):
            await self.worker(name, devices=(("NVIDIA H100", 80_000),))
        for n in range(1, 4):
            await self.worker(f"cpu-{n}")
        for config, scores in (("square8_2p", (9, 8, 4, 7, 8)), ("hex8_3p", (8, 7, 6))):
            champion = ""
            for n, score in enumerate(scores, 1):
                model = await self.generation(config, n, champion, score)
                if score > 5:
                    games = tuple(f"{config}/{config}-{n}-{k}" for k in range(10))
                    await self.promote(config, model, champion, games)
                    champion = model
                else:
                    evidence = c.Evidence("sprt", champion, (), 10, 4, 0, 6, -3_000, 2_944, note="lost")
                    await self.do(c.RejectModel(model, evidence, "the test ended below its lower bound"))
        await self._queue()
        await self.do(c.DrainWorker("cpu-2", True, "kernel update"))
        await self.do(c.QuarantineWorker("cpu-3", True, "wrong results in a canary"))
        await self.do(c.SetAlert("worker_silent", "cpu-3", True, "no heartbeat for 40 s"), "voter:voter-1")
        await self.do(c.Halt("hex8_3p", "waiting for more disk"), "admin:bob")

    async def _queue(self) -> None:
        for n in range(12):
            await self.selfplay(f"selfplay-square8_2p-{n:04}", "square8_2p")
        for n, (worker, done) in enumerate((("gpu-1", 120), ("gpu-2", 37), ("cpu-1", 5))):
            lease = await self.lease(worker, "selfplay")
            await self.progress(worker, lease, done=done, total=200, games_s=3.5 - n)
        for n in range(4):
            await self.add(f"thumb-{n}", "thumbnail", "", {"file": f"{n}.jpg"})
        await self.do(c.Hold(("thumb-3",), "later"))
        await self.do(c.Cancel(("thumb-2",), "not needed"))
