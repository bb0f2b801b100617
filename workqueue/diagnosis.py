"""What `rift doctor` looks at: findings from what the voters answer and from the files of this machine.

Everything here is a judgement on values that were gathered before, so that each can be tested with values of its own.
"""

from __future__ import annotations

import datetime
import shutil
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from cryptography import x509

from config.cluster import TOKEN_KEY
from workqueue.census import Answer, differing_digests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workqueue.process import VoterConfig

SPACE_MIN_MB = 1024
DAYS_MIN = 30
CLOCK_MAX_MS = 1000  # beyond the doubt of the measurement
LINK_S = 3.0


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str
    ok: bool
    detail: str


def well(check: str, detail: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(check, ok=True, detail=detail)


def wrong(check: str, detail: str) -> Finding:
    """Return a finding that needs somebody."""
    return Finding(check, ok=False, detail=detail)


def of_voters(answers: Sequence[Answer], version: str) -> list[Finding]:
    """Judge what the voters say of themselves and of each other."""
    up = [answer for answer in answers if answer.document is not None]
    silent = [f"{a.url}: {a.reason}" for a in answers if a.document is None]
    found = [Finding("voters", not silent, "; ".join(silent) or f"{len(up)} of {len(answers)} answer")]
    if not up:
        return found
    found += [_leader(up), _links(up), _gossip(up), _clocks(up), _versions(up, version), _digests(up), _disks(up)]
    return [*found, *_state(up)]


def _leader(up: Sequence[Answer]) -> Finding:
    named = {a.consensus["leader"] for a in up if a.consensus["leader"]}
    unready = [a.name for a in up if not a.consensus["ready"]]
    if len(named) != 1:
        return wrong("leader", f"{', '.join(sorted(named)) or 'nobody'} leads: start more voters, or wait")
    if unready:
        return wrong("leader", f"{', '.join(unready)}: not ready, the log is being caught up")
    return well("leader", f"{named.pop()} in term {max(a.consensus['term'] for a in up)}")


def _links(up: Sequence[Answer]) -> Finding:
    """Whether each voter has a Raft link to each other voter: a closed port shows here."""
    short = []
    for answer in up:
        others = len(answer.consensus["voters"]) - 1
        links = int(answer.consensus["metrics"].get("links", others))
        if links < others:
            short.append(f"{answer.name} has {links} of {others} Raft links")
    detail = "; ".join(short) + ": open the voters' Raft ports (TCP) between them" if short else "all Raft links are up"
    return Finding("ports, Raft", not short, detail)


def _gossip(up: Sequence[Answer]) -> Finding:
    """Whether each voter hears each other voter by UDP."""
    deaf = []
    for answer in up:
        assert answer.document is not None
        members = {m["id"]: m["state"] for m in answer.document["membership"] if m["role"] == "voter"}
        missing = [v["id"] for v in answer.consensus["voters"] if members.get(v["id"]) != "alive"]
        if members and missing:
            deaf.append(f"{answer.name} does not hear {', '.join(missing)}")
    detail = "; ".join(deaf) + ": open the gossip ports (UDP)" if deaf else "every voter hears every other"
    return Finding("ports, gossip", not deaf, detail)


def _clocks(up: Sequence[Answer]) -> Finding:
    off = [
        f"{a.name} is {a.clock_ahead_ms:+d} ms"
        for a in up
        if abs(a.clock_ahead_ms) > CLOCK_MAX_MS + a.clock_doubt_ms
    ]  # fmt: skip
    if off:
        return wrong("clocks", f"{'; '.join(off)} from this machine's: run NTP on all of them")
    most = max(up, key=lambda a: abs(a.clock_ahead_ms))
    return well("clocks", f"at most {abs(most.clock_ahead_ms)} ms (within {most.clock_doubt_ms}) from this one's")


def _versions(up: Sequence[Answer], version: str) -> Finding:
    found: dict[str, list[str]] = {}
    for answer in up:
        assert answer.document is not None
        found.setdefault(answer.document["version"], []).append(answer.name)
    if set(found) == {version}:
        return well("versions", f"{version} everywhere")
    listed = "; ".join(f"{each} on {', '.join(names)}" for each, names in sorted(found.items()))
    return wrong("versions", f"{listed}; {version} here: install one version, voters first")


def _digests(up: Sequence[Answer]) -> Finding:
    index, digests = differing_digests(up)
    if not digests:
        return well("digests", "none to compare yet: they are taken every 1,000 entries")
    if len(set(digests.values())) == 1:
        return well("digests", f"{len(digests)} voters hold the same state at entry {index}")
    common = max(digests.values(), key=list(digests.values()).count)
    odd = ", ".join(name for name, digest in digests.items() if digest != common)
    return wrong("digests", f"{odd} differ at entry {index}: stop them, keep their folders, and replace them")


def _disks(up: Sequence[Answer]) -> Finding:
    free = {a.name: int(a.document["disk_free_mb"]) for a in up if a.document is not None}
    low = [f"{name} has {mb} MiB free" for name, mb in free.items() if mb < SPACE_MIN_MB]
    least = min(free.values())
    return Finding("disks", not low, "; ".join(low) + f"; {SPACE_MIN_MB} are needed" if low else f"{least} MiB or more")


def _state(up: Sequence[Answer]) -> list[Finding]:
    newest: dict[str, Any] = max(up, key=lambda a: a.consensus["applied_index"]).document or {}
    state = newest["state"]
    live = sum(worker["live"] for worker in state["workers"])
    waiting = sum(state["jobs"].get("available", {}).values())
    return [
        Finding("workers", live > 0 or not waiting, f"{live} live, {waiting} jobs wait"),
        Finding(
            "alerts",
            not state["alerts"],
            f"{len(state['alerts'])} raised" + (": `rift alerts ls`" if state["alerts"] else ""),
        ),
    ]


# ---- certificates, files and ports


def of_certificate(name: str, pem: bytes, now_s: float | None = None) -> Finding:
    """Judge how long a certificate is still good for."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        return wrong("certificate", f"{name} is not a certificate: {error}")
    now_s = datetime.datetime.now(datetime.UTC).timestamp() if now_s is None else now_s
    if certificate.not_valid_before_utc.timestamp() > now_s:
        return wrong("certificate", f"{name} is not valid yet: look at this machine's clock")
    days = (certificate.not_valid_after_utc.timestamp() - now_s) / 86_400
    if days <= 0:
        return wrong("certificate", f"{name} expired {-days:.0f} days ago: issue a new one")
    return Finding("certificate", days > DAYS_MIN, f"{name} is valid for {days:.0f} more days")


def served_certificate(url: str) -> Finding:
    """Judge the certificate that a voter shows."""
    parts = urlsplit(url)
    try:
        pem = ssl.get_server_certificate((parts.hostname or "", parts.port or 443), timeout=LINK_S)
    except OSError as error:
        return wrong("certificate", f"{url} shows none: {error}")
    return of_certificate(url, pem.encode())


def of_file(check: str, path: Path) -> Finding:
    """Judge a file that must exist and be readable by its owner only."""
    if not path.exists():
        return wrong(check, f"{path} does not exist")
    private = not path.stat().st_mode & 0o077
    return Finding(check, private, f"{path}" if private else f"{path} can be read by others: chmod 600 it")


def of_space(name: str, folder: Path) -> Finding:
    """Judge the free space where a folder lies."""
    while not folder.exists():
        folder = folder.parent
    free_mb = shutil.disk_usage(folder).free >> 20
    return Finding("disk", free_mb >= SPACE_MIN_MB, f"{name}: {free_mb} MiB free; {SPACE_MIN_MB} are needed")


def of_voter(config: VoterConfig) -> list[Finding]:
    """Judge the files and ports of a voter of this machine."""
    cluster = config.cluster
    found = [of_space(str(config.data), config.data), of_file("key", config.key)]
    found += [of_file("secret", config.folder / name) for name in (TOKEN_KEY, *cluster.gossip_keys)]
    found += [of_certificate_file(config.cert), of_certificate_file(config.ca)]
    me = cluster.voter(config.voter.id)
    running = _listens(me.host, me.http_port)
    for what, port in (("HTTP", me.http_port), ("Raft", me.raft_port)):
        open_ = _listens(me.host, port)
        alone = what == "Raft" and len(cluster.voters) == 1
        ok = open_ == running or alone
        state = "in use by the voter" if open_ and running else "free" if not open_ else "taken by another program"
        if running and not open_ and not alone:
            state = "closed although the voter runs: restart it"
        found.append(Finding(f"port, {what}", ok, f"{port} is {state}"))
    return found


def of_certificate_file(path: Path) -> Finding:
    """Judge a certificate in a file."""
    return of_certificate(str(path), path.read_bytes()) if path.exists() else wrong("certificate", f"no {path}")


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), LINK_S):
            return True
    except OSError:
        return False
