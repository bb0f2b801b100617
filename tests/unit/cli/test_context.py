"""Which cluster is meant, near matches, and what settings and trees the command line makes."""

import msgspec
import pytest
import typer

from config.errors import ConfigError
from workqueue.cli import context
from workqueue.cli.settings import flat, parse
from workqueue.cli.up import tree_of


def test_a_missing_context_says_how_to_make_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RIFT_CONTEXT", str(tmp_path / "none.yaml"))
    for name in ("RIFT_SERVERS", "RIFT_TOKEN_FILE", "RIFT_CA"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="rift up"):
        context.load_context()


def test_environment_goes_before_the_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "context.yaml"
    path.write_text("servers: [https://a:1]\ntoken_file: t\n")
    monkeypatch.setenv("RIFT_CONTEXT", str(path))
    monkeypatch.setenv("RIFT_SERVERS", "https://b:2,https://c:3")
    assert context.load_context() == context.Context(("https://b:2", "https://c:3"), "t")


def test_an_unknown_key_of_the_context_is_named(tmp_path, monkeypatch) -> None:
    path = tmp_path / "context.yaml"
    path.write_text("servers: [https://a:1]\ntoken_fil: t\n")
    monkeypatch.setenv("RIFT_CONTEXT", str(path))
    with pytest.raises(ConfigError, match="token_fil"):
        context.load_context()


def test_a_wrong_name_gets_the_nearest_ones(capsys) -> None:
    with pytest.raises(typer.Exit) as ended:
        context.near("job", "selfplay-2", ["selfplay-1", "train-9"])
    assert ended.value.exit_code == context.USAGE
    assert "did you mean selfplay-1?" in capsys.readouterr().err


def test_settings_are_checked_by_key_and_read_as_json() -> None:
    known = flat({"train": {"steps": 1, "size": "x"}, "target_elo": 2000})
    found = parse(["train.steps=50", "train.size=64x6"], known)
    assert {key: msgspec.msgpack.decode(raw) for key, raw in found.items()} == {
        "train.steps": 50,
        "train.size": "64x6",
    }
    with pytest.raises(typer.Exit):
        parse(["train.step=50"], known)


def test_settings_of_up_become_a_tree() -> None:
    assert tree_of(["train.steps=5", "target_elo=1900"]) == {"train": {"steps": 5}, "target_elo": 1900}


def test_init_tells_programs_where_things_are(tmp_path) -> None:
    """--json names every file that others need; a second time is refused with a sentence."""
    from typer.testing import CliRunner

    from workqueue.cli.init import app

    arguments = ["--folder", str(tmp_path / "c"), "--voter", "host-1", "--json"]
    made = CliRunner().invoke(app, arguments)
    paths = msgspec.json.decode(made.stdout)
    assert paths["voters"] == [str(tmp_path / "c/voter-1.yaml")]
    assert all((tmp_path / paths[name]).exists() for name in ("cluster", "admin_token", "worker_token", "ca"))
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == context.USAGE
    assert "exists; choose another folder" in again.stderr
