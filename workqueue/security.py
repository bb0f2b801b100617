"""Who may do what: roles, and tokens.

A token is `rift_<id>_<secret>`. The cluster keeps HMAC-SHA256(token key, token); the secret has 256 bits of
chance, so a slow hash would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING

import msgspec

from config.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

ROLES = ("read", "worker", "admin", "voter")

# What each role may propose; admin may propose everything but what belongs to the leader's own duties.
WORKER_COMMANDS = frozenset({
    "Claim", "Renew", "Complete", "Fail", "Release", "RegisterWorker", "DeregisterWorker", "Acquire", "RenewLock",
    "Unlock",
})  # fmt: skip
VOTER_COMMANDS = frozenset({"BeginTerm", "Tick", "EndBoot", "Archive", "CollectArtifacts", "DropHolder", "SetAlert"})


class Identity(msgspec.Struct, frozen=True):
    """Who a connection or a request speaks for."""

    actor: str
    role: str
    token_id: str = ""


def may(role: str, needed: str) -> bool:
    """Whether `role` includes `needed`; roles are ordered read, worker, admin, voter."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(needed)


def may_propose(role: str, command: str) -> bool:
    """Whether `role` may propose a command of this type. Enqueue by workers is judged by kind, elsewhere."""
    if role == "voter":
        return True
    if role == "admin":
        return command not in VOTER_COMMANDS
    # Of workers' Enqueue and QuarantineWorker only some are let in: see `workqueue.admission`.
    return role == "worker" and (command in WORKER_COMMANDS or command in {"Enqueue", "QuarantineWorker"})


# ---- tokens


def new_token() -> tuple[str, str]:
    """Return (id, token); the token is shown once and never stored."""
    token_id = secrets.token_hex(6)
    return token_id, f"rift_{token_id}_{secrets.token_urlsafe(32)}"


def token_id_of(token: str) -> str:
    """Return the id inside a token, or "" when it has not the form of one."""
    parts = token.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "rift" else ""


def token_hash(key: bytes, token: str) -> str:
    """Return the keyed hash that the cluster keeps of a token."""
    return hmac.new(key, token.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def token_matches(key: bytes, token: str, known: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(token_hash(key, token), known)


def read_secret(path: Path) -> bytes:
    """Return a secret file's bytes without the line end; raises ConfigError."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}. `rift init` creates it.") from error
    if not secret:
        raise ConfigError(str(path), "is empty; it must hold a secret")
    return secret


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read; refuses to replace one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
