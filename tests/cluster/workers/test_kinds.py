"""Every built-in kind once, in the runner of a real worker, with what real jobs before it have made."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from tests.cluster.service.cluster import cluster
from tests.cluster.workers.conftest import reach
from tests.cluster.workers.harness import Worker, workers_ended
from workqueue.machine.commands import Enqueue, JobSpec
from workqueue.schema import (
    KINDS,
    BenchmarkPayload,
    EvaluatePayload,
    ExportPayload,
    GauntletPayload,
    PlayerSpec,
    Schema,
    SelfplayPayload,
    TournamentPayload,
    TrainPayload,
    VerifyPayload,
)

if TYPE_CHECKING:
    from pathlib import Path

    from workqueue.client import Client

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
BOARD, PLAYERS, CONFIG = "square8", 2, "square8_2p"
RANDOM, HEURISTIC = PlayerSpec("random"), PlayerSpec("heuristic")


class Jobs:
    """Enqueues jobs and waits for their results, which the state machine has accepted."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.done: dict[str, dict[str, Any]] = {}

    async def run(self, **payloads: Schema) -> list[dict[str, Any]]:
        """Run jobs beside each other; named `kind` or `kind_more`."""
        specs = []
        for name, payload in payloads.items():
            kind = name.split("_")[0]
            config = CONFIG if hasattr(payload, "players") else ""
            specs.append(JobSpec(name, kind, msgspec.Raw(msgspec.msgpack.encode(payload)), config=config))
        await self._client.submit(Enqueue(tuple(specs)))
        for name in payloads:
            job = await reach(self._client, name, "completed", "failed", timeout_s=150)
            assert job["state"] == "completed", (job["reason"], job["causes"])
            self.done[name] = job["result"]
        return [self.done[name] for name in payloads]


async def test_every_kind_runs_on_a_real_worker(tmp_path: Path) -> None:
    """Games are played, trained on, exported, verified and rated; what comes out fits together."""
    async with cluster(tmp_path / "voters", 1) as voters, voters.client() as client:
        created, urls = voters.created, [voter.http for voter in voters.voters]
        flags = ("--slots", "2", "--threads", "1", "--kinds", ",".join(KINDS))
        worker = Worker(tmp_path, "w", urls, created.worker_token, created.ca, flags)
        async with workers_ended(worker):
            await worker.start()
            jobs = Jobs(client)
            played, rated = await jobs.run(
                selfplay=SelfplayPayload(BOARD, PLAYERS, HEURISTIC, games=4, seed=7, batch_games=4),
                tournament=TournamentPayload(BOARD, PLAYERS, (RANDOM, HEURISTIC), games=4, seed=1, purpose="manual"),
            )
            shards = tuple(shard["sha256"] for shard in played["shards"])
            trained, table, whole, games = await jobs.run(
                train=TrainPayload(BOARD, PLAYERS, shards, steps=4, seed=1, size="8x1", batch_size=16),
                export=ExportPayload(BOARD, PLAYERS, shards),
                verify_shard=VerifyPayload(shard=shards[0]),
                verify_record=VerifyPayload(record=rated["games"][0]["record"]),
            )
            net = PlayerSpec("gumbel", trained["model"], 2)
            usable, against, match, rates = await jobs.run(
                verify_model=VerifyPayload(model=trained["model"]),
                gauntlet=GauntletPayload(BOARD, PLAYERS, net, (RANDOM,), games=2, seed=1),
                evaluate=EvaluatePayload(BOARD, PLAYERS, net, RANDOM, games_max=4, seed=1),
                benchmark=BenchmarkPayload(BOARD, PLAYERS, seconds=1, model=trained["model"]),
            )
            await client.get_artifact(table["sha256"], tmp_path / "export.npz")
    assert {name.split("_")[0] for name in jobs.done} == set(KINDS)
    exported = np.load(io.BytesIO((tmp_path / "export.npz").read_bytes()), allow_pickle=False)
    assert {len(exported[name]) for name in exported.files} >= {played["positions"]}
    assert table["positions"] == played["positions"]
    assert (whole["ok"], whole["games"], games["ok"]) == (True, played["shards"][0]["games"], True)
    assert games["plies"][rated["games"][0].get("index", 0)] == rated["games"][0]["plies"]
    assert usable["ok"], usable
    assert len(rated["games"]) == 4
    assert {seat for game in against["games"] for seat in game["seats"]} == {net.key, RANDOM.key}
    assert match["verdict"] in {"accept", "reject", "undecided"}
    assert set(rates["rates"]) == {f"games_s/{CONFIG}", f"evals_s/{CONFIG}"}
    assert min(rates["rates"].values()) > 0
