"""Gossip's settings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from membership.api import MembershipError, new_boot_id
from membership.process import main, read_settings
from membership.settings import GossipSettings

GOOD = {"node_id": "n1", "boot_id": "b1", "role": "voter", "bind": "127.0.0.1:0"}


def test_settings_are_read_from_yaml_and_unknown_keys_are_named(tmp_path: Path) -> None:
    """A typo is an error with its path."""
    file = tmp_path / "gossip.yaml"
    file.write_bytes(msgspec.yaml.encode(GOOD | {"metadata": {"gpu": "H100", "count": 8}}))
    assert read_settings(file).metadata == {"gpu": "H100", "count": 8}
    file.write_bytes(msgspec.yaml.encode(GOOD | {"suspicion": 4}))
    with pytest.raises(MembershipError, match="suspicion"):
        read_settings(file)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"role": "leader"}, "role is 'voter' or 'worker'"),
        ({"bind": "nowhere"}, "write it as host:port"),
        ({"seeds": ["10.0.0.1:99999"]}, "write it as host:port"),
        ({"period_ms": 1}, "period_ms"),
        ({"metadata": {"text": "x" * 600}}, "shorten it"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed: dict[str, object], reason: str, tmp_path: Path) -> None:
    """Each with a sentence that says what is wrong."""
    file = tmp_path / "gossip.yaml"
    file.write_bytes(msgspec.yaml.encode(GOOD | changed))
    with pytest.raises((MembershipError, ValueError), match=reason):
        read_settings(file)


def test_the_process_ends_with_a_sentence_when_it_cannot_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No settings, then no key."""
    file = tmp_path / "gossip.yaml"
    assert main(["--settings", str(file), "--socket", str(tmp_path / "s")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    file.write_bytes(msgspec.yaml.encode(GOOD))
    assert main(["--settings", str(file), "--socket", str(tmp_path / "s")]) == 1
    assert "No gossip key is installed; name one in key_files." in capsys.readouterr().err


def test_the_tempo_scales_every_wait() -> None:
    """A test may run ten times faster without other proportions."""
    timing = GossipSettings(**GOOD, period_ms=50).timing  # type: ignore[arg-type]
    assert (timing.probe_timeout_ms, timing.verify_ms, timing.gossip_ms) == (20, 40, 20)


def test_boot_ids_sort_by_time() -> None:
    """For people who read them."""
    assert new_boot_id(1_800_000_000_000) < new_boot_id(1_800_000_000_001)
    assert new_boot_id(5) != new_boot_id(5)
