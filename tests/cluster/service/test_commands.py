"""Every command of an operator against a live voter: exit codes, JSON, and one sentence for wrong input."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import typer.main
from typer.testing import CliRunner

import rift
from tests.ports import reserve_ports
from workqueue.cli import context
from workqueue.client import Client
from workqueue.errors import ClientError
from workqueue.init import Created, create, loopback
from workqueue.machine.commands import (
    Acquire,
    Capability,
    Claim,
    Complete,
    Completion,
    DeregisterWorker,
    Free,
    RegisterWorker,
)
from workqueue.machine.outcomes import Granted, Locked, Settled
from workqueue.schema import GameResult, MatchesResult, PlayerSpec, TournamentPayload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(180),
    # Each command is a process of its own in real life, whose end closes what TLS had not yet said goodbye to.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PORT = reserve_ports(3)[0]
CONFIG = "hex8_2p"  # not one of the loop's, so that its duty leaves these models alone
DONE, REFUSED, USAGE, UNAVAILABLE = 0, 1, 2, 3


class Live:
    """A voter of its own process group, and `rift` run against it in this process."""

    def __init__(self, created: Created) -> None:
        self.created = created

    def run(self, *arguments: str, code: int = DONE) -> str:
        """Run a command; returns what it printed, or its one sentence when it fails as it should."""
        context._flags.clear()
        sys.argv = ["rift", *arguments]
        ran = CliRunner().invoke(rift.app, list(arguments), prog_name="rift")
        assert ran.exit_code == code, f"rift {' '.join(arguments)}: {ran.exit_code}\n{ran.output}\n{ran.exception!r}"
        if code == DONE:
            return ran.stdout
        assert ran.stdout == ""
        assert "Traceback" not in ran.stderr
        return " ".join(ran.stderr.replace("│", " ").split())

    def json(self, *arguments: str) -> Any:
        """Run a command with --json."""
        return json.loads(self.run(*arguments, "--json"))

    def call(self, work: Callable[[Client], Awaitable[Any]]) -> Any:
        """Do what workers do."""

        async def run() -> Any:
            token = self.created.admin_token.read_text().strip()
            async with Client([self.url], token=token, ca=self.created.ca, deadline_s=20) as client:
                return await work(client)

        return asyncio.run(run())

    def until_let_in(self) -> None:
        """Wait for the first tokens, which a new leader enters into the log."""
        for _ in range(100):
            with contextlib.suppress(ClientError):
                self.call(lambda client: client.query("loop"))
                return
            threading.Event().wait(0.1)
        raise AssertionError("the first admin token is not accepted")

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{PORT}"

    def model(self, folder: Path, text: str, *parents: str) -> str:
        """Import weights that are not like any others; returns their SHA-256."""
        flags = [flag for parent in parents for flag in ("--parent", parent)]
        found = self.json("model", "import", str(weights(folder, text)), *flags)
        return str(found["sha256"])


def weights(folder: Path, text: str, **manifest: object) -> Path:
    """Write the smallest safetensors file that carries a manifest."""
    board, _, players = CONFIG.partition("_")
    inside = {"board": board, "players": int(players[0]), "note": text} | manifest
    header = json.dumps({"__metadata__": {"riftq": json.dumps(inside)}}).encode()
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:8]}.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("voter")
    created = create(folder, loopback(1, PORT))
    with (folder / "voter.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workqueue.voter", "--config", str(created.voters[0])],
            stdout=subprocess.PIPE, stderr=log, start_new_session=True, text=True,
        )  # fmt: skip
    file = folder / "context.yaml"
    file.write_text(f"servers: [https://127.0.0.1:{PORT}]\ntoken_file: {created.admin_token}\nca: {created.ca}\n")
    patched = pytest.MonkeyPatch()
    patched.setenv("RIFT_CONTEXT", str(file))
    patched.setattr(sys, "argv", sys.argv)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n", (folder / "voter.log").read_text()
        made = Live(created)
        able = Capability(4, 8000, 8000, kinds=("tournament",))
        made.until_let_in()
        made.call(lambda client: client.submit(RegisterWorker("w1", "b1", able)))
        made.run("queue", "kind", "thumbnail")
        yield made
    finally:
        patched.undo()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def test_status(live: Live) -> None:
    """The page for people and the documented JSON."""
    assert "leader voter-1" in live.run("status")
    assert set(live.json("status")) >= {"schema", "consensus", "membership", "meters", "state"}


def test_jobs_are_added_listed_shown_and_steered(live: Live) -> None:
    """The life of a job as far as an operator moves it."""
    assert live.json("queue", "add", "thumbnail", "--id", "a1", "--payload", '{"file": "a"}')["ids"] == ["a1"]
    assert "was there already" in live.run("queue", "add", "thumbnail", "--id", "a1", "--payload", '{"file": "a"}')
    live.run("queue", "add", "thumbnail", "--id", "a2", "--after", "a1")
    live.run("queue", "add", "thumbnail", "--id", "a3", "--delay-s", "3600", "--unique", "nightly")
    listed = live.json("queue", "ls", "--kind", "thumbnail")
    assert {"a1", "a2", "a3"} <= {job["id"] for job in listed["jobs"]}
    assert "a1" in live.run("queue", "ls", "--state", "available")
    assert live.json("queue", "show", "a1")["payload"] == {"file": "a"}
    assert live.json("queue", "show", "a2")["depends_on"] == ["a1"]
    assert live.json("queue", "explain", "a2")["verdict"] == "waits for job a1"
    assert "does not run jobs of kind thumbnail" in live.run("queue", "explain", "a1")
    assert live.json("queue", "hold", "a1")["ids"] == ["a1"]
    assert live.json("queue", "show", "a1")["state"] == "held"
    assert live.json("queue", "release", "a1")["ids"] == ["a1"]
    assert live.json("queue", "hold", "a1")["ids"] == ["a1"]
    assert live.json("queue", "unhold", "a1")["ids"] == ["a1"]
    assert live.json("queue", "cancel", "a3", "--reason", "not tonight")["ids"] == ["a3"]
    assert live.json("queue", "show", "a3")["reason"] == "not tonight"
    assert live.json("queue", "retry", "a3")["ids"] == ["a3"]
    assert "jobs cancelled" in live.run("queue", "drain", "--kind", "thumbnail")
    assert {live.json("queue", "show", job)["state"] for job in ("a1", "a2", "a3")} <= {"cancelled", "failed"}


def test_a_payload_may_be_in_a_file(live: Live, tmp_path: Path) -> None:
    """@FILE holds the map."""
    (tmp_path / "payload.json").write_text('{"file": "b"}')
    live.run("queue", "add", "thumbnail", "--id", "f1", "--payload", f"@{tmp_path}/payload.json")
    assert live.json("queue", "show", "f1")["payload"] == {"file": "b"}


def test_open_kinds_are_registered_by_file(live: Live, tmp_path: Path) -> None:
    """A kind with a schema refuses what does not fit."""
    (tmp_path / "in.json").write_text('{"type": "object", "required": ["url"]}')
    live.run("queue", "kind", "fetch", "--payload-schema", f"{tmp_path}/in.json")
    assert "fetch" in live.run("queue", "kinds")
    assert {kind["name"] for kind in live.json("queue", "kinds")} >= {"fetch", "thumbnail"}
    assert "'url' is a required property" in live.run("queue", "add", "fetch", code=REFUSED)


def test_locks(live: Live) -> None:
    """Held ones are listed, and broken by name."""
    [locked] = live.call(lambda client: client.submit(Acquire("train/hex8_2p", "w1", 600_000)))
    assert isinstance(locked, Locked)
    assert "train/hex8_2p" in live.run("lock", "ls")
    assert live.json("lock", "ls")[0]["name"] == "train/hex8_2p"
    live.json("lock", "break", "train/hex8_2p", "--reason", "its holder is gone")
    assert live.json("lock", "ls") == []


def test_workers(live: Live) -> None:
    """Listed, shown with what they could run, drained, quarantined, and let in again."""
    assert "w1" in live.run("workers", "ls")
    assert live.json("workers", "ls")[0]["id"] == live.json("worker", "ls")[0]["id"] == "w1"
    assert live.json("workers", "show", "w1")["explained"]["subject"] == "w1"
    live.json("workers", "drain", "w1", "--reason", "kernel update")
    assert live.json("workers", "show", "w1")["drain"] is True
    live.json("workers", "drain", "w1", "--off")
    live.json("workers", "quarantine", "w1", "--reason", "suspicious")
    assert "quarantined" in live.run("workers", "ls")
    live.json("workers", "quarantine", "w1", "--off")
    assert live.json("workers", "show", "w1")["quarantined"] is False


def test_a_worker_that_is_gone_is_forgotten(live: Live) -> None:
    """At once when an operator says so; one that is alive stays."""
    join, leave = RegisterWorker("gone", "b1", Capability(1, 1, 1)), DeregisterWorker("gone", "b1")
    live.call(lambda client: client.submit(join))
    assert "is alive" in live.run("workers", "forget", "gone", code=REFUSED)
    live.call(lambda client: client.submit(leave))
    assert live.json("workers", "forget", "gone")["ids"] == ["gone"]
    assert "gone" not in {worker["id"] for worker in live.json("workers", "ls")}


def test_why_a_worker_is_idle(live: Live) -> None:
    """For each sort of job that waits, what it needs and why not; wrong words get near ones."""
    live.run("queue", "add", "thumbnail", "--id", "why1")
    waiting = live.json("queue", "explain", "--worker", "w1")["waiting"]
    assert any(each["kind"] == "thumbnail" and "does not run" in each["reason"] for each in waiting)
    assert "does not run jobs of kind thumbnail" in live.run("queue", "explain", "--worker", "w1")
    live.run("queue", "cancel", "why1")


def test_models_live_from_import_to_rollback(live: Live, tmp_path: Path) -> None:
    """Imported, compared, promoted on evidence from recorded matches, rolled back, exported unharmed."""
    first = live.model(tmp_path, "first")
    second = live.model(tmp_path, "second", first)
    assert {model["sha256"] for model in live.json("model", "ls", "--config", CONFIG)} >= {first, second}
    assert first[:10] in live.run("model", "ls")
    assert live.json("model", "show", second[:12])["model"]["parents"] == [first]
    assert live.json("model", "lineage", second) == [first]
    assert first in live.run("model", "lineage", second)
    assert [row["sha256"] for row in live.json("model", "compare", first, second)] == [first, second]
    assert "needs --reason" in live.run("model", "promote", first, code=USAGE)
    assert live.json("model", "promote", first, "--reason", "the first one")["sha256"] == first
    assert "already" in live.run("model", "promote", first, "--reason", "again", code=REFUSED)
    assert "no recorded game against the champion" in live.run("model", "promote", second, "--dry-run")
    play(live, second, first, won=(5, 6))
    shown = live.json("model", "promote", second, "--if-champion", first[:10], "--dry-run")
    assert (shown["champion"], shown["games"], shown["wins"], shown["losses"]) == (first, 6, 5, 1)
    assert len(shown["match_ids"]) == 6
    assert "6 games, 5 won, 0 drawn, 1 lost, 83.3 %" in live.run("model", "promote", second, "--dry-run")
    assert "is nobody" not in live.run("model", "promote", second, "--if-champion", second, "--dry-run", code=REFUSED)
    live.json("model", "promote", second, "--if-champion", first, "--reason", "it won five of six")
    evidence = live.json("model", "show", second)["evidence"]
    assert (evidence["rule"], evidence["wins"], len(evidence["match_ids"])) == ("manual", 5, 6)
    assert live.json("model", "rollback", CONFIG, "--reason", "too slow")["sha256"] == first
    third = live.model(tmp_path, "third")
    live.json("model", "reject", third, "--reason", "a test")
    assert live.json("model", "show", third)["model"]["status"] == "rejected"
    copy = tmp_path / "copy.safetensors"
    assert live.json("model", "export", first, str(copy)) == {"sha256": first, "path": str(copy)}
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == first
    assert any(second in row["player"] for row in live.json("elo")[CONFIG])
    assert CONFIG in live.run("elo", "--board", "hex8", "--players", "2")


def play(live: Live, model: str, rival: str, won: tuple[int, int]) -> None:
    """Record games of two models, as a worker would."""

    async def work(client: Client) -> None:
        entrants = (PlayerSpec("gumbel", model, 16), PlayerSpec("gumbel", rival, 16))
        payload = TournamentPayload("hex8", 2, entrants, won[1], 1)
        record = live.created.folder / "record.bin"
        record.write_bytes(b"games")
        stored = await client.put_artifact(record, kind="games", config=CONFIG)
        packed = json.dumps(msgspec.to_builtins(payload))
        added = [sys.executable, "rift.py", "queue", "add", "tournament", "--config", CONFIG, "--payload", packed]
        await asyncio.to_thread(subprocess.run, added, check=True, capture_output=True)
        granted = await client.claim(Claim("w1", "b1", Free(4, 8000, 8000), kinds=("tournament",)), 5_000)
        assert isinstance(granted, Granted)
        [lease] = granted.leases
        seats = tuple(entrant.key for entrant in entrants)
        games = tuple(
            GameResult(f"g{k}", seats, (1, 2) if k < won[0] else (2, 1), 40, "x", f"o{k // 2}", stored.sha256, k)
            for k in range(won[1])
        )
        packed_result = msgspec.Raw(msgspec.msgpack.encode(MatchesResult(games, 1_000, "")))
        completion = Completion(lease.job, lease.attempt, packed_result, (stored,))
        [done] = await client.submit(Complete("w1", (completion,)))
        assert [type(each) for each in done.settled] == [Settled], done

    live.call(work)


def test_settings(live: Live, tmp_path: Path) -> None:
    """Read by key or part, set all or none, compared with the defaults and with a file."""
    before = live.json("settings", "get", "train")
    assert before["values"]["train.steps"] == 1500
    assert live.json("settings", "set", "train.steps=900", "--reason", "faster")["version"] == before["version"] + 1
    assert live.json("settings", "diff")["train.steps"] == {"default": 1500, "value": 900}
    assert "train.steps" in live.run("settings", "diff")
    file = tmp_path / "loop.yaml"
    file.write_text("train: {steps: 900}\n")
    assert "train.steps" not in live.json("settings", "diff", str(file))
    stale = live.run("settings", "set", "train.steps=1", "--expected", "0", code=REFUSED)
    assert "version" in stale
    live.run("settings", "set", "train.steps=1500")


def test_halt_and_resume(live: Live) -> None:
    """By kind, by config, and of what is halted only."""
    live.json("halt", "selfplay", "--reason", "a test")
    assert any(halt["scope"] == "selfplay" for halt in live.json("status")["state"]["halts"])
    live.json("resume", "selfplay")
    assert "there is no halted scope" in live.run("resume", "selfplay", code=USAGE)
    assert live.json("loop", "status")["configs"]


def test_tokens(live: Live, tmp_path: Path) -> None:
    """Made with a role and an end, used by file, revoked; never listed with a secret or a hash."""
    made = live.json("token", "create", "read", "--label", "a screen", "--days", "7")
    listed = next(token for token in live.json("token", "ls") if token["id"] == made["id"])
    assert listed["role"] == "read"
    assert 6 < (listed["expires_ms"] - listed["created_ms"]) / 86_400_000 < 7.1
    assert made["token"] not in live.run("token", "ls")
    assert "hash" not in listed
    file = tmp_path / "read.token"
    file.write_text(made["token"])
    assert live.json("queue", "ls", "--token-file", str(file))["total"] >= 0
    refused = live.run("halt", "train", "--token-file", str(file), code=REFUSED)
    assert "may not propose Halt" in refused
    assert "needs the role `admin`" in live.run("audit", "--token-file", str(file), code=REFUSED)
    live.json("token", "revoke", made["id"], "--reason", "the screen is gone")
    assert "revoked" in live.run("token", "ls")
    assert "token" in live.run("queue", "ls", "--token-file", str(file), code=REFUSED)


def test_events_and_audit(live: Live) -> None:
    """What happened, by number; who did it, newest first."""
    live.run("halt", "export", "--reason", "to be seen")
    live.run("resume", "export")
    events = [json.loads(line) for line in live.run("events", "--json").splitlines()]
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    assert any(event["name"] == "audit.halt" and event["subject"] == "export" for event in events)
    last = events[-1]["seq"]
    assert live.run("events", "--since", str(last)) == ""
    newest = live.json("audit", "--limit", "2")
    assert [entry["action"] for entry in newest] == ["resume", "halt"]
    assert newest[0]["actor"].startswith("admin:first admin")
    assert "to be seen" in live.run("audit", "--limit", "2")


def test_events_are_followed(live: Live) -> None:
    """--follow prints what happens after it began, until it is ended."""
    following = subprocess.Popen(
        [sys.executable, "rift.py", "events", "--follow", "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert following.stdout
        following.stdout.readline()
        live.run("halt", "benchmark", "--reason", "followed")
        for line in following.stdout:
            event = json.loads(line)
            if event["name"] == "audit.halt" and event["detail"]["reason"] == "followed":
                break
    finally:
        following.kill()
        following.communicate()
    live.run("resume", "benchmark")


def test_cluster_and_doctor(live: Live) -> None:
    """The voters as the operator sees them."""
    assert live.json("cluster", "status")["leader"] == "voter-1"
    assert live.json("cluster", "members") is not None
    assert live.json("cluster", "snapshot")["index"] > 0
    assert live.json("cluster", "verify")
    assert "voter" in live.run("cluster", "leader-transfer", "voter-9", code=USAGE)
    assert live.json("alerts", "ls") is not None


def test_no_secret_is_written_down(live: Live, tmp_path: Path) -> None:
    """After a run with good and bad tokens neither log nor log entries nor snapshots hold a token or a key."""
    folder = live.created.folder
    secrets = {path.read_text().strip() for path in folder.glob("secrets/*") if path.name != "first-tokens.yaml"}
    made = live.json("token", "create", "worker", "--label", "for a while")["token"]
    for number, token in enumerate((made, made + "x", "rift_0123456789ab_guessed-by-somebody", "no token at all")):
        (tmp_path / f"{number}.token").write_text(token)
        live.run("queue", "ls", "--token-file", f"{tmp_path}/{number}.token", code=REFUSED if number else DONE)
        with contextlib.suppress(ClientError):
            live.call(lambda client: client.get("/status?token=guessed-by-somebody"))
    live.run("cluster", "snapshot")
    texts = [*secrets, made, "guessed-by-somebody"]
    assert all(len(text) > 10 for text in texts)
    assert len(secrets) >= 4
    written = [folder / "voter.log", *(path for path in folder.glob("data/**/*") if path.is_file())]
    assert (folder / "voter.log").stat().st_size > 0
    assert len(written) > 2
    for path in written:
        data = path.read_bytes()
        assert not [text[:12] for text in texts if text.encode() in data], path


@pytest.mark.parametrize("code", [UNAVAILABLE])
def test_flags_say_which_cluster(live: Live, code: int) -> None:
    """--server, --token-file and --ca go before the context, on every command."""
    nobody = live.run("queue", "ls", "--server", "https://127.0.0.1:9", code=code)
    assert "https://127.0.0.1:9" in nobody
    found = live.json(
        "status", "--server", live.url, "--token-file", str(live.created.worker_token), "--ca", str(live.created.ca)
    )
    assert found["voter"] == "voter-1"


# Wrong input, and what its one sentence must say.
WRONG = [
    (("queue", "show", "b11"), USAGE, "there is no job 'b11'; did you mean b1"),
    (("queue", "show", "zzz-unlike-any"), USAGE, "there is no job 'zzz-unlike-any'"),
    (("queue", "explain", "b2x"), USAGE, "did you mean b2"),
    (("queue", "cancel", "b1", "nothing-here"), USAGE, "there is no job 'nothing-here'"),
    (("queue", "ls", "--state", "runing"), USAGE, "did you mean running?"),
    (("queue", "ls", "--kind", "tournamnt"), USAGE, "did you mean tournament"),
    (("queue", "drain", "--kind", "tournamnt"), USAGE, "did you mean tournament"),
    (("queue", "explain"), USAGE, "name a job, or a worker by --worker"),
    (("queue", "explain", "--worker", "w2"), USAGE, "did you mean w1?"),
    (("workers", "forget", "w2"), USAGE, "did you mean w1?"),
    (("queue", "add", "tournamnt"), USAGE, "did you mean tournament"),
    (("queue", "add", "thumbnail", "--payload", "[1]"), USAGE, "--payload: is not a JSON map"),
    (("queue", "add", "thumbnail", "--payload", "@/nowhere.json"), USAGE, "cannot be read: No such file"),
    (("queue", "add", "thumbnail", "--after", "nothing"), USAGE, "there is no job 'nothing'"),
    (("queue", "add", "tournament", "--payload", '{"boards": 1}'), REFUSED, "boards"),
    (("queue", "add", "thumbnail", "--priority", "200"), USAGE, "less than or equal to 100"),
    (("queue", "drain"), USAGE, "--kind, --config, or --all"),
    (("queue", "kind", "selfplay"), REFUSED, "built-in"),
    (("queue", "kind", "k", "--payload-schema", "/nowhere"), USAGE, "cannot be read"),
    (("queu", "ls"), USAGE, "did you mean queue?"),
    (("workers", "show", "w2"), USAGE, "did you mean w1?"),
    (("lock", "break", "nolock"), USAGE, "there is no lock 'nolock'"),
    (("model", "show", "0123456789"), USAGE, "there is no model '0123456789'"),
    (("model", "import", "/nowhere"), USAGE, "cannot be read: No such file"),
    (("model", "import", "pyproject.toml"), USAGE, "is no safetensors file"),
    (("model", "rollback", "square8_9p", "--reason", "x"), USAGE, "there is no config with a champion"),
    (("settings", "set", "train.step=5"), USAGE, "did you mean train.steps"),
    (("settings", "set", "train.steps"), USAGE, "write key=value"),
    (("settings", "set", "train.steps=-5"), REFUSED, "train.steps"),
    (("settings", "get", "trian"), USAGE, "there is no setting 'trian'"),
    (("settings", "diff", "/nowhere.yaml"), USAGE, "cannot be read"),
    (("halt", "selfpaly"), USAGE, "did you mean selfplay"),
    (("token", "create", "admn"), USAGE, "did you mean admin"),
    (("token", "create", "read", "--days", "-1"), USAGE, "greater than or equal to 0"),
    (("token", "revoke", "nope"), USAGE, "there is no token 'nope'"),
    (("elo", "--board", "squar8"), USAGE, "there is no board 'squar8'"),
    (("queue", "ls", "--token-file", "/nowhere.token"), USAGE, "/nowhere.token: cannot be read"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), WRONG, ids=[" ".join(each[0][:3]) for each in WRONG])
def test_wrong_input_gets_a_sentence(live: Live, arguments: tuple[str, ...], code: int, said: str) -> None:
    """It names what is wrong, near matches where there are some, and what to do; never a page of ids."""
    for name in ("b1", "b2"):
        live.run("queue", "add", "thumbnail", "--id", name)
    sentence = live.run(*arguments, code=code)
    assert said in sentence
    assert len(sentence) < 600


def test_every_command_is_tried_here() -> None:
    """A command that is added to these groups needs a line above."""
    text = Path(__file__).read_text()
    for group in ("status", "queue", "lock", "workers", "model", "elo", "settings", "token", "events", "audit"):
        module, name = rift.COMMANDS[group][0].split(":")
        command = typer.main.get_command(getattr(importlib.import_module(module), name))
        for below in getattr(command, "commands", {}) or [""]:
            called = rf'(live|self)\.(run|json)\(\s*"{group}"' + (rf',\s*"{re.escape(below)}"' if below else "")
            assert re.search(called, text), f"rift {group} {below} is not tried"
