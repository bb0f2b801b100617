"""What a voter says of its own machine: to other voters, in /status and in the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.unit.workqueue.conftest import running_voter
from workqueue.http.standing import days_left, standing
from workqueue.tls import client_context

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_voter_tells_its_standing_to_voters_only(tmp_path: Path) -> None:
    """Clock, disk and certificate are true; a token is not enough, the status document has it for people."""
    async with running_voter(tmp_path, real=True) as voter, aiohttp.ClientSession() as session:
        found = await standing(voter.context)
        assert found.voter == "voter-1"
        assert found.disk_free_mb > 0
        assert found.certificate_days > 1000
        assert found.divergences == 0
        headers = {"Authorization": f"Bearer {voter.token('admin')}"}
        tls = client_context(voter.created.ca)
        async with session.get(f"{voter.url}/v1/standing", headers=headers, ssl=tls) as answer:
            assert answer.status == 403
        async with session.get(f"{voter.url}/status", headers=headers, ssl=tls) as answer:
            assert (await answer.json())["standing"]["store_quota_mb"] == found.store_quota_mb
        async with session.get(f"{voter.url}/metrics", headers=headers, ssl=tls) as answer:
            assert "rift_disk_free_bytes" in await answer.text()
        peers = voter.context.peers.session  # shows the voter's certificate
        async with peers.get(f"{voter.url}/v1/standing") as answer:
            assert (await answer.json())["voter"] == "voter-1"


def test_the_end_of_a_certificate_is_seen(tmp_path: Path) -> None:
    """Days are counted down to the end and below."""
    from workqueue.authority import issue, new_ca

    ca, key = new_ca("c")
    cert, _ = issue(ca, key, "voter-1", [])
    path = tmp_path / "voter.pem"
    path.write_text(cert)
    now_ms = 1_800_000_000_000
    assert days_left(path, now_ms) - days_left(path, now_ms + 10 * 86_400_000) == pytest.approx(10)
    assert days_left(path, now_ms + 3650 * 86_400_000) < 0
