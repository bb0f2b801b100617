"""Sealed packets: only the cluster's own, fresh and once."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from membership.api import MembershipError
from membership.keys import Keyring, fingerprint, read_key
from membership.sealing import FRESH_MS, PEERS_MAX, SEALED_MAX, STRANGERS_PER_S, WINDOW, ReplayWindow, Sealer

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
NOW_MS = 1_800_000_000_000


def sealer(*keys: bytes, cluster: str = "riftq") -> Sealer:
    ring = Keyring()
    for index, key in enumerate(keys or (KEY,)):
        ring.install(f"key-{index}", key)
    return Sealer(ring, cluster)


def test_a_packet_has_the_documented_layout() -> None:
    """Another implementation, from the document alone, opens our packets."""
    packet = sealer().seal(b"hello", NOW_MS)
    version, mark, salt, counter = packet[0], packet[1:5], packet[5:21], packet[21:29]
    assert (version, mark, int.from_bytes(counter, "big")) == (1, fingerprint(KEY), 1)
    subkey = HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=b"riftq gossip 1 riftq").derive(KEY)
    plain = AESGCM(subkey).decrypt(b"\0\0\0\0" + counter, packet[29:], packet[:29])
    assert plain == NOW_MS.to_bytes(8, "big") + b"hello"


def test_what_one_seals_another_opens_once() -> None:
    """The second copy is a replay."""
    sender, receiver = sealer(), sealer()
    packets = [sender.seal(bytes([index]), NOW_MS) for index in range(5)]
    assert [receiver.open(packet, NOW_MS) for packet in reversed(packets)] == [bytes([i]) for i in (4, 3, 2, 1, 0)]
    assert [receiver.open(packet, NOW_MS) for packet in packets] == [None] * 5
    assert receiver.counters["replayed"] == 5


def test_a_packet_of_another_key_or_cluster_does_not_open() -> None:
    """Neither a stranger's key nor another cluster under the same key."""
    receiver = sealer()
    assert receiver.open(sealer(OTHER_KEY).seal(b"x", NOW_MS), NOW_MS) is None
    assert receiver.open(sealer(cluster="other").seal(b"x", NOW_MS), NOW_MS) is None
    assert receiver.counters == {"unknown key": 1, "forged": 1}


@pytest.mark.parametrize("age_ms", [FRESH_MS + 1, -FRESH_MS - 1])
def test_the_first_packet_of_a_boot_must_be_fresh(age_ms: int) -> None:
    """A recording of yesterday is not accepted by a process that never saw its sender."""
    receiver = sealer()
    assert receiver.open(sealer().seal(b"x", NOW_MS), NOW_MS + age_ms) is None
    assert receiver.counters == {"stale": 1}


@given(st.data())
def test_any_change_of_any_byte_is_refused(data: st.DataObject) -> None:
    """Header and content alike are authenticated."""
    packet = bytearray(sealer().seal(b"some payload", NOW_MS))
    packet[data.draw(st.integers(0, len(packet) - 1))] ^= data.draw(st.integers(1, 255))
    assert sealer().open(bytes(packet), NOW_MS) is None


@given(st.binary(max_size=SEALED_MAX + 100))
def test_random_bytes_never_open_nor_raise(packet: bytes) -> None:
    """Whatever arrives is counted and dropped."""
    receiver = sealer()
    assert receiver.open(packet, NOW_MS) is None
    assert sum(receiver.counters.values()) == 1


@given(st.integers(1, 60))
def test_a_truncated_packet_is_refused(lost: int) -> None:
    """A packet that lost its end is no packet."""
    assert sealer().open(sealer().seal(b"payload", NOW_MS)[:-lost], NOW_MS) is None


@given(st.lists(st.integers(1, 3 * WINDOW), max_size=200))
def test_the_window_admits_each_counter_at_most_once(counters: list[int]) -> None:
    """And always the first of those ahead of all seen so far."""
    window = ReplayWindow()
    seen: set[int] = set()
    for counter in counters:
        highest = max(seen, default=0)
        admitted = window.admit(counter)
        assert admitted == (counter not in seen and counter > highest - WINDOW)
        if admitted:
            seen.add(counter)


