"""Artifacts on real voters: copies that a voter loses are made again, uploads survive the voter that took them."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from workqueue.blocks import Throttle
from workqueue.transfer import put_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.service.cluster import Cluster
    from workqueue.client import Client

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
SIZE = 6 << 20


def made(path: Path, seed: int) -> Path:
    path.write_bytes(hashlib.shake_128(seed.to_bytes(4)).digest(SIZE))
    return path


def whole(voters: Cluster, voter: str, sha256: str) -> bool:
    """Whether a voter's disk has these bytes under their name, and they are right."""
    path = voters.created.folder / f"data/{voter}/artifacts/objects/{sha256[:2]}/{sha256}"
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


async def holders(client: Client, sha256: str) -> list[str]:
    found: dict[str, Any] = await client.query("artifact", sha256=sha256)
    return sorted(found["holders"])


async def test_a_voter_that_lost_its_disk_is_made_good(voters: Cluster, tmp_path: Path) -> None:
    """Every artifact is on two voters again, whole, within some rounds of the duty."""
    async with voters.client() as client:
        refs = [await client.put_artifact(made(tmp_path / str(seed), seed), kind="other") for seed in range(4)]
        names = [ref.sha256 for ref in refs]
        before = {name: await holders(client, name) for name in names}
        assert all(len(found) == 2 for found in before.values())
        lost = before[names[0]][0]
        await voters.kill(lost)
        shutil.rmtree(voters.created.folder / f"data/{lost}/artifacts")
        await voters.start(lost)
        async with asyncio.timeout(60):
            for name in names:
                while (found := await holders(client, name)) and not (
                    len(found) >= 2 and all(whole(voters, voter, name) for voter in found)
                ):
                    await asyncio.sleep(0.3)
                assert found, "an artifact has no holder left"


async def test_an_upload_outlives_the_voter_that_took_it(voters: Cluster, tmp_path: Path) -> None:
    """kill -9 in the midst of an upload: it goes on at another voter, and ends up on two."""
    path = made(tmp_path / "a", 9)
    async with voters.client() as client:
        await client.query("settings")  # connects
        taking = client.servers[0]
        [victim] = [voter.id for voter in voters.voters if voter.http == taking]
        half = asyncio.Event()

        def progress(done: int, size: int) -> None:
            if done >= size // 2:
                half.set()

        async def kill() -> None:
            await half.wait()
            await voters.kill(victim)

        killing = asyncio.create_task(kill())
        ref = await put_artifact(client, path, kind="other", progress=progress, throttles=[Throttle(30_000)])
        await killing
        found = await holders(client, ref.sha256)
        alive = [voter for voter in found if voter != victim]
        assert len(alive) == 2
        assert all(whole(voters, voter, ref.sha256) for voter in alive)
