"""Certificates for the links between voters: one authority, and a key pair per voter that names its node id."""

import datetime
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

YEARS = 10


def make_certificates(folder: Path, node_ids: Iterable[str], *, now: datetime.datetime | None = None) -> None:
    """Write ca.pem, ca.key and <node id>.pem and .key for each voter; keep ca.key away from the voters."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    start = now or datetime.datetime.now(datetime.UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _sign(_name("voters"), _name("voters"), authority_key, authority_key, start, [])
    _write(folder / "ca.pem", authority.public_bytes(serialization.Encoding.PEM), 0o644)
    _write(folder / "ca.key", _pem(authority_key), 0o600)
    for node_id in node_ids:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(_name(node_id), authority.subject, key, authority_key, start, [node_id])
        _write(folder / f"{node_id}.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        _write(folder / f"{node_id}.key", _pem(key), 0o600)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _sign(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    start: datetime.datetime,
    dns_names: list[str],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(days=1))
        .not_valid_after(start + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=not dns_names, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if dns_names:
        names = x509.SubjectAlternativeName([x509.DNSName(n) for n in dns_names])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    path.touch(mode=mode)
    path.write_bytes(data)