def test_unknown_salts_cost_a_bounded_number_of_derivations_a_second() -> None:
    """A flood of strangers under the right key mark is dropped before any cryptography."""
    receiver = sealer()
    forged = [b"\1" + fingerprint(KEY) + index.to_bytes(16, "big") + bytes(40) for index in range(STRANGERS_PER_S + 50)]
    for packet in forged:
        receiver.open(packet, NOW_MS)
    assert receiver.counters == {"forged": STRANGERS_PER_S, "too many strangers": 50}
    assert receiver.open(sealer().seal(b"x", NOW_MS + 1000), NOW_MS + 1000) == b"x"


def test_memory_for_senders_is_bounded() -> None:
    """Members that restart for ever do not fill the memory."""
    receiver = sealer()
    for index in range(PEERS_MAX + 20):
        assert receiver.open(sealer().seal(b"x", NOW_MS + 3 * index), NOW_MS + 3 * index) == b"x"
    assert len(receiver._peers) == PEERS_MAX


def test_keys_rotate_without_a_lost_packet() -> None:
    """Install everywhere, use everywhere, remove everywhere: every packet in between opens."""
    rings = [Keyring(), Keyring()]
    for ring in rings:
        ring.install("old", KEY)
    one, other = (Sealer(ring, "riftq") for ring in rings)

    def both_ways() -> list[bytes | None]:
        return [other.open(one.seal(b"1", NOW_MS), NOW_MS), one.open(other.seal(b"2", NOW_MS), NOW_MS)]

    for step in ("install", "use", "remove"):
        for ring in rings:
            if step == "install":
                ring.install("new", OTHER_KEY)
            elif step == "use":
                ring.use("new")
            else:
                ring.remove("old")
            assert both_ways() == [b"1", b"2"]
    assert one.open(sealer(KEY).seal(b"late", NOW_MS), NOW_MS) is None


def test_a_removed_key_opens_nothing_also_from_known_senders() -> None:
    """What was derived from it is forgotten with it."""
    receiver, sender = sealer(OTHER_KEY, KEY), sealer(KEY)
    assert receiver.open(sender.seal(b"x", NOW_MS), NOW_MS) == b"x"
    receiver._keyring.remove("key-1")
    receiver.forget_removed()
    assert receiver.open(sender.seal(b"x", NOW_MS), NOW_MS) is None
    assert not receiver._peers


def test_the_keyring_refuses_what_would_cut_a_member_off() -> None:
    """Each refusal says what to do."""
    ring = Keyring()
    with pytest.raises(MembershipError, match="No gossip key is installed"):
        _ = ring.primary
    ring.install("a", KEY)
    ring.install("a", KEY)
    with pytest.raises(MembershipError, match="choose a new id"):
        ring.install("a", OTHER_KEY)
    with pytest.raises(MembershipError, match="use another one before"):
        ring.remove("a")
    with pytest.raises(MembershipError, match="install it on every member first"):
        ring.use("b")


@pytest.mark.parametrize("content", [KEY, KEY.hex().encode() + b"\n", base64.b64encode(KEY)])
def test_a_key_file_may_be_raw_hex_or_base64(content: bytes, tmp_path: Path) -> None:
    """What operators' tools produce."""
    file = tmp_path / "gossip.key"
    file.write_bytes(content)
    assert read_key(file) == KEY


def test_an_unusable_key_file_is_named(tmp_path: Path) -> None:
    """Short, or absent."""
    file = tmp_path / "gossip.key"
    with pytest.raises(MembershipError, match=r"gossip\.key cannot be read"):
        read_key(file)
    file.write_text("short")
    with pytest.raises(MembershipError, match="openssl rand"):
        read_key(file)
