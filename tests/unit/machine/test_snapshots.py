"""Snapshots: whole or refused with a ValueError, never half read."""

from __future__ import annotations

import random
import struct

import msgspec
import pytest

from tests.unit.machine.driver import Driver
from workqueue.machine import snapshot
from workqueue.machine.machine import Machine


def section(name: str, body: object) -> bytes:
    data = msgspec.msgpack.encode([name, body])
    return struct.pack("<I", len(data)) + data


@pytest.fixture
def chunks(driver: Driver) -> list[bytes]:
    """A snapshot with a record of most sorts."""
    driver.selfplay_done(driver.selfplay("p"), "shard1")
    driver.train("t", "model1")
    driver.tournament("m", [("g1", (1, 2))])
    driver.add("a", "b", "c", group="g")
    driver.lease()
    return list(driver.machine.snapshot())


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
def test_it_may_come_in_pieces_of_any_size(chunks: list[bytes], size: int) -> None:
    """The way it is cut says nothing."""
    data = b"".join(chunks)
    machine = Machine()
    machine.restore(data[at : at + size] for at in range(0, len(data), size))
    assert b"".join(machine.snapshot()) == data


def test_many_jobs_come_in_sections(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of which holds more than a piece."""
    monkeypatch.setattr(snapshot, "PIECE", 10)
    driver.add(*(f"j{k}" for k in range(35)))
    names = [msgspec.msgpack.decode(chunk[4:])[0] for chunk in driver.machine.snapshot()]
    assert names.count("jobs") == 4
    assert driver.restored().picture() == driver.picture()


def test_what_is_cut_off_is_refused(chunks: list[bytes]) -> None:
    """After any section and inside any."""
    data = b"".join(chunks)
    ends = {len(b"".join(chunks[:k])) for k in range(len(chunks))}
    for at in sorted({*range(0, len(data), 97), *ends}):
        with pytest.raises(ValueError, match=r"whole|cut off"):
            Machine().restore([data[:at]])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ([section("format", ["riftq-state", 2]), section("end", None)], "version 2"),
        ([section("format", ["riftq-state"]), section("end", None)], "not a snapshot"),
        ([section("format", ["other", 1]), section("end", None)], "not a snapshot"),
        ([section("format", None), section("end", None)], "not a snapshot"),
        ([section("state", {}), section("end", None)], "not a whole snapshot"),
        ([section("format", ["riftq-state", 1]), section("later", 1), section("end", None)], "`later`"),
        ([], "not a whole snapshot"),
    ],
)
def test_what_this_version_does_not_know_is_refused(damage: list[bytes], words: str) -> None:
    """Leaving it out would make replicas differ."""
    with pytest.raises(ValueError, match=words):
        Machine().restore(damage)


def test_damage_is_a_value_error_and_changes_nothing(chunks: list[bytes], driver: Driver) -> None:
    """The machine that should have loaded it stays what it was."""
    rng = random.Random(5)
    data = b"".join(chunks)
    before = driver.picture()
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        at = rng.randrange(len(damaged))
        damaged[at] = rng.randrange(256)
        try:
            Machine().restore([bytes(damaged)])
        except ValueError:
            refused += 1
    assert refused > 50
    with pytest.raises(ValueError, match="whole"):
        driver.machine.restore(chunks[:-1])
    assert driver.picture() == before
