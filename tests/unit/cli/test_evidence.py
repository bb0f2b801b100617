"""What is said of a model comes from the recorded matches, and from those that count."""

from __future__ import annotations

import msgspec
import pytest
import typer

from config.errors import ConfigError
from config.loop import GateSettings, LoopSettings
from workqueue.cli import context
from workqueue.cli.evidence import Recorded, as_evidence, lines, recorded
from workqueue.cli.model import manifest_in
from workqueue.machine.views import Match

NEW, OLD, OTHER = "n" * 64, "o" * 64, "x" * 64
CONFIG = "square8_2p"
SETTINGS = LoopSettings(gate=GateSettings(elo0=0, elo1=50))


def seat(model: str, simulations: int = 16) -> str:
    return f"{model}:gumbel:s{simulations}"


def match(number: int, first: str, second: str, ranks: tuple[int, int], **fields: object) -> Match:
    job = str(fields.pop("job", "j"))
    return Match(
        f"{CONFIG}/{number}", CONFIG, (first, second), ranks, 40, "territory", f"o{number // 2}", "evaluate", job,
        "w", 1, **fields,
    )  # fmt: skip


def look(*matches: Match, champion: str = OLD) -> Recorded:
    return recorded(matches, NEW, champion, CONFIG, SETTINGS)


def test_games_against_the_champion_are_counted_from_both_seats() -> None:
    """A win is a win from either seat; a shared first place is a draw."""
    found = look(
        match(0, seat(NEW), seat(OLD), (1, 2)),
        match(1, seat(OLD), seat(NEW), (1, 2)),
        match(2, seat(OLD), seat(NEW), (2, 1)),
        match(3, seat(NEW), seat(OLD), (1, 1)),
    )
    assert (found.games, found.wins, found.draws, found.losses) == (4, 2, 1, 1)
    assert found.points_milli == 625
    assert found.match_ids == tuple(f"{CONFIG}/{n}" for n in range(4))


def test_what_does_not_count_is_left_out() -> None:
    """Revoked matches, other models' matches, and matches against others than the champion."""
    revoked = msgspec.structs.replace(match(0, seat(NEW), seat(OLD), (1, 2)), revoked=True)
    found = look(revoked, match(1, seat(OTHER), seat(OLD), (1, 2)), match(2, seat(NEW), seat(OTHER), (1, 2)))
    assert (found.games, found.match_ids, found.verdict) == (0, (), "undecided")


def test_every_search_budget_of_a_model_is_that_model() -> None:
    """Matches of 16 and of 64 simulations are both of the two models."""
    found = look(match(0, seat(NEW, 64), seat(OLD, 16), (1, 2)), match(1, seat(OLD, 16), seat(NEW, 64), (2, 1)))
    assert found.wins == 2


def test_baselines_are_measured_against_their_floors() -> None:
    """With a champion the floors of a gate apply, without one those of a first model."""
    games = [match(n, seat(NEW), "none:random:-", (1, 2) if n < 9 else (2, 1)) for n in range(10)]
    assert look(*games).floors["none:random:-"] == (900, 10, 850)
    assert look(*games, champion="").floors["none:random:-"] == (900, 10, 750)
    assert look().floors["none:heuristic:-"] == (0, 0, 600)


def test_openings_of_different_jobs_are_different_sets() -> None:
    """The same name of an opening in two jobs makes two sets, so that both count in the sequential test."""
    games = [match(n % 2, seat(NEW), seat(OLD), (1, 2), job=f"job{n // 2}") for n in range(60)]
    found = look(*games)
    assert found.verdict == "accept"
    assert found.llr_milli >= found.bound_milli > 0


def test_a_promotion_by_hand_carries_the_numbers() -> None:
    """So that the audit can be read later."""
    evidence = as_evidence(look(match(0, seat(NEW), seat(OLD), (1, 2))), "because")
    assert (evidence.rule, evidence.games, evidence.wins, evidence.note) == ("manual", 1, 1, "because")
    assert evidence.match_ids == (f"{CONFIG}/0",)


def test_it_is_said_in_sentences() -> None:
    """Also what is missing."""
    said = "\n".join(lines(look(match(0, seat(NEW), seat(OLD), (1, 2)))))
    assert "1 games, 1 won, 0 drawn, 0 lost, 100.0 %" in said
    assert "sequential test: undecided" in said
    assert "against none:random:-: no recorded game, 85.0 % are needed" in said
    assert "has no champion" in "\n".join(lines(look(champion="")))


def test_a_manifest_is_read_from_the_header(tmp_path) -> None:
    """Without reading the weights; a file of another format is refused with a sentence."""
    header = b'{"__metadata__": {"riftq": "{\\"board\\": \\"hex8\\"}"}}'
    (tmp_path / "good").write_bytes(len(header).to_bytes(8, "little") + header + bytes(100))
    assert manifest_in(tmp_path / "good") == {"board": "hex8"}
    for name, data in (
        ("short", b"12"),
        ("text", b"hello, this is no model at all"),
        ("list", b"\x02" + bytes(7) + b"[]"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(typer.Exit):
            manifest_in(tmp_path / name)


@pytest.mark.parametrize(
    ("given", "names", "said"),
    [
        ("selfplay-2", ["selfplay-1", "train-9"], "did you mean selfplay-1?"),
        ("zzz", [f"job-{n}" for n in range(50)], "`rift queue ls` lists what there is"),
        ("zzz", ["a", "b"], "known: a, b"),
        ("zzz", [], "there is none"),
    ],
)
def test_a_hint_never_is_a_page(given: str, names: list[str], said: str) -> None:
    """Near names, else the few there are, else the command that lists them."""
    assert context.hint(given, names, "rift queue ls") == said


def test_digests_are_shortened_for_people() -> None:
    """Wherever they stand in a text."""
    assert context.brief(f"{'a' * 64}:gumbel:s16 and {'b' * 63}") == f"{'a' * 10}:gumbel:s16 and {'b' * 63}"


def test_flags_go_before_environment_and_file(tmp_path, monkeypatch) -> None:
    """--server beats RIFT_SERVERS beats context.yaml."""
    path = tmp_path / "context.yaml"
    path.write_text("servers: [https://a:1]\ntoken_file: t\nca: c\n")
    monkeypatch.setenv("RIFT_CONTEXT", str(path))
    monkeypatch.setenv("RIFT_SERVERS", "https://b:2")
    monkeypatch.setattr(context, "_flags", {"servers": ["https://d:4"], "token_file": "u"})
    assert context.load_context() == context.Context(("https://d:4",), "u", "c")


@pytest.mark.parametrize(("text", "said"), [("[1]", "must be a map"), ("a: [", "is not YAML"), ("ca: x", "--server")])
def test_a_wrong_context_is_said_to_be(tmp_path, monkeypatch, text: str, said: str) -> None:
    """With what to do."""
    path = tmp_path / "context.yaml"
    path.write_text(text)
    monkeypatch.setenv("RIFT_CONTEXT", str(path))
    monkeypatch.setattr(context, "_flags", {})
    for name in ("RIFT_SERVERS", "RIFT_TOKEN_FILE", "RIFT_CA"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=said):
        context.load_context()
