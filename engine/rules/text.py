"""Positions for the terminal.

`A3` is a stack of three rings whose top ring belongs to player 1 (A to D are the seats), `a` a marker, `A#` a
collapsed cell. With colour the letters are tinted as well, so that nothing hangs on colour alone.
"""

from rich.style import Style
from rich.text import Text

from engine.rules import layout as lay
from engine.rules.game import Game
from engine.rules.svg import PHASE_NAMES, SEATS

SEAT_LETTERS = "ABCD"


def _cell(game: Game, cell: int) -> tuple[str, Style]:
    word = int(game.words[game.geometry.tables.table[lay.T_SQUARE + cell]])
    if word == 0:
        return "· ", Style(dim=True)
    seat = (word & 7) - 1
    if word & lay.STACK:
        return f"{SEAT_LETTERS[seat]}{word >> 8 & 255}", Style(color=SEATS[seat], bold=True)
    if word & lay.MARKER:
        return SEAT_LETTERS[seat].lower() + " ", Style(color=SEATS[seat])
    return f"{SEAT_LETTERS[seat]}#", Style(color="white", bgcolor=SEATS[seat])


def position_text(game: Game) -> Text:
    """Draw a position with the counts of each seat."""
    where = game.geometry
    text = Text()
    row = None
    for cell, (_, y) in enumerate(where.coordinates):
        if y != row:
            if row is not None:
                text.append("\n")
            row = y
            if where.is_hex:
                text.append(" " * (2 * abs(y)))
        part, style = _cell(game, cell)
        text.append(part.ljust(3), style)
        text.append(" ")
    text.append("\n\n")
    for p in range(game.players):
        s, t = game.words, where.tables.table
        chosen = "▸" if game.to_move == p + 1 else " "
        text.append(f"{chosen} {SEAT_LETTERS[p]} player {p + 1}", Style(color=SEATS[p], bold=True))
        text.append(
            f"  hand {s[lay.HAND + p]}  eliminated {s[lay.ELIMINATED + p]}/{t[lay.T_ELIMINATION_WIN]}"
            f"  territory {s[lay.TERRITORY + p]}/{t[lay.T_TERRITORY_WIN]}\n"
        )
    outcome = game.outcome
    if outcome is None:
        text.append(f"{PHASE_NAMES[int(game.words[lay.PHASE])]}, ply {game.plies}")
    else:
        text.append(f"player {outcome.winner} wins: {outcome.reason}, ply {game.plies}")
    return text
