"""The cluster's gossip keys: several are accepted at a time, one seals, so that keys rotate without an event."""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path

from membership.api import MembershipError

KEY_BYTES = 32
FINGERPRINT_BYTES = 4


def read_key(key: Path | str | bytes) -> bytes:
    """Return the 32 bytes of a key given as such, or as the path of a file with raw, hex or base64 content."""
    content = key if isinstance(key, bytes) else _read_file(Path(key))
    decoded = content if len(content) == KEY_BYTES else _decode(content.strip())
    if len(decoded) != KEY_BYTES:
        where = "given" if isinstance(key, bytes) else f"in {key}"
        raise MembershipError(f"The gossip key {where} is not {KEY_BYTES} bytes; make one with `openssl rand -hex 32`.")
    return decoded


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MembershipError(f"The gossip key {path} cannot be read: {error.strerror}.") from error


def _decode(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        pass
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def fingerprint(key: bytes) -> bytes:
    """Return what names a key on the wire; it tells nothing about the key."""
    return hashlib.blake2b(key, digest_size=FINGERPRINT_BYTES, person=b"riftq-gossip").digest()


class Keyring:
    """The installed keys by the operator's names for them."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}
        self._by_fingerprint: dict[bytes, bytes] = {}
        self._primary: bytes | None = None

    @property
    def primary(self) -> bytes:
        """The key that seals."""
        if self._primary is None:
            raise MembershipError("No gossip key is installed; name one in key_files.")
        return self._primary

    def install(self, key_id: str, key: bytes) -> None:
        """Accept a key; the first installed one becomes the primary."""
        if self._keys.get(key_id, key) != key:
            raise MembershipError(f"Another gossip key is installed as {key_id!r}; choose a new id.")
        self._keys[key_id] = key
        self._by_fingerprint[fingerprint(key)] = key
        if self._primary is None:
            self._primary = key

    def use(self, key_id: str) -> None:
        """Seal with an installed key."""
        self._primary = self._known(key_id)

    def remove(self, key_id: str) -> None:
        """Refuse a key from now on."""
        key = self._known(key_id)
        if key == self._primary:
            raise MembershipError(f"The gossip key {key_id!r} is in use; use another one before you remove it.")
        del self._keys[key_id]
        if key not in self._keys.values():
            self._by_fingerprint.pop(fingerprint(key), None)

    def find(self, mark: bytes) -> bytes | None:
        """Return the key of a fingerprint."""
        return self._by_fingerprint.get(mark)

    def _known(self, key_id: str) -> bytes:
        if key_id not in self._keys:
            raise MembershipError(f"No gossip key {key_id!r} is installed; install it on every member first.")
        return self._keys[key_id]
