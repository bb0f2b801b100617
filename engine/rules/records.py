"""Game files: compact, versioned, and replayed whenever they are read.

    magic "RIFG" | format version, 1 byte | body, msgpack | SHA-256 of all before it, 32 bytes

The body holds the start, the options, the result, the provenance, and for each ply the place of the move
among the legal codes in ascending order (a variable-length integer) and one check byte of the position it
leads to. The digest finds any damage; the check bytes name the ply of it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, Self

import msgspec
import numpy as np

from engine.rules import RULES_VERSION
from engine.rules.errors import BadRecord, RulesError
from engine.rules.game import REASONS, Game, Rules

MAGIC: Final = b"RIFG"
FORMAT_VERSION: Final = 1
DIGEST_BYTES: Final = 32
UNFINISHED: Final = "unfinished"
GIVEN_UP: Final = ("resignation", "timeout")


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a game comes from; empty where it does not apply."""

    models: tuple[str, ...] = ()  # SHA-256 of each seat's model
    seed: int = 0
    node: str = ""
    job: str = ""
    attempt: int = 0
    rules_version: str = RULES_VERSION


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a game ended; an unfinished game has winner 0 and no ranks."""

    winner: int
    reason: str
    ranks: tuple[int, ...] = ()
    gave_up: int = 0  # seat that resigned or ran out of time


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    board: str
    players: int
    swap: bool
    variant: str
    rings: int | None
    lps_rounds: int
    start: str  # position text, empty for the empty board
    plies: int
    moves: bytes
    checks: bytes
    result: Result
    provenance: Provenance


def _varint(value: int) -> bytes:
    """LEB128."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varints(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield value
            value = shift = 0
    if shift:
        yield value


def _check_byte(game: Game) -> int:
    return game.hash % 251


def _result_of(game: Game, gave_up: int) -> Result:
    outcome = game.outcome
    if outcome is None:
        return Result(winner=0, reason=UNFINISHED)
    return Result(outcome.winner, outcome.reason, outcome.ranks, gave_up)


