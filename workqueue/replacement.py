"""Replacing one voter by another in a cluster that goes on working.

The order makes it safe. The old voter is stopped for good. Then a new leader commits an entry, which takes a majority
without the old voter: from now on everything that was ever acknowledged is on more than half of those that stay. Then
the voters that stay are restarted one by one with the new settings, and the new voter is started with an empty
folder. Any majority before and any majority after share a voter that stays.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from config.cluster import CA, ClusterSettings, Replaced, VoterAddress, VoterSettings
from config.errors import ConfigError
from config.load import load
from workqueue.authority import issue
from workqueue.census import Answer, ask_all
from workqueue.client import Client
from workqueue.errors import ClientError
from workqueue.security import read_secret, write_secret

if TYPE_CHECKING:
    from collections.abc import Callable

SETTLE_S = 30.0


class Refused(ConfigError):
    """The voter can't be replaced now; the reason says what to do."""


class Plan(msgspec.Struct, frozen=True):
    """A replacement that may go on."""

    folder: Path
    settings: ClusterSettings
    old: str
    new: VoterAddress

    @property
    def stay(self) -> tuple[VoterAddress, ...]:
        """The voters that stay."""
        return tuple(voter for voter in self.settings.voters if voter.id != self.old)


def plan(folder: Path, old: str, new: str, address: str) -> Plan:
    """Check what the cluster's folder says; raises Refused or ConfigError."""
    settings = load(ClusterSettings, folder / "cluster.yaml")
    where = str(folder / "cluster.yaml")
    named = [voter.id for voter in settings.voters]
    if old not in named:
        raise Refused(where, f"has no voter {old!r}; it has {', '.join(named)}")
    if new in named or new in {each.old for each in settings.replaced}:
        raise Refused(where, f"knows the name {new!r} already; choose one that no voter ever had")
    if len(named) < 3:
        raise Refused(where, f"names {len(named)} voters: without {old} no majority is left; restore from an export")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65_534:
        raise Refused("--address", f"{address!r} is not HOST:PORT (the port of HTTP; Raft and gossip get the next two)")
    made = VoterAddress(new, host.strip("[]"), int(port), int(port) + 1, int(port) + 2)
    for voter in settings.voters:
        if voter.host == made.host and {voter.http_port, voter.raft_port, voter.gossip_port} & {
            made.http_port, made.raft_port, made.gossip_port
        }:  # fmt: skip
            raise Refused("--address", f"{address} overlaps with the ports of {voter.id}")
    if not (folder / "secrets/ca.key").exists():
        raise Refused(str(folder), "has no secrets/ca.key: run this where `rift init` wrote the cluster's folder")
    return Plan(folder, settings, old, made)


async def retire(going: Plan, token: str, say: Callable[[str], None]) -> int:
    """Make sure that the old voter is stopped and not needed; returns an index that was committed without it."""
    ca = going.folder / CA
    answers = {voter.id: found for voter, found in zip(
        going.settings.voters, await ask_all([v.http for v in going.settings.voters], token, ca), strict=True
    )}  # fmt: skip
    _check(going, answers)
    say(f"{going.old} does not answer; the other {len(going.stay)} voters do")
    async with Client([voter.http for voter in going.stay], token=token, ca=ca, deadline_s=30) as client:
        before = max(answers[voter.id].consensus["term"] for voter in going.stay)
        try:
            await client.cluster("transfer", "")
        except ClientError as error:
            raise Refused("the leader", f"could not be changed: {error}; try again") from error
    return await _settled(going, token, ca, before)


def _check(going: Plan, answers: dict[str, Answer]) -> None:
    if answers[going.old].document is not None:
        raise Refused(
            going.old, "still answers: stop it for good and remove its data folder; it must never start again"
        )
    for voter in going.stay:
        found = answers[voter.id]
        if found.document is None:
            raise Refused(voter.id, f"does not answer ({found.reason}): start it first; voters are replaced one by one")
        if not found.consensus["ready"]:
            raise Refused(voter.id, "is not ready: wait until it has caught up")
        named = {each["id"] for each in found.consensus["voters"]}
        if named != {each.id for each in going.settings.voters}:
            raise Refused(
                voter.id,
                f"runs with the voters {', '.join(sorted(named))}: finish the last replacement first, restarting it "
                "with the present cluster.yaml",
            )


async def _settled(going: Plan, token: str, ca: Path, before: int) -> int:
    """Wait until a leader of a newer term has committed, and every voter that stays has applied that."""
    index = 0
    async with asyncio.timeout(SETTLE_S):
        while True:
            answers = await ask_all([voter.http for voter in going.stay], token, ca)
            views = [a.consensus for a in answers if a.document]
            led = [v for v in views if v["role"] == "leader" and v["ready"] and v["term"] > before]
            if led and not index:
                index = int(led[0]["commit_index"])
            if index and len(views) == len(going.stay) and all(v["applied_index"] >= index for v in views):
                return index
            await asyncio.sleep(0.2)


def write(going: Plan, index: int) -> Path:
    """Write the new voter's certificate, key and settings, and cluster.yaml with it in place; returns its settings."""
    folder, new = going.folder, going.new
    ca_pem, ca_key = (folder / CA).read_text(), read_secret(folder / "secrets/ca.key").decode()
    pem, private = issue(ca_pem, ca_key, new.id, (new.host,))
    (folder / "certs" / f"{new.id}.pem").write_text(pem)
    write_secret(folder / "certs" / f"{new.id}.key", private)
    own = VoterSettings(new.id, f"data/{new.id}", "cluster.yaml", f"certs/{new.id}.pem", f"certs/{new.id}.key")
    path = folder / f"{new.id}.yaml"
    path.write_text(yaml.safe_dump(msgspec.to_builtins(own), sort_keys=False))
    tree: dict[str, Any] = yaml.safe_load((folder / "cluster.yaml").read_text())
    voters = [*going.stay, new]
    tree["voters"] = [msgspec.to_builtins(voter) for voter in voters]
    replaced = (*going.settings.replaced, Replaced(going.old, new.id, index))
    tree["replaced"] = [msgspec.to_builtins(each) for each in replaced]
    temporary = folder / "cluster.yaml.new"
    temporary.write_text(yaml.safe_dump(tree, sort_keys=False))
    (folder / "cluster.yaml").replace(folder / "cluster.yaml.before")
    temporary.replace(folder / "cluster.yaml")
    return path
