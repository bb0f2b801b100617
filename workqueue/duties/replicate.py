"""Keeps every artifact on as many voters as `store.replicas` asks for, and voters free of what nobody knows.

Each round compares the registry with what the voters that answer really hold: a copy that is gone is dropped from the
registry, one that is missing is made by asking a voter to pull it, and bytes that the registry has not known for a
while are deleted. Nothing is remembered between rounds but since when bytes are unknown and voters away, and losing
that only delays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from workqueue.errors import ClientError
from workqueue.http.copies import preference
from workqueue.machine.commands import ArtifactRef, DropHolder, RegisterArtifact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workqueue.duties.context import DutyContext
    from workqueue.machine.commands import AnyCommand

log = structlog.get_logger()
_INVENTORY = msgspec.json.Decoder(dict[str, int])
PAGE = 1000


class Copy(msgspec.Struct, frozen=True):
    """Have `voter` pull an artifact from `source`."""

    ref: ArtifactRef
    source: str
    voter: str


class Plan(msgspec.Struct, frozen=True):
    """What one round does."""

    copies: tuple[Copy, ...] = ()
    lost: tuple[tuple[str, str], ...] = ()  # (sha256, voter) registered but not there
    found: tuple[tuple[ArtifactRef, str], ...] = ()  # there but not registered as a holder
    unknown: tuple[tuple[str, str], ...] = ()  # (sha256, voter) that the registry does not know


def make_plan(
    known: Mapping[str, tuple[ArtifactRef, Sequence[str]]],
    held: Mapping[str, Mapping[str, int]],
    replicas: int,
    copies_max: int,
    trusted: frozenset[str] = frozenset(),
) -> Plan:
    """Compare the registry (`known`) with what the voters that answer hold (`held`); pure.

    A voter in `trusted` does not answer but has not been away for long: its copies still count.
    """
    copies: list[Copy] = []
    lost: list[tuple[str, str]] = []
    found: list[tuple[ArtifactRef, str]] = []
    for sha256, (ref, holders) in known.items():
        having = [voter for voter in held if held[voter].get(sha256) == ref.size_bytes]
        lost += [(sha256, voter) for voter in holders if voter in held and voter not in having]
        found += [(ref, voter) for voter in having if voter not in holders]
        need = replicas - len(having) - len(trusted.intersection(holders))
        wanting = [voter for voter in preference(sha256, list(held)) if voter not in having]
        if having:
            copies += [Copy(ref, having[0], voter) for voter in wanting[: max(need, 0)]]
    unknown = [(sha256, voter) for voter, inventory in held.items() for sha256 in inventory if sha256 not in known]
    return Plan(tuple(copies[:copies_max]), tuple(lost), tuple(found), tuple(unknown))


class Replicate:
    """The leader's duty over artifacts."""

    name = "replicate"
    period_s = 10.0

    def __init__(self, grace_ms: int = 3_600_000, away_ms: int = 300_000, copies_max: int = 50) -> None:
        self._grace_ms = grace_ms
        self._away_ms = away_ms
        self._away_since: dict[str, int] = {}
        self._copies_max = copies_max
        self._first_seen: dict[tuple[str, str], int] = {}

    async def run(self, context: DutyContext) -> None:
        """One round."""
        if context.store.shared:
            return
        known = await _registry(context)
        held = await _inventories(context)
        trusted = self._trusted(set(context.front.holders.urls) - set(held), context.now_ms())
        plan = make_plan(known, held, context.settings.store.replicas, self._copies_max, trusted)
        commands: list[AnyCommand] = [DropHolder(sha256, voter) for sha256, voter in plan.lost]
        commands += [RegisterArtifact(ref, (voter,)) for ref, voter in plan.found]
        commands += [RegisterArtifact(copy.ref, (copy.voter,)) for copy in plan.copies if await _pulled(context, copy)]
        if commands:
            await context.propose(*commands)
            log.info("artifacts.repaired", copies=len(plan.copies), lost=len(plan.lost), found=len(plan.found))
        await self._delete_unknown(context, plan.unknown)

    def _trusted(self, away: set[str], now_ms: int) -> frozenset[str]:
        """Voters that a restart may bring back: copying all they hold would be too early."""
        self._away_since = {voter: self._away_since.get(voter, now_ms) for voter in away}
        return frozenset(voter for voter, since in self._away_since.items() if now_ms - since < self._away_ms)

    async def _delete_unknown(self, context: DutyContext, unknown: Sequence[tuple[str, str]]) -> None:
        """Delete what has been unknown for the grace: an upload is on disk a moment before it is registered."""
        now = context.now_ms()
        self._first_seen = {pair: self._first_seen.get(pair, now) for pair in unknown}
        for sha256, voter in unknown:
            if now - self._first_seen[sha256, voter] < self._grace_ms:
                continue
            try:
                if voter == context.voter_id:
                    await context.store.delete(sha256)
                else:
                    await context.front.holders.call(voter, "DELETE", f"/v1/artifacts/{sha256}")
            except ClientError as error:
                log.info("artifacts.undeleted", sha256=sha256, voter=voter, reason=str(error))


async def _registry(context: DutyContext) -> dict[str, tuple[ArtifactRef, Sequence[str]]]:
    known: dict[str, tuple[ArtifactRef, Sequence[str]]] = {}
    offset = 0
    while True:
        rows = await context.query("artifacts", limit=PAGE, offset=offset)
        for row in map(msgspec.to_builtins, rows):
            ref = ArtifactRef(row["sha256"], row["size_bytes"], row["kind"])
            known[ref.sha256] = (ref, tuple(row.get("holders", ())))
        if len(rows) < PAGE:
            return known
        offset += PAGE


async def _inventories(context: DutyContext) -> dict[str, Mapping[str, int]]:
    held: dict[str, Mapping[str, int]] = {context.voter_id: await context.store.inventory()}
    for voter in context.front.holders.urls:
        try:
            held[voter] = _INVENTORY.decode(await context.front.holders.call(voter, "GET", "/v1/artifact-inventory"))
        except (ClientError, msgspec.DecodeError) as error:
            log.info("artifacts.unseen", voter=voter, reason=str(error))
    return held


async def _pulled(context: DutyContext, copy: Copy) -> bool:
    query = {"from": copy.source, "size": str(copy.ref.size_bytes)}
    try:
        if copy.voter == context.voter_id:
            path = await context.store.room(copy.ref.sha256, copy.ref.size_bytes)
            await context.front.holders.pull(copy.source, copy.ref.sha256, path)
            context.store.adopt(path, copy.ref.sha256)
        else:
            await context.front.holders.call(copy.voter, "POST", f"/v1/artifacts/{copy.ref.sha256}/pull", query)
    except ClientError as error:
        log.info("artifacts.uncopied", sha256=copy.ref.sha256, voter=copy.voter, reason=str(error))
        return False
    return True


DUTY = Replicate()
