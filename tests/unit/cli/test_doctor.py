"""What `rift doctor` finds: nothing on a healthy cluster, and each trouble by its own sentence."""

from __future__ import annotations

import datetime
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.ports import reserve_ports
from workqueue.authority import issue, new_ca
from workqueue.census import Answer, differing_digests
from workqueue.diagnosis import Finding, of_certificate, of_file, of_space, of_voter, of_voters
from workqueue.init import create, loopback
from workqueue.process import read_config

IDS = ("v1", "v2", "v3")


def document(voter: str, **changes: Any) -> dict[str, Any]:
    """What a healthy voter answers."""
    consensus = {
        "leader": "v1", "ready": True, "term": 3, "applied_index": 2100, "role": "follower",
        "voters": [{"id": each} for each in IDS], "metrics": {"links": 2.0}, "digests": {"1000": "aa", "2000": "bb"},
    }  # fmt: skip
    whole = {
        "voter": voter, "version": "1.0", "disk_free_mb": 50_000, "clock_ms": 0,
        "membership": [{"id": each, "role": "voter", "state": "alive"} for each in IDS],
        "state": {"workers": [], "jobs": {}, "alerts": []}, "consensus": consensus,
    }  # fmt: skip
    for name, value in changes.items():
        (consensus if name in consensus else whole)[name] = value
    return whole


def answers(**changes: Any) -> list[Answer]:
    """Three healthy voters, the last one with changes."""
    return [Answer(f"https://{v}:1", document(v, **(changes if v == "v3" else {})), "", 1, 2) for v in IDS]


def wrongs(found: list[Finding]) -> dict[str, str]:
    """What is wrong."""
    return {each.check: each.detail for each in found if not each.ok}


def test_an_idle_healthy_cluster_gives_no_alarm() -> None:
    """No worker, no job, no entry for an hour: all well."""
    found = of_voters(answers(), "1.0")
    assert wrongs(found) == {}
    assert {"voters", "leader", "clocks", "versions", "digests", "disks", "ports, Raft", "ports, gossip"} <= {
        each.check for each in found
    }


@pytest.mark.parametrize(
    ("changes", "check", "says"),
    [
        ({"leader": "v2"}, "leader", "v1, v2 leads"),
        ({"ready": False}, "leader", "v3: not ready"),
        ({"metrics": {"links": 1.0}}, "ports, Raft", "v3 has 1 of 2 Raft links"),
        ({"membership": [{"id": "v3", "role": "voter", "state": "alive"}]}, "ports, gossip", "does not hear v1, v2"),
        ({"version": "0.9"}, "versions", "0.9 on v3"),
        ({"digests": {"2000": "cc"}}, "digests", "v3 differ at entry 2000"),
        ({"disk_free_mb": 100}, "disks", "v3 has 100 MiB free"),
        ({"state": {"workers": [], "jobs": {}, "alerts": [{}]}, "applied_index": 9999}, "alerts", "1 raised"),
        (
            {"state": {"workers": [], "jobs": {"available": {"selfplay": 4}}, "alerts": []}, "applied_index": 9999},
            "workers",
            "0 live, 4 jobs wait",
        ),
    ],
)
def test_each_trouble_has_its_sentence(changes: dict[str, Any], check: str, says: str) -> None:
    """One thing wrong is one finding, and says where and what."""
    found = wrongs(of_voters(answers(**changes), "1.0"))
    assert list(found) == [check]
    assert says in found[check]


def test_a_silent_voter_and_a_wrong_clock() -> None:
    """A voter that does not answer is named; a clock is wrong only beyond what the round trip leaves open."""
    all_three = answers()
    found = wrongs(of_voters([*all_three[:2], Answer("https://v3:1", None, "refused")], "1.0"))
    assert found == {"voters": "https://v3:1: refused"}
    slow = Answer("https://v3:1", document("v3"), "", 1400, 500)
    assert wrongs(of_voters([*all_three[:2], slow], "1.0")) == {}
    ahead = Answer("https://v3:1", document("v3"), "", -1400, 5)
    assert "v3 is -1400 ms" in wrongs(of_voters([*all_three[:2], ahead], "1.0"))["clocks"]


def test_digests_are_compared_at_an_index_that_several_have() -> None:
    """A voter that has just taken a newer one is not odd."""
    assert differing_digests(answers(digests={"2000": "bb", "3000": "dd"})) == (2000, dict.fromkeys(IDS, "bb"))
    assert differing_digests(answers()[:1]) == (0, {})
    assert wrongs(of_voters([Answer("u", document("v1", digests={}))], "1.0")) == {}


def test_certificates_are_judged_by_their_days() -> None:
    """Good for years, soon to end, ended, not begun, and no certificate at all."""
    pem = issue(*new_ca("c"), "v1", ("h",))[0].encode()
    now = datetime.datetime.now(datetime.UTC).timestamp()
    assert of_certificate("x", pem, now).ok
    for days, says in ((365 * 12, "expired"), (-30, "not valid yet")):
        found = of_certificate("x", pem, now + days * 86_400)
        assert (found.ok, says in found.detail) == (False, True)
    assert "is not a certificate" in of_certificate("x", b"nonsense").detail


def test_a_voters_files_and_ports(tmp_path: Path) -> None:
    """A fresh folder is well; an open key, a missing secret and a port taken by another are not."""
    created = create(tmp_path, loopback(3, reserve_ports(30)[0]))
    config = read_config(created.voters[0])
    assert wrongs(of_voter(config)) == {}
    os.chmod(config.key, 0o644)  # noqa: PTH101
    (tmp_path / "secrets/gossip.key").unlink()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", config.cluster.voters[0].raft_port))
        taken.listen()
        found = wrongs(of_voter(config))
    assert set(found) == {"key", "secret", "port, Raft"}
    assert "taken by another program" in found["port, Raft"]


def test_space_and_files(tmp_path: Path) -> None:
    """The folder that does not exist yet is judged where it will be."""
    assert of_space("here", tmp_path / "not" / "yet").detail.startswith("here: ")
    assert "does not exist" in of_file("token", tmp_path / "none").detail
