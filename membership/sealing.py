"""Sealed packets: AES-256-GCM under a key derived for each sender's boot, with a window against replays.

    packet = version (1) | key fingerprint (4) | salt (16) | counter (8) | ciphertext and tag
    plaintext = sent at, wall clock ms (8) | envelope

Each boot of each sender draws a salt and seals with HKDF(cluster key, salt), so a nonce (the counter) never repeats
under one key. The first packet of a salt must be fresh, within a minute; the later ones must be new within the window.
"""

from __future__ import annotations

import secrets
import struct
from collections import Counter, OrderedDict

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from membership.keys import Keyring, fingerprint

VERSION = 1
_HEADER = struct.Struct(">B4s16sQ")
_SENT_AT = struct.Struct(">Q")
SEALED_MIN = _HEADER.size + _SENT_AT.size + 16
SEALED_MAX = 1500
FRESH_MS = 60_000
WINDOW = 1024  # counters behind the highest one that are still told apart
PEERS_MAX = 8192
STRANGERS_PER_S = 500  # unknown salts that are worth a key derivation


class ReplayWindow:
    """Which counters of one sender have been seen."""

    __slots__ = ("_highest", "_seen")

    def __init__(self) -> None:
        self._highest = 0
        self._seen = 0  # bit i: highest - i was seen

    def admit(self, counter: int) -> bool:
        """Return whether a counter is new, and remember it."""
        if counter > self._highest:
            shift = min(counter - self._highest, WINDOW)
            self._seen = (self._seen << shift | 1) & ((1 << WINDOW) - 1)
            self._highest = counter
            return True
        behind = self._highest - counter
        if behind >= WINDOW or self._seen >> behind & 1:
            return False
        self._seen |= 1 << behind
        return True


class _Peer:
    __slots__ = ("cipher", "window")

    def __init__(self, cipher: AESGCM) -> None:
        self.cipher = cipher
        self.window = ReplayWindow()


class Sealer:
    """Seals and opens the packets of one member."""

    def __init__(self, keyring: Keyring, cluster: str) -> None:
        self._keyring = keyring
        self._info = b"riftq gossip 1 " + cluster.encode()
        self._salt = secrets.token_bytes(16)
        self._counter = 0
        self._own: tuple[bytes, bytes, AESGCM] | None = None
        self._peers: OrderedDict[bytes, _Peer] = OrderedDict()
        self._strangers = 0
        self._strangers_since_ms = 0
        self.counters: Counter[str] = Counter()

    def seal(self, payload: bytes, wall_ms: int) -> bytes:
        """Return a packet that only holders of the key can make or read."""
        key = self._keyring.primary
        if self._own is None or self._own[0] != key:
            self._own = (key, fingerprint(key), self._derive(key, self._salt))
        self._counter += 1
        header = _HEADER.pack(VERSION, self._own[1], self._salt, self._counter)
        return header + self._own[2].encrypt(_nonce(self._counter), _SENT_AT.pack(wall_ms) + payload, header)

    def open(self, packet: bytes, wall_ms: int) -> bytes | None:
        """Return the payload of a genuine, fresh, unseen packet; count and drop anything else."""
        if not SEALED_MIN <= len(packet) <= SEALED_MAX or packet[0] != VERSION:
            return self._drop("malformed")
        _, mark, salt, counter = _HEADER.unpack_from(packet)
        key = self._keyring.find(mark)
        if key is None:
            return self._drop("unknown key")
        peer = known = self._peers.get(mark + salt)
        if peer is None:
            if not self._may_derive(wall_ms):
                return self._drop("too many strangers")
            peer = _Peer(self._derive(key, salt))
        try:
            plain = peer.cipher.decrypt(_nonce(counter), packet[_HEADER.size :], packet[: _HEADER.size])
        except InvalidTag:
            return self._drop("forged")
        if known is None:
            (sent_ms,) = _SENT_AT.unpack_from(plain)
            if abs(wall_ms - sent_ms) > FRESH_MS:
                return self._drop("stale")
            self._remember(mark + salt, peer)
        if not peer.window.admit(counter):
            return self._drop("replayed")
        return plain[_SENT_AT.size :]

    def forget_removed(self) -> None:
        """Drop what was derived from keys that are no longer installed."""
        for name in [name for name in self._peers if self._keyring.find(name[:4]) is None]:
            del self._peers[name]

    def _remember(self, name: bytes, peer: _Peer) -> None:
        self._peers[name] = peer
        if len(self._peers) > PEERS_MAX:
            self._peers.popitem(last=False)

    def _may_derive(self, wall_ms: int) -> bool:
        """Bound the work that packets with unknown salts can cause."""
        if abs(wall_ms - self._strangers_since_ms) >= 1000:
            self._strangers, self._strangers_since_ms = 0, wall_ms
        self._strangers += 1
        return self._strangers <= STRANGERS_PER_S

    def _derive(self, key: bytes, salt: bytes) -> AESGCM:
        return AESGCM(HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=self._info).derive(key))

    def _drop(self, reason: str) -> bytes | None:
        self.counters[reason] += 1
        return None


def _nonce(counter: int) -> bytes:
    return b"\0\0\0\0" + counter.to_bytes(8, "big")
