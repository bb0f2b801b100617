"""A voter of a working cluster is replaced, and a new cluster is made from an export: no acknowledged write is lost."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from config.cluster import RaftSettings, VoterAddress
from tests.cluster.service.cluster import Cluster, cluster
from tests.cluster.service.test_voters import _produce, open_kind
from tests.ports import reserve_ports

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[3]


async def rift(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command of the CLI; returns its exit code and all that it wrote."""
    environment = {**os.environ, "RIFT_CONTEXT": str(folder / "context.yaml")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "rift.py", *arguments, cwd=ROOT, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


def write_context(voters: Cluster) -> Path:
    """Write the CLI's context beside the cluster's settings."""
    folder = voters.created.folder
    context = {
        "servers": [voter.http for voter in voters.voters],
        "token_file": str(voters.created.admin_token),
        "ca": str(voters.created.ca),
    }
    (folder / "context.yaml").write_text(yaml.safe_dump(context))
    return folder


async def well(folder: Path) -> None:
    """Wait until every voter answers and agrees."""
    async with asyncio.timeout(60):
        while True:
            code, out = await rift(folder, "cluster", "verify", "--json")
            if code == 0:
                return
            await asyncio.sleep(0.3)
            assert "Traceback" not in out, out


async def test_a_voter_is_replaced_and_the_state_outlives_the_cluster(tmp_path: Path) -> None:
    """Refusals say what to do; then one voter after the other restarts while clients go on enqueueing."""
    async with cluster(tmp_path / "cluster", 5) as voters:
        folder = write_context(voters)
        await voters.wait_ready()
        async with voters.client() as client:
            await open_kind(client)
        await well(folder)
        code, out = await rift(folder, "doctor", "--config", str(folder / "voter-1.yaml"))
        assert code == 0, out
        replace = ("cluster", "replace", "voter-2", "voter-6", "--folder", str(folder), "--address")
        new_address = f"127.0.0.1:{reserve_ports(3)[0]}"
        code, out = await rift(folder, *replace, f"127.0.0.1:{voters.voters[0].http_port}")
        assert (code, "overlaps with the ports of voter-1" in out) == (1, True), out
        code, out = await rift(folder, *replace, new_address)
        assert (code, "still answers: stop it for good" in out) == (1, True), out
        assert not (folder / "voter-6.yaml").exists()
        acknowledged: list[str] = []
        stop = asyncio.Event()
        producers = [asyncio.create_task(_produce(voters, n, acknowledged, stop)) for n in range(2)]
        await _replaced(voters, folder, (*replace, new_address), acknowledged)
        stop.set()
        await asyncio.gather(*producers)
        ids = [voter.id for voter in voters.voters]
        async with voters.client(only="voter-6") as client:
            missing = [name for name in acknowledged if (await client.query("job", job=name)).get("id") != name]
        assert len(acknowledged) > 20
        assert not missing
        for voter in ids:
            assert await voters.stop(voter) == 0
        await _outlives(tmp_path, folder, ids, acknowledged[-1])


async def _replaced(voters: Cluster, folder: Path, command: tuple[str, ...], acknowledged: list[str]) -> None:
    """Follow the procedure to its end."""
    assert await voters.stop("voter-2") == 0
    shutil.rmtree(folder / "data/voter-2")
    code, out = await rift(folder, *command, "--json")
    assert code == 0, out
    steps = json.loads(out)
    assert steps["restart"] == ["voter-1", "voter-3", "voter-4", "voter-5"]
    named = yaml.safe_load((folder / "cluster.yaml").read_text())["voters"]
    voters.voters = tuple(VoterAddress(**voter) for voter in named)
    (folder / "context.yaml").unlink()
    write_context(voters)
    for voter in steps["restart"]:
        before = len(acknowledged)
        await voters.stop(voter)
        await voters.start(voter)
        async with asyncio.timeout(30):
            while len(acknowledged) <= before:
                await asyncio.sleep(0.05)
    await voters.start("voter-6")
    await well(folder)


async def _outlives(tmp_path: Path, folder: Path, ids: list[str], job: str) -> None:
    """The stopped voters' folders verify; from a majority of them a cluster of three is made that knows the job."""
    data = [str(folder / "data" / voter) for voter in ids]
    code, out = await rift(folder, "cluster", "verify", *data, "--json")
    assert code == 0, out
    assert len({row["digest"] for row in json.loads(out)}) == 1
    file = str(tmp_path / "state.export")
    code, out = await rift(folder, "cluster", "export", *data[:2], "--out", file)
    assert (code, "may lack acknowledged writes" in out) == (1, True), out
    code, out = await rift(folder, "cluster", "export", *data[:3], "--out", file)
    assert code == 0, out
    fresh = Cluster(tmp_path / "new", 3, RaftSettings())
    for secret in ("token.key", "admin.token"):  # tokens are part of the state, by hashes under this key
        shutil.copy(folder / "secrets" / secret, fresh.created.folder / "secrets" / secret)
    for config in fresh.created.voters:
        code, out = await rift(folder, "cluster", "restore", file, "--config", str(config))
        assert code == 0, out
    try:
        await fresh.start_all()
        await fresh.wait_ready()
        async with fresh.client() as client:
            assert (await client.query("job", job=job))["id"] == job
    finally:
        await fresh.stop_all()
