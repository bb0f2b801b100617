"""One game: the checked, documented way to the rules."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np

from engine.rules import kernels
from engine.rules import layout as lay
from engine.rules.actions import Move, code_of, legal_codes, move_of, parse_move
from engine.rules.cells import Words
from engine.rules.ending import finish
from engine.rules.errors import BadPosition, IllegalMove, RulesError
from engine.rules.geometry import BOARDS, VARIANTS, Geometry, geometry
from engine.rules.position import parse_state, state_text

REASONS = (
    "",
    "ring_elimination",
    "territory_control",
    "lps_early",
    "lps_rounds",
    "stalemate_territory",
    "stalemate_eliminated",
    "stalemate_markers",
    "stalemate_last_actor",
    "resignation",
    "timeout",
)
MAGIC = b"RRP1"
HEADER = struct.Struct("<4sBBBBHH")  # magic, board, players, variant, swap, supply, last-player-standing rounds
EXTRAS = struct.Struct("<IBBB4I")  # plies, carried flags, last actor, reason, ply at which each seat was out


@dataclass(frozen=True, slots=True)
class Rules:
    """Options: pie rule (rules §14), hex8 variant (§2.2), ring supply (§2.1) and rounds of §13.5."""

    swap: bool = False
    variant: str = "spec"
    rings: int | None = None
    lps_rounds: int = 3

    @classmethod
    def of(cls, options: "Rules | Mapping[str, object] | None") -> "Rules":
        """Read options; raise RulesError for unknown ones."""
        if options is None:
            return cls()
        if isinstance(options, Rules):
            return options
        unknown = set(options) - {"swap", "variant", "rings", "lps_rounds"}
        if unknown:
            raise RulesError(f"unknown rule {min(unknown)!r}: choose from swap, variant, rings, lps_rounds")
        swap, variant = options.get("swap", False), options.get("variant", "spec")
        rings, rounds = options.get("rings"), options.get("lps_rounds", 3)
        return cls(swap, variant, rings, rounds)  # type: ignore[arg-type] # checked by __post_init__

    def __post_init__(self) -> None:
        """Refuse values of the wrong type."""
        if (type(self.swap), type(self.variant)) != (bool, str):
            raise RulesError("swap must be true or false, variant a text")
        if type(self.lps_rounds) is not int or type(self.rings) not in (int, type(None)):
            raise RulesError("rings and lps_rounds must be whole numbers")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a finished game."""

    winner: int  # seat, 0 when nobody has won (resignation or time-out of one of several)
    reason: str  # of rules §16.5, or resignation, timeout
    ranks: tuple[int, ...]  # of each seat, 1 the best; equal ranks are ties (rules §13.7)
    values: tuple[float, ...]  # of each seat: 1 for the first place, 0 for the last, evenly between


@lru_cache(maxsize=256)
def _geometry_of(board: str, players: int, rules: Rules) -> Geometry:
    try:
        return geometry(board, players, rules.variant, swap=rules.swap, rings=rules.rings, lps_rounds=rules.lps_rounds)
    except ValueError as error:
        raise RulesError(str(error)) from error


def _geometry(board: str, players: int, rules: Rules | Mapping[str, object] | None) -> Geometry:
    if type(board) is not str or type(players) is not int:
        raise RulesError("name the board by a text and the number of players by a whole number")
    return _geometry_of(board, players, Rules.of(rules))


