"""Create a cluster's folder: CA, a certificate a voter, keys, first tokens, and the settings files."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import yaml

from config.cluster import CA, TOKEN_KEY, ClusterSettings, RaftSettings, VoterAddress, VoterSettings
from config.errors import ConfigError
from config.loop import LoopSettings
from workqueue.authority import issue, new_ca
from workqueue.security import new_token, token_hash, write_secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIRST_TOKENS = "secrets/first-tokens.yaml"


class FirstToken(msgspec.Struct, frozen=True):
    """A token that a new cluster starts with, by its hash."""

    id: str
    role: str
    hash: str
    label: str


class Created(msgspec.Struct, frozen=True):
    """What `create` wrote."""

    folder: Path
    cluster: Path
    loop: Path
    voters: tuple[Path, ...]
    admin_token: Path
    worker_token: Path
    ca: Path


def loopback(count: int, base_port: int = 8770) -> tuple[VoterAddress, ...]:
    """Return addresses for `count` voters on this machine; each has three ports in a row, ten apart."""
    return tuple(
        VoterAddress(
            f"voter-{n}",
            "127.0.0.1",
            base_port + 10 * (n - 1),
            base_port + 10 * (n - 1) + 1,
            base_port + 10 * (n - 1) + 2,
        )
        for n in range(1, count + 1)
    )


def create(
    folder: Path,
    voters: Sequence[VoterAddress],
    *,
    loop: LoopSettings | None = None,
    raft: RaftSettings | None = None,
    extra: Mapping[str, object] | None = None,
) -> Created:
    """Write a new cluster into `folder`; raises ConfigError when one is there already."""
    if (folder / "cluster.yaml").exists():
        raise ConfigError(
            str(folder / "cluster.yaml"), "exists; choose another folder, or remove this one to start anew"
        )
    try:
        return _write(folder, tuple(voters), loop or LoopSettings(), raft or RaftSettings(), dict(extra or {}))
    except OSError as error:
        raise ConfigError(str(folder), f"cannot be written: {error.strerror}") from error


def _write(
    folder: Path,
    voters: tuple[VoterAddress, ...],
    loop: LoopSettings,
    raft: RaftSettings,
    extra: dict[str, object],
) -> Created:
    cluster_id = secrets.token_hex(8)
    settings = ClusterSettings(cluster_id, voters, raft=raft)
    certs = folder / "certs"
    certs.mkdir(parents=True, exist_ok=True)
    ca_pem, ca_key = new_ca(cluster_id)
    (folder / CA).write_text(ca_pem)
    write_secret(folder / "secrets/ca.key", ca_key)
    key = secrets.token_hex(32)
    write_secret(folder / TOKEN_KEY, key + "\n")
    write_secret(folder / settings.gossip_keys[0], base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
    files = []
    for voter in voters:
        pem, private = issue(ca_pem, ca_key, voter.id, (voter.host,))
        (certs / f"{voter.id}.pem").write_text(pem)
        write_secret(certs / f"{voter.id}.key", private)
        own = VoterSettings(
            voter.id, f"data/{voter.id}", "cluster.yaml", f"certs/{voter.id}.pem", f"certs/{voter.id}.key"
        )
        files.append(_yaml(folder / f"{voter.id}.yaml", msgspec.to_builtins(own)))
    tokens = _first_tokens(folder, key.encode())
    loop_file = _yaml(folder / "loop.yaml", msgspec.to_builtins(loop))
    # Written last: its presence says that the folder is whole.
    cluster = _yaml(folder / "cluster.yaml", {**msgspec.to_builtins(settings), **extra})
    return Created(folder, cluster, loop_file, tuple(files), *tokens, folder / CA)


def _first_tokens(folder: Path, key: bytes) -> tuple[Path, Path]:
    records, paths = [], []
    for role in ("admin", "worker"):
        token_id, token = new_token()
        path = folder / f"secrets/{role}.token"
        write_secret(path, token + "\n")
        paths.append(path)
        records.append(msgspec.to_builtins(FirstToken(token_id, role, token_hash(key, token), f"first {role}")))
    write_secret(folder / FIRST_TOKENS, yaml.safe_dump(records))
    return paths[0], paths[1]


def _yaml(path: Path, tree: object) -> Path:
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path