class GameRecord(msgspec.Struct, frozen=True):
    """A game whose every ply has been replayed."""

    board: str
    players: int
    rules: Rules
    start: str
    codes: tuple[int, ...]
    result: Result
    provenance: Provenance

    @classmethod
    def of(
        cls,
        start: Game,
        codes: Iterable[int],
        provenance: Provenance | None = None,
        *,
        gave_up: int = 0,
        timeout: bool = False,
    ) -> Self:
        """Record the codes played from a position; raise BadRecord when they are none, or illegal.

        `gave_up` is the seat that resigned after them, or that ran out of time.
        """
        played = tuple(int(code) for code in codes)
        if not played:
            raise BadRecord("a game without moves is not recorded: play at least one move")
        game = start.clone()
        for ply, code in enumerate(played):
            try:
                game.apply(code)
            except RulesError as error:
                raise BadRecord(f"ply {ply}: {error}") from error
        if gave_up:
            game.resign(gave_up, timeout=timeout)
        where = start.geometry
        rules = Rules(where.swap, where.variant, where.supply, where.lps_rounds)
        fresh = Game.new(where.board, where.players, rules).state() == start.state()
        return cls(
            board=where.board,
            players=where.players,
            rules=rules,
            start="" if fresh else start.state(),
            codes=played,
            result=_result_of(game, gave_up),
            provenance=provenance or Provenance(),
        )

    def first_position(self) -> Game:
        """Return the game before its first ply."""
        if self.start:
            return Game.from_state(self.start, self.board, self.players, self.rules)
        return Game.new(self.board, self.players, self.rules)

    def positions(self) -> Iterator[Game]:
        """Yield the position before each ply and the last one; each is a copy."""
        game = self.first_position()
        yield game.clone()
        for code in self.codes:
            game.apply(code)
            yield game.clone()

    def notation(self) -> list[str]:
        """Return each move in notation."""
        return [str(game.move(code)) for game, code in zip(self.positions(), self.codes, strict=False)]

    def to_bytes(self) -> bytes:
        """Pack the game into a file."""
        game = self.first_position()
        moves, checks = bytearray(), bytearray()
        for code in self.codes:
            moves += _varint(int(np.count_nonzero(game.legal_codes() < code)))
            game.apply(code)
            checks.append(_check_byte(game))
        body = _Body(
            self.board, self.players, self.rules.swap, self.rules.variant, self.rules.rings,
            self.rules.lps_rounds, self.start, len(self.codes), bytes(moves), bytes(checks), self.result,
            self.provenance,
        )  # fmt: skip
        data = MAGIC + bytes([FORMAT_VERSION]) + msgspec.msgpack.encode(body)
        return data + hashlib.sha256(data).digest()

    def to_text(self) -> str:
        """Write the game for people: tags, then one turn a line."""
        tags = {
            "board": self.board,
            "players": self.players,
            "rules": msgspec.json.encode(self.rules).decode(),
            "start": self.start or "empty",
            "winner": self.result.winner,
            "reason": self.result.reason,
            "gave_up": self.result.gave_up,
            "provenance": msgspec.json.encode(self.provenance).decode(),
        }
        lines = [f"[{name} {value}]" for name, value in tags.items()]
        turn: list[str] = []
        seat = 0
        for game, move in zip(self.positions(), self.notation(), strict=False):
            if turn and (game.to_move != seat or move in ("NP", "SP") or move.startswith("P")):
                lines.append(f"{seat}. {' '.join(turn)}")
                turn = []
            seat = game.to_move
            turn.append(move)
        lines.append(f"{seat}. {' '.join(turn)}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `to_text` wrote; raise BadRecord with the ply of the first mistake."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        tags = {k: v for k, _, v in (x[1:-1].partition(" ") for x in lines if x.startswith("["))}
        moves = [m for x in lines if not x.startswith("[") for m in x.partition(". ")[2].split()]
        try:
            rules = msgspec.json.decode(tags["rules"], type=Rules)
            provenance = msgspec.json.decode(tags["provenance"], type=Provenance)
            players, gave_up, winner = int(tags["players"]), int(tags["gave_up"]), int(tags["winner"])
            board, start, reason = tags["board"], tags["start"], tags["reason"]
        except KeyError as error:
            raise BadRecord(f"the game has no tag {error}") from error
        except (ValueError, msgspec.DecodeError) as error:
            raise BadRecord(f"a tag of the game cannot be read: {error}") from error
        first = _start(board, players, rules, "" if start == "empty" else start)
        game = first.clone()
        codes = []
        for ply, move in enumerate(moves):
            try:
                codes.append(game.code(move))
                game.apply(codes[-1])
            except RulesError as error:
                raise BadRecord(f"ply {ply}: {error}") from error
        record = cls.of(first, codes, provenance, gave_up=gave_up, timeout=reason == "timeout")
        if (record.result.winner, record.result.reason) != (winner, reason):
            raise BadRecord(_wrong_result(len(codes), (winner, reason), record.result))
        return record


def _wrong_result(plies: int, claimed: tuple[int, str], found: Result) -> str:
    return (
        f"ply {plies}: the game says winner {claimed[0]} by {claimed[1]}, "
        f"but its moves end with winner {found.winner} by {found.reason}"
    )


def _start(board: str, players: int, rules: Rules, text: str) -> Game:
    try:
        if text:
            return Game.from_state(text, board, players, rules)
        return Game.new(board, players, rules)
    except RulesError as error:
        raise BadRecord(f"ply 0: the start of the game cannot be read: {error}") from error


def _replay(body: _Body, first: Game) -> tuple[list[int], Game]:
    """Replay the moves of a file; raise BadRecord with the ply of the first fault."""
    game = first.clone()
    codes: list[int] = []
    for ply, index in enumerate(_varints(body.moves)):
        legal = np.sort(game.legal_codes())
        if index >= len(legal):
            raise BadRecord(f"ply {ply}: move {index + 1} of {len(legal)} legal moves does not exist")
        code = int(legal[index])
        game.apply(code)
        codes.append(code)
        if ply >= len(body.checks) or body.checks[ply] != _check_byte(game):
            raise BadRecord(f"ply {ply}: this move or one before it was changed or is missing")
    if not codes:
        raise BadRecord("ply 0: the game has no moves")
    if len(codes) != body.plies or len(codes) != len(body.checks):
        raise BadRecord(f"ply {len(codes)}: the game says {body.plies} plies, but has {len(codes)}")
    return codes, game


def read_record(data: bytes) -> GameRecord:
    """Read and replay a game file; raise BadRecord, with the ply where there is one, for any fault."""
    if data[:4] != MAGIC or len(data) < 5 + DIGEST_BYTES:
        raise BadRecord("this is no game file: it does not begin with RIFG")
    if data[4] != FORMAT_VERSION:
        raise BadRecord(f"the game file has format {data[4]}, this program reads {FORMAT_VERSION}")
    intact = hashlib.sha256(data[:-DIGEST_BYTES]).digest() == data[-DIGEST_BYTES:]
    try:
        body = msgspec.msgpack.decode(data[5:-DIGEST_BYTES], type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRecord(f"ply 0: the game file is damaged, its body cannot be read: {error}") from error
    if body.provenance.rules_version != RULES_VERSION:
        raise BadRecord(
            f"the game was played by rules {body.provenance.rules_version!r}, this program has {RULES_VERSION!r}"
        )
    rules = Rules(body.swap, body.variant, body.rings, body.lps_rounds)
    first = _start(body.board, body.players, rules, body.start)
    codes, game = _replay(body, first)
    _check_result(body.result, game, len(codes))
    if not intact:
        raise BadRecord(f"the game file is damaged outside its moves (all {len(codes)} plies replay)")
    return GameRecord(body.board, body.players, rules, body.start, tuple(codes), body.result, body.provenance)


def _check_result(result: Result, game: Game, plies: int) -> None:
    """Refuse a result that the moves do not lead to."""
    if result.reason not in (*REASONS[1:], UNFINISHED):
        raise BadRecord(f"ply {plies}: unknown reason {result.reason!r}")
    if result.reason in GIVEN_UP:
        try:
            game.resign(result.gave_up, timeout=result.reason == "timeout")
        except RulesError as error:
            raise BadRecord(f"ply {plies}: {error}") from error
    found = _result_of(game, result.gave_up)
    if found != result:
        raise BadRecord(_wrong_result(plies, (result.winner, result.reason), found))
