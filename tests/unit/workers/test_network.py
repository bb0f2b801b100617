"""What a worker says of its network: an average over large transfers that outlives its process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workers.network import DOWN, SIZE_BYTES_MIN, UP, Network

if TYPE_CHECKING:
    from pathlib import Path


def test_rates_follow_the_transfers(tmp_path: Path) -> None:
    """The first counts whole, later ones in part, each way by itself; small ones say nothing of the rate."""
    network = Network(tmp_path / "network.json")
    network.note(UP, SIZE_BYTES_MIN - 1, 0.001)
    assert network.rates == {}
    network.note(UP, 1_000_000, 1.0)
    assert network.rates == {UP: 8_000}
    network.note(DOWN, 1_000_000, 0.5)
    network.note(UP, 1_000_000, 0.5)
    assert network.rates == {UP: 10_400, DOWN: 16_000}
    network.note(UP, 1_000_000, 0.0)
    assert network.rates[UP] == 10_400


def test_they_are_kept(tmp_path: Path) -> None:
    """For the registration of the next start."""
    path = tmp_path / "network.json"
    network = Network(path)
    network.note(DOWN, 1_000_000, 0.5)
    network.save()
    assert Network(path).rates == network.rates


@pytest.mark.parametrize("text", ["", "[]", '{"net_up_kbps": -4, "other": 7}', '{"net_up_kbps": "x"}'])
def test_a_damaged_file_is_none(tmp_path: Path, text: str) -> None:
    """A file that is not ours is no measurement."""
    path = tmp_path / "network.json"
    path.write_text(text)
    assert Network(path).rates == {}
