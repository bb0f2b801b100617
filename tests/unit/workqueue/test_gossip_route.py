"""What workers are told of the voters' gossip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from membership.settings import SUSPICION_MULT
from workqueue.client import Client
from workqueue.errors import Rejected
from workqueue.peering import PATH, Peering

if TYPE_CHECKING:
    from tests.unit.workqueue.conftest import Voter


async def test_a_worker_learns_where_and_how_voters_gossip(voter: Voter) -> None:
    """Addresses, pace and the cluster's name; the key travels by file only."""
    async with voter.client() as client:
        answer = await client.get(PATH)
    peering = msgspec.json.decode(answer, type=Peering)
    settings = voter.context.settings
    assert peering.cluster == settings.cluster_id
    assert peering.seeds == tuple(each.gossip for each in settings.voters)
    assert (peering.period_ms, peering.suspicion_mult) == (settings.gossip.period_ms, SUSPICION_MULT)
    assert b"key" not in answer


async def test_who_may_not_work_is_not_told(voter: Voter) -> None:
    """Without a worker's token there is no answer."""
    async with Client([voter.url], token="none", ca=voter.created.ca) as client:
        with pytest.raises(Rejected):
            await client.get(PATH)
