"""A voter that cannot start says why in one sentence, with its exit code, and leaves nothing running."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from tests.ports import reserve_ports
from workqueue.errors import EXIT_CONFIG, EXIT_DATA, EXIT_PORT
from workqueue.init import Created, create, loopback

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
PORT = reserve_ports(30)[0]


def start(created: Created) -> tuple[int, str]:
    """Run a voter that must not start; returns its exit code and its last line."""
    done = subprocess.run(
        [sys.executable, "-m", "workqueue.voter", "--config", str(created.voters[0])],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    sentences = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(sentences) == 1, done.stderr
    left = [p for p in psutil.process_iter(["cmdline"]) if str(created.voters[0]) in (p.info["cmdline"] or [])]
    assert not left
    return done.returncode, sentences[0]


@pytest.fixture
def created(tmp_path: Path) -> Created:
    return create(tmp_path, loopback(1, PORT))


@pytest.mark.parametrize("offset", [0, 1])
def test_a_taken_port(tmp_path: Path, offset: int) -> None:
    """Whether the HTTP or the Raft port is taken, the sentence names it and says what to do."""
    created = create(tmp_path, loopback(3, PORT))  # a voter alone has nobody to listen to
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", PORT + offset))
        taken.listen()
        code, sentence = start(created)
    assert code == EXIT_PORT
    assert str(PORT + offset) in sentence
    assert "cluster.yaml" in sentence


def test_a_data_folder_of_another_version(created: Created) -> None:
    """Data of another format is left untouched."""
    mark = created.folder / "data/voter-1/voter.json"
    mark.parent.mkdir(parents=True)
    mark.write_bytes(msgspec.json.encode({"format": 99, "voter": "voter-1", "cluster": "x"}))
    code, sentence = start(created)
    assert code == EXIT_DATA
    assert "another version (format 99" in sentence


def test_a_data_folder_of_another_voter(created: Created) -> None:
    """A voter never takes another's data for its own."""
    mark = created.folder / "data/voter-1/voter.json"
    mark.parent.mkdir(parents=True)
    mark.write_bytes(msgspec.json.encode({"format": 1, "voter": "voter-2", "cluster": "x"}))
    code, sentence = start(created)
    assert code == EXIT_DATA
    assert "belongs to voter voter-2" in sentence


@pytest.mark.parametrize("name", ["certs/voter-1.pem", "certs/voter-1.key", "certs/ca.pem", "secrets/token.key"])
def test_a_missing_file(created: Created, name: str) -> None:
    """A missing certificate, key or secret is named, and who creates it."""
    (created.folder / name).unlink()
    code, sentence = start(created)
    assert code == EXIT_CONFIG
    assert name in sentence
    assert "rift init" in sentence


def test_a_certificate_that_does_not_fit(created: Created) -> None:
    """A key of another certificate is found before anything listens."""
    other = create(created.folder / "other", loopback(1, PORT))
    key = created.folder / "certs/voter-1.key"
    key.write_bytes((other.folder / "certs/voter-1.key").read_bytes())
    code, sentence = start(created)
    assert code == EXIT_CONFIG
    assert "voter-1" in sentence


def test_an_unknown_key_in_the_settings(created: Created) -> None:
    """The sentence names the key and the nearest valid one."""
    text = created.cluster.read_text().replace("cluster_id:", "limitz: {}\ncluster_id:")
    created.cluster.write_text(text)
    code, sentence = start(created)
    assert code == EXIT_CONFIG
    assert "`limitz`; did you mean `limits`" in sentence


def test_a_missing_settings_file(created: Created) -> None:
    """A path that leads nowhere is said to."""
    created.voters[0].unlink()
    code, sentence = start(created)
    assert code == EXIT_CONFIG
    assert "cannot be read" in sentence
