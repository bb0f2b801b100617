"""Checks recorded games ply by ply: legal moves, positions, hashes, ends and reasons.

A recorded game is a JSON object a line, optionally gzipped. Its keys are described in
`tests/golden/README.md`.
"""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.rules.errors import BadRecord, RulesError
from engine.rules.game import Game
from engine.rules.position import FIELDS
from engine.rules.trace_adapter import listed_moves

FIELD_NAMES = (
    "phase", "player", "status", "winner", "hands", "eliminated", "territory", "stacks", "markers",
    "collapsed", "must move", "capturing", "payment due", "acted/recovered", "swap", "last player standing",
)  # fmt: skip
GAME_KEYS = {"board", "players", "init", "plies", "end"}
VECTOR_KEYS = {"board", "players", "before", "steps"}
POSITION_FIELDS = 13  # fields of a position that test vectors fill in; the turn's history is left out
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Difference:
    """The first point at which a recorded game and this engine disagree."""

    game: str
    ply: int
    text: str

    def __str__(self) -> str:
        """Return a few readable lines."""
        return f"{self.game}, ply {self.ply}: {self.text}"


def digest(text: str) -> str:
    """Return the first 16 hex digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_games(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the games of a file; raise BadRecord when it is none."""
    opener = gzip.open if path.suffix == ".gz" else open
    decoder = msgspec.json.Decoder(dict[str, Any])
    try:
        with opener(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    game = decoder.decode(line)
                    needed = VECTOR_KEYS if "steps" in game else GAME_KEYS
                    missing = needed - game.keys()
                    if missing:
                        raise BadRecord(f"{path}, line {number}: the game has no {min(missing)}")
                    yield game
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise BadRecord(f"{path} is no file of recorded games: {error}") from error


def _some(items: list[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return " ".join(items[:SHOWN]) + more


def _compare_lists(expected: Mapping[str, Any], game: Game) -> str:
    """Describe how the legal moves differ from the recorded ones; empty when they do not."""
    found = sorted(str(move) for move in listed_moves(game))
    if "L" in expected and found != expected["L"]:
        missing = sorted(set(expected["L"]) - set(found))
        extra = sorted(set(found) - set(expected["L"]))
        return f"legal moves differ; missing: {_some(missing) or 'none'}; not recorded: {_some(extra) or 'none'}"
    if "N" in expected and len(found) != expected["N"]:
        return f"{expected['N']} legal moves are recorded, found {len(found)}: {_some(found)}"
    if "H" in expected and digest("\n".join(found)) != expected["H"]:
        return f"the legal moves have another hash than recorded: {_some(found)}"
    return ""


def _compare_state(expected: Mapping[str, Any], game: Game) -> str:
    """Describe how the position differs from the recorded one; empty when it does not."""
    found = game.state()
    if "s" in expected and found != expected["s"]:
        ours, theirs = found.split("|"), expected["s"].split("|")
        if len(theirs) != FIELDS:
            return f"the recorded position has {len(theirs)} fields instead of {FIELDS}"
        parts = zip(FIELD_NAMES, theirs, ours, strict=True)
        return "; ".join(f"{name}: recorded {a!r}, found {b!r}" for name, a, b in parts if a != b)
    if "h" in expected and digest(found) != expected["h"]:
        return f"the position has another hash than recorded: {found}"
    return ""


def _compare_end(end: Mapping[str, Any], upcoming: object, game: Game) -> str:
    if end.get("capped"):
        if upcoming is None:
            return ""
        return _compare_lists(upcoming if isinstance(upcoming, dict) else {"L": upcoming}, game)
    outcome = game.outcome
    if outcome is None:
        return f"the recorded game is over, player {end['winner']} won; here it goes on"
    if (outcome.winner, outcome.reason) != (end["winner"], end["reason"]):
        return (
            f"recorded: player {end['winner']} won by {end['reason']}; "
            f"found: player {outcome.winner} by {outcome.reason}"
        )
    return ""


def start_of(record: Mapping[str, Any]) -> Game:
    """Start a recorded game."""
    rules = dict(record.get("rules", {}))
    if "variant" in record:
        rules["variant"] = record["variant"]
    if "kind" in record:
        return Game.from_state(record["init"], record["board"], record["players"], rules)
    return Game.new(record["board"], record["players"], rules)


def check_vector(record: Mapping[str, Any]) -> Difference | None:
    """Check a test vector: a position, its legal moves, and the positions that moves lead to.

    A move that the vector says is not offered must be refused; vectors of one player are outside the rules.
    """
    name = str(record.get("id", "vector"))
    if record["players"] < 2:
        return None
    game = Game.from_state(record["before"], record["board"], record["players"], record.get("rules"))
    text = _compare_lists({"L": sorted(record["legal"])}, game) if "legal" in record else ""
    for number, step in enumerate(record["steps"]):
        if text:
            break
        offered = step["move"] in (str(move) for move in listed_moves(game))
        if offered != step.get("in_legal_list", offered):
            text = f"{step['move']} is {'' if offered else 'not '}offered, the vector says otherwise"
        if not offered:
            try:
                game.apply(step["move"])
            except RulesError:
                break
            text = f"{step['move']} is not offered, but accepted"
        else:
            game.apply(step["move"])
            ours, theirs = (p.split("|")[:POSITION_FIELDS] for p in (game.state(), step["after"]))
            if ours != theirs:
                text = f"after {step['move']}: recorded {'|'.join(theirs)}, found {'|'.join(ours)}"
        if text:
            return Difference(name, number, text)
    return Difference(name, 0, text) if text else None


def check_game(record: Mapping[str, Any]) -> Difference | None:
    """Replay a recorded game or test vector; return the first difference, None when all of it agrees."""
    name = str(record.get("id", "game"))
    number = 0
    try:
        if "steps" in record:
            return check_vector(record)
        game = start_of(record)
        text = _compare_state({"s": record["init"]}, game)
        if text:
            return Difference(name, 0, f"before the first move: {text}")
        for number, ply in enumerate(record["plies"]):
            text = _compare_lists(ply, game)
            if text:
                return Difference(name, number, text)
            game.apply(ply["c"])
            text = _compare_state(ply, game)
            if text:
                return Difference(name, number, f"after {ply['c']}: {text}")
        text = _compare_end(record["end"], record.get("next"), game)
    except RulesError as error:
        text = str(error)
    except (KeyError, TypeError, AttributeError) as error:
        text = f"the record is malformed: {error!r}"
    return Difference(name, number, text) if text else None