class Game:
    """A game in progress. Every input is checked; nothing illegal changes it."""

    __slots__ = ("_legal", "geometry", "words")

    def __init__(self, geometry: Geometry, words: Words) -> None:
        self.geometry = geometry
        self.words = words  # [state_words]; read it, but change it through `apply` only
        self._legal: Words | None = None

    @classmethod
    def new(cls, board: str, players: int, rules: Rules | Mapping[str, object] | None = None) -> Self:
        """Start a game from the empty board."""
        where = _geometry(board, players, rules)
        words = np.zeros(where.tables.state_words, dtype=np.int32)
        kernels.new_game(words, where.tables)
        return cls(where, words)

    @classmethod
    def from_state(cls, text: str, board: str, players: int, rules: Rules | Mapping[str, object] | None = None) -> Self:
        """Start from a position written as text (`engine.rules.position`)."""
        where = _geometry(board, players, rules)
        return cls(where, parse_state(text, where))

    @property
    def board(self) -> str:
        """Name of the board."""
        return self.geometry.board

    @property
    def players(self) -> int:
        """Number of seats."""
        return self.geometry.players

    @property
    def to_move(self) -> int:
        """Seat to move; the winner once the game is over."""
        return int(self.words[lay.PLAYER])

    @property
    def is_over(self) -> bool:
        """Whether the game has ended."""
        return bool(self.words[lay.PHASE] == lay.OVER)

    @property
    def plies(self) -> int:
        """Moves applied so far."""
        return int(self.words[lay.PLIES])

    @property
    def hash(self) -> int:
        """63-bit hash of the position."""
        return kernels.state_hash(self.words, self.geometry.tables)

    def legal_codes(self) -> Words:
        """Codes of all legal moves; empty once the game is over. Do not write to the array."""
        if self._legal is None:
            self._legal = legal_codes(self.words, self.geometry.tables)
            self._legal.setflags(write=False)
        return self._legal

    def legal_moves(self) -> list[Move]:
        """All legal moves, in the order of `legal_codes`."""
        return [move_of(self.words, self.geometry.tables, int(code)) for code in self.legal_codes()]

    def move(self, code: int) -> Move:
        """Return the legal move with a code."""
        if not self._is_legal(code):
            raise IllegalMove(f"code {code} is not legal here: {self._summary()}")
        return move_of(self.words, self.geometry.tables, int(code))

    def code(self, move: Move | str) -> int:
        """Return the code of a legal move."""
        move = parse_move(str(move))
        code = code_of(self.words, self.geometry, move, self.legal_codes())
        if code is None:
            raise IllegalMove(f"{move} is not legal here: {self._summary()}")
        return code

    def apply(self, move: Move | str | int) -> None:
        """Play a move, its notation or its code; raise IllegalMove and change nothing when it is not legal.

        A recovery slide may name the stack that pays; with several such stacks that is two plies.
        """
        if isinstance(move, str | Move):
            move = parse_move(str(move))
            if move.kind == "R" and move.extract >= 0:
                self._apply_slide(move)
                return
            move = self.code(move)
        elif not self._is_legal(move):
            raise IllegalMove(f"code {move} is not legal here: {self._summary()}")
        kernels.apply(self.words, self.geometry.tables, int(move))
        self._legal = None

    def _is_legal(self, code: object) -> bool:
        return isinstance(code, int | np.integer) and bool((self.legal_codes() == code).any())

    def _apply_slide(self, move: Move) -> None:
        """Play a slide that names its payer."""
        if code_of(self.words, self.geometry, move, self.legal_codes()) is not None:
            kernels.apply(self.words, self.geometry.tables, self.code(move))
            self._legal = None
            return
        after = self.clone()
        bare = Move("R", origin=move.origin, to=move.to, mode=move.mode, collapse=move.collapse)
        after.apply(bare)
        after.apply(Move("X", to=move.extract))
        self.words[:] = after.words
        self._legal = None

    def _summary(self) -> str:
        if self.is_over:
            return "the game is over"
        return f"player {self.to_move} has {len(self.legal_codes())} legal moves, see legal_moves()"

    def resign(self, player: int, *, timeout: bool = False) -> None:
        """End the game by resignation or time-out (rules §13.8)."""
        if self.is_over:
            raise IllegalMove("the game is over")
        if not 1 <= player <= self.players:
            raise RulesError(f"player {player}: choose 1 to {self.players}")
        winner = 3 - player if self.players == 2 else 0
        finish(self.words, winner, lay.TIMEOUT if timeout else lay.RESIGNATION)
        self.words[lay.PLAYER] = winner or player
        self._legal = None

    def state(self) -> str:
        """Write the position as text."""
        return state_text(self.words, self.geometry.tables)

    @property
    def outcome(self) -> Outcome | None:
        """Result, None while the game runs."""
        if not self.is_over:
            return None
        ranks = np.zeros(self.players, dtype=np.int32)
        values = np.zeros(self.players, dtype=np.float32)
        kernels.ranks(self.words, ranks)
        kernels.placement_values(self.words, values)
        return Outcome(
            winner=int(self.words[lay.WINNER]),
            reason=REASONS[self.words[lay.REASON]],
            ranks=tuple(int(r) for r in ranks),
            values=tuple(float(v) for v in values),
        )

    def clone(self) -> "Game":
        """Return an independent copy."""
        return Game(self.geometry, self.words.copy())

    def encode(self) -> bytes:
        """Pack the game's position and options into a few hundred bytes."""
        where, s = self.geometry, self.words
        header = HEADER.pack(
            MAGIC,
            BOARDS.index(where.board),
            where.players,
            VARIANTS.index(where.variant),
            where.swap,
            where.supply,
            where.lps_rounds,
        )
        extras = EXTRAS.pack(
            s[lay.PLIES], s[lay.CARRIED], s[lay.LAST_ACTOR], s[lay.REASON], *s[lay.OUT_AT : lay.OUT_AT + 4]
        )
        body = header + extras + zlib.compress(self.state().encode(), 9)
        return body + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Unpack what `encode` made; raise BadPosition for anything else."""
        if len(data) < HEADER.size + EXTRAS.size + 4 or data[:4] != MAGIC:
            raise BadPosition("these bytes are no packed position of this version")
        if zlib.crc32(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise BadPosition("the packed position is damaged: its checksum does not match")
        try:
            _, board, players, variant, swap, supply, rounds = HEADER.unpack_from(data)
            plies, carried, actor, reason, *out = EXTRAS.unpack_from(data, HEADER.size)
            unpacker = zlib.decompressobj()
            text = unpacker.decompress(data[HEADER.size + EXTRAS.size : -4], 100_000).decode("ascii")
            rules = Rules(bool(swap), VARIANTS[variant], supply, rounds)
            game = cls.from_state(text, BOARDS[board], players, rules)
        except (IndexError, zlib.error, UnicodeDecodeError, RulesError) as error:
            raise BadPosition(f"the packed position is damaged: {error}") from error
        if carried > 3 or actor > players or reason >= len(REASONS) or max(plies, *out) > lay.NEVER:
            raise BadPosition("the packed position is damaged: a counter is out of range")
        game.words[[lay.PLIES, lay.CARRIED, lay.LAST_ACTOR, lay.REASON]] = plies, carried, actor, reason
        game.words[lay.OUT_AT : lay.OUT_AT + 4] = out
        return game
