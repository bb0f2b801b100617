"""Game files: small, readable both ways, and any damage is found and named by its ply."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.rules.errors import BadRecord
from engine.rules.game import Game, Rules
from engine.rules.geometry import BOARDS
from engine.rules.records import GameRecord, Provenance, _Body, read_record
from engine.rules.svg import game_svg, position_svg
from engine.rules.text import position_text


def random_record(board: str = "square8", players: int = 2, seed: int = 1) -> GameRecord:
    rng = np.random.default_rng(seed)
    start = Game.new(board, players, Rules(swap=players == 2))
    game, codes = start.clone(), []
    while not game.is_over:
        codes.append(int(rng.choice(game.legal_codes())))
        game.apply(codes[-1])
    return GameRecord.of(
        start, codes, Provenance(models=("a" * 64,) * players, seed=seed, node="n1", job="j1", attempt=2)
    )


RECORD = random_record()
PACKED = RECORD.to_bytes()


def repacked(**changes: object) -> bytes:
    """Change the body of a file and sign it anew, as a forger would."""
    import hashlib

    import msgspec

    body = msgspec.msgpack.decode(PACKED[5:-32], type=_Body)
    data = PACKED[:5] + msgspec.msgpack.encode(msgspec.structs.replace(body, **changes))
    return data + hashlib.sha256(data).digest()


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("players", [2, 3, 4])
def test_bytes_and_text_go_both_ways(board: str, players: int) -> None:
    """A game survives both forms, within four bytes a ply and a fixed head."""
    record = random_record(board, players)
    packed = record.to_bytes()
    assert read_record(packed) == record
    assert GameRecord.from_text(record.to_text()) == record
    assert len(packed) < 700 + 4 * len(record.codes)


def test_game_from_a_position() -> None:
    """A game that starts elsewhere keeps its start."""
    start = next(game for game in RECORD.positions() if game.plies == 40)
    start = Game.from_state(start.state(), "square8", 2, RECORD.rules)
    record = GameRecord.of(start, RECORD.codes[40:])
    assert record.start == start.state()
    assert read_record(record.to_bytes()) == record
    assert record.result == RECORD.result


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(place: int, change: int) -> None:
    """No byte can change unnoticed."""
    damaged = bytearray(PACKED)
    damaged[place] ^= change
    with pytest.raises(BadRecord):
        read_record(bytes(damaged))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(PACKED) - 1))
def test_any_missing_byte_is_found(place: int) -> None:
    """Nor can one go missing."""
    with pytest.raises(BadRecord):
        read_record(PACKED[:place] + PACKED[place + 1 :])


def _body() -> _Body:
    import msgspec

    return msgspec.msgpack.decode(PACKED[5:-32], type=_Body)


def test_changed_move_names_its_ply() -> None:
    """A changed move is found at its ply even when the file is signed anew."""
    moves = bytearray(_body().moves)
    moves[0] = 0 if moves[0] else 1
    with pytest.raises(BadRecord, match="ply 0"):
        read_record(repacked(moves=bytes(moves)))


def test_missing_and_surplus_moves() -> None:
    """A file with a move too few or too many is refused at its last ply."""
    body = _body()
    with pytest.raises(BadRecord, match=f"ply {len(RECORD.codes) - 1}"):
        read_record(repacked(moves=body.moves[:-1], checks=body.checks[:-1]))
    with pytest.raises(BadRecord, match=f"ply {len(RECORD.codes)}"):
        read_record(repacked(moves=body.moves + b"\x00"))
    with pytest.raises(BadRecord, match="no moves"):
        read_record(repacked(moves=b"", checks=b"", plies=0))


def test_illegal_move_names_its_ply() -> None:
    """A move beyond the list of legal moves is refused."""
    with pytest.raises(BadRecord, match="ply 0: move"):
        read_record(repacked(moves=b"\xff\x7f" + _body().moves))


def test_wrong_result_is_refused() -> None:
    """A result that the moves do not lead to is refused."""
    import msgspec

    wrong = msgspec.structs.replace(RECORD.result, winner=3 - RECORD.result.winner)
    with pytest.raises(BadRecord, match=f"ply {len(RECORD.codes)}: the game says winner"):
        read_record(repacked(result=wrong))
    with pytest.raises(BadRecord, match="winner"):
        GameRecord.from_text(RECORD.to_text().replace(f"[winner {RECORD.result.winner}]", "[winner 0]"))


def test_games_without_moves_and_other_files() -> None:
    """Empty games, other formats and other rules are refused with a reason."""
    with pytest.raises(BadRecord, match="without moves"):
        GameRecord.of(Game.new("square8", 2), [])
    with pytest.raises(BadRecord, match="ply 0"):
        GameRecord.of(Game.new("square8", 2), [10**6])
    with pytest.raises(BadRecord, match="no game file"):
        read_record(b"hello")
    with pytest.raises(BadRecord, match="format 9"):
        read_record(PACKED[:4] + b"\x09" + PACKED[5:])
    with pytest.raises(BadRecord, match="rules '0'"):
        read_record(repacked(provenance=Provenance(rules_version="0")))


def test_resigned_and_unfinished_games() -> None:
    """Games that were given up or broken off are recorded as such."""
    start = Game.new("square8", 2)
    for timeout in (False, True):
        given_up = GameRecord.of(start, RECORD.codes[:10], gave_up=1, timeout=timeout)
        assert given_up.result.winner == 2
        assert read_record(given_up.to_bytes()) == given_up
        assert GameRecord.from_text(given_up.to_text()) == given_up
    unfinished = GameRecord.of(start, RECORD.codes[:10])
    assert unfinished.result.reason == "unfinished"
    assert read_record(unfinished.to_bytes()) == unfinished


@pytest.mark.parametrize("board", BOARDS)
def test_pictures_show_the_position(board: str) -> None:
    """Pictures are well-formed, and show every stack of the position."""
    from xml.etree import ElementTree

    record = random_record(board, 3)
    last = list(record.positions())[-1]
    still = ElementTree.fromstring(position_svg(last))  # noqa: S314 - our own text
    tops = [e for e in still.iter() if e.tag.endswith("ellipse") and e.get("rx") == "6"]
    stacks = last.state().split("|")[7]
    assert len(tops) == len([x for x in stacks.split(",") if x])
    moving = ElementTree.fromstring(game_svg(record))  # noqa: S314
    assert sum(e.tag.endswith("animate") for e in moving.iter()) > len(record.codes)
    assert f"ply {len(record.codes)}" in position_text(last).plain


def test_animation_shows_each_position_at_its_time() -> None:
    """At the time of every frame the visible parts are the rings, markers and cells of that position."""
    from collections import Counter
    from xml.etree import ElementTree

    games = list(RECORD.positions())
    root = ElementTree.fromstring(game_svg(RECORD, frame_ms=600))  # noqa: S314 - our own text
    frames = len(games) + 5  # the end stays for three seconds

    def shapes(element: ElementTree.Element) -> Counter[str]:
        kinds = ("ellipse", "circle", "rect", "text")
        found = (e for e in element.iter() if e.tag.rpartition("}")[2] in kinds and e.get("class") != "m")
        return Counter(ElementTree.tostring(e, encoding="unicode", method="xml").strip() for e in found)

    def visible(group: ElementTree.Element, time: float) -> bool:
        animate = next((e for e in group if e.tag.endswith("animate")), None)
        if animate is None:
            return True
        times = [float(t) for t in animate.get("keyTimes", "").split(";")]
        values = animate.get("values", "").split(";")
        return [v for t, v in zip(times, values, strict=True) if t <= time][-1] == "visible"

    for k in (0, 1, 7, 30, len(games) // 2, len(games) - 1):
        shown: Counter[str] = Counter()
        for part in root:
            if visible(part, (k + 0.5) / frames):
                shown += shapes(part)
        last = games[k - 1].move(RECORD.codes[k - 1]) if k else None
        still = ElementTree.fromstring(position_svg(games[k], last))  # noqa: S314
        assert shown == shapes(still)
