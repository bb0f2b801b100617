"""A game at one table: people type moves, players of the engine answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from engine.players.player import Player
from engine.rules.errors import RulesError
from engine.rules.game import Game
from engine.rules.records import GameRecord, Provenance

HELP = (
    "Type a move in notation, or: moves [PREFIX] lists what is legal, cells shows their numbers, hint asks a player at "
    "the table, undo takes your last move back, resign gives up, quit leaves."
)
SHOWN = 120


class Left(Exception):
    """A person left the table."""


class Step(NamedTuple):
    """A ply that was played."""

    seat: int
    move: str
    forced: bool


class Table:
    """A game in progress with its seats: a player of the engine, or None for a person."""

    def __init__(self, start: Game, seats: Mapping[int, Player | None], seed: int) -> None:
        self.start, self.game, self.seats = start, start.clone(), seats
        self.rng = np.random.default_rng(seed)
        self.codes: list[int] = []
        self.gave_up = 0

    def choose(self, player: Player) -> int:
        """Return the code that a player of the engine would play here."""
        return int(player.choose(self.game.words[None].copy(), np.zeros(1, np.int32), self.rng)[0])

    def apply(self, code: int) -> Step:
        """Play a code."""
        step = Step(self.game.to_move, str(self.game.move(code)), len(self.game.legal_codes()) == 1)
        self.game.apply(code)
        self.codes.append(code)
        return step

    def undo(self) -> None:
        """Take back the last decision of the person to move, and what followed it; nothing when there is none."""
        seat, game, decided = self.game.to_move, self.start.clone(), -1
        for k, code in enumerate(self.codes):
            if game.to_move == seat and len(game.legal_codes()) > 1:
                decided = k
            game.apply(code)
        if decided >= 0:
            self.codes = self.codes[:decided]
            self.game = self.start.clone()
            for code in self.codes:
                self.game.apply(code)

    def record(self, names: tuple[str, ...] = ()) -> GameRecord:
        """Return the game so far as a record."""
        return GameRecord.of(self.start, self.codes, Provenance(models=names), gave_up=self.gave_up)


def play_out(
    table: Table, ask: Callable[[str], str], tell: Callable[[str], None], show: Callable[[Game], None]
) -> None:
    """Play until the game is over or a person resigns; raises Left when one leaves."""
    while not table.game.is_over:
        seat, legal = table.game.to_move, table.game.legal_codes()
        player = table.seats[seat]
        if len(legal) == 1:
            step = table.apply(int(legal[0]))
            tell(f"player {seat}: {step.move} (forced)")
        elif player is not None:
            step = table.apply(table.choose(player))
            tell(f"player {seat}: {step.move}")
        else:
            show(table.game)
            _ask(table, seat, ask, tell)
    show(table.game)


def cell_numbers(game: Game) -> str:
    """Return the board with the number of each cell, as moves name them."""
    where, lines, row = game.geometry, list[str](), None
    for cell, (_, y) in enumerate(where.coordinates):
        if y != row:
            row = y
            lines.append(" " * (2 * abs(y)) if where.is_hex else "")
        lines[-1] += f"{cell:<4}"
    return "\n".join(line.rstrip() for line in lines)


def _ask(table: Table, seat: int, ask: Callable[[str], str], tell: Callable[[str], None]) -> None:
    """Let a person say one thing."""
    said = ask(f"player {seat}, your move (? for help)").strip()
    word, _, rest = said.partition(" ")
    match word:
        case "?" | "help" | "":
            tell(HELP)
        case "moves":
            names = [str(move) for move in table.game.legal_moves() if str(move).startswith(rest)]
            more = f" and {len(names) - SHOWN} more: add a prefix" if len(names) > SHOWN else ""
            tell("  ".join(names[:SHOWN]) + more if names else "no legal move begins so")
        case "cells":
            tell(cell_numbers(table.game))
        case "hint":
            advisers = [player for player in table.seats.values() if player is not None]
            tell(str(table.game.move(table.choose(advisers[-1]))) if advisers else "nobody at the table can say")
        case "undo":
            table.undo()
        case "resign":
            table.gave_up = seat
            table.game.resign(seat)
        case "quit":
            raise Left
        case _:
            try:
                table.apply(table.game.code(said))
            except RulesError as error:
                tell(f"{error}; `moves` lists what is legal")
