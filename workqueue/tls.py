"""TLS contexts of voters and clients; voters are known by a certificate of the cluster's CA that names them."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from config.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

VOTER_URI = "riftq://voter/"


def server_context(cert: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """TLS for the front: a voter's certificate; callers may show one of the same CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, cert, key, ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def voter_client_context(cert: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """TLS from one voter's front to another's, both known by certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load(context, cert, key, ca)
    return context


def client_context(ca: Path | None) -> ssl.SSLContext:
    """TLS of a client: trusts the cluster's CA, or the system's when none is given."""
    if ca is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            str(ca), f"is not a readable certificate: {error}. Copy the cluster's certs/ca.pem."
        ) from error


def _load(context: ssl.SSLContext, cert: Path, key: Path, ca: Path) -> None:
    for path in (cert, key, ca):
        if not path.is_file():
            raise ConfigError(str(path), "does not exist. `rift init` creates certificates and keys.")
    try:
        context.load_cert_chain(str(cert), str(key))
        context.load_verify_locations(str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(str(cert), f"certificate, key and CA cannot be used together: {error}") from error


def voter_of(peer_certificate: object) -> str:
    """Return the voter's id in a verified peer certificate (as `ssl` gives it), or ""."""
    if not isinstance(peer_certificate, dict):
        return ""
    for kind, value in peer_certificate.get("subjectAltName", ()):
        if kind == "URI" and str(value).startswith(VOTER_URI):
            return str(value)[len(VOTER_URI) :]
    return ""
