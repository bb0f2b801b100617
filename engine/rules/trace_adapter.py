"""Adapter between this engine and recorded games of the reference engine.

Recorded games know a recovery slide as one move with its extraction stack, and list slides of the `spec`
variant that cannot be played (rules §9.5); both are translated here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.rules import layout as lay
from engine.rules.actions import Move, move_of
from engine.rules.errors import RulesError
from engine.rules.game import Game
from engine.rules.recovery import add_extractions, add_slides, eligible

PHASES = {
    "RP": "ring_placement",
    "MV": "movement",
    "CA": "capture",
    "CC": "chain_capture",
    "LP": "line_processing",
    "TP": "territory_processing",
    "FE": "forced_elimination",
    "GO": "game_over",
}
PLAIN = {
    "SP": "skip_placement",
    "NP": "no_placement_action",
    "SW": "swap_sides",
    "SC": "skip_capture",
    "NM": "no_movement_action",
    "SR": "skip_recovery",
    "NL": "no_line_action",
    "ST": "skip_territory_processing",
    "NT": "no_territory_action",
}
DUE = {"-": None, "l": "line", "t": "territory", "r": "recovery"}
MODES = {"L1": "line", "L2": "line", "F": "fallback", "S": "stack_strike"}
TYPES = {
    "P": "place_ring",
    "M": "move_stack",
    "C": "overtaking_capture",
    "K": "continue_capture_segment",
    "R": "recovery_slide",
    "L": "process_line",
    "O": "choose_line_option",
    "T": "choose_territory_option",
    "E": "eliminate_rings_from_stack",
    "F": "forced_elimination",
}
KINDS = {name: kind for kind, name in (PLAIN | TYPES).items()}


def move_to_dict(move: Move) -> dict[str, Any]:
    """Write a move with the field names of recorded games."""
    if move.kind in PLAIN:
        return {"type": PLAIN[move.kind]}
    found: dict[str, Any] = {"type": TYPES[move.kind]}
    match move.kind:
        case "P":
            found |= {"to": move.to, "count": move.count}
        case "M":
            found |= {"from": move.origin, "to": move.to}
        case "C" | "K":
            found |= {"from": move.origin, "target": move.target, "to": move.to}
        case "R":
            found |= {"from": move.origin, "to": move.to, "mode": MODES[move.mode]}
            if move.mode in ("L1", "L2"):
                found["option"] = int(move.mode[1])
            if move.collapse:
                found["collapse"] = list(move.collapse)
            if move.extract >= 0:
                found["extract"] = move.extract
        case "L":
            found["line"] = list(move.cells)
        case "O":
            found |= {"line": list(move.cells), "collapse": list(move.collapse)}
        case "T":
            found["region"] = list(move.cells)
        case "E":
            found |= {"at": move.to, "context": {"l": "line", "t": "territory", "r": "recovery"}[move.mode]}
        case _:
            found["at"] = move.to
    return found


def move_from_dict(move: Mapping[str, Any]) -> Move:
    """Read a move with the field names of recorded games; raise RulesError when it is none."""
    try:
        return _read_move(move)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise RulesError(f"{move!r:.80} is no move: {error!r}") from error


def _read_move(move: Mapping[str, Any]) -> Move:
    kind = KINDS[move["type"]]
    mode = move["context"][0] if kind == "E" else ""
    if kind == "R":
        option = move.get("option", "")
        mode = {"line": f"L{option}", "fallback": "F", "stack_strike": "S"}[move["mode"]]
    return Move(
        kind,
        origin=move.get("from", -1),
        target=move.get("target", -1),
        to=move.get("at", move.get("to", -1)),
        count=move.get("count", 1) if kind == "P" else 0,
        mode=mode,
        cells=tuple(sorted(move.get("line") or move.get("region") or ())),
        collapse=tuple(sorted(move.get("collapse") or ())),
        extract=move.get("extract", -1),
    )


def listed_moves(game: Game) -> list[Move]:
    """All moves that a recorded game lists in this position."""
    s, g = game.words, game.geometry.tables
    player = game.to_move
    if s[lay.PHASE] != lay.MOVEMENT or s[lay.MUST_MOVE] or not eligible(s, player):
        return game.legal_moves()
    out = np.empty(g.max_legal, dtype=np.int32)
    listed = 1 if game.geometry.variant == "spec" else 0
    slides = out[: add_slides(s, g.table, player, out, listed)].copy()
    payers = out[: add_extractions(s, g.table, player, out)] % g.cells
    moves = [Move("SR")]
    for code in slides:
        move = move_of(s, g, int(code))
        if move.mode == "L2":
            moves.append(move)
            continue
        moves += [Move("R", origin=move.origin, to=move.to, mode=move.mode, extract=int(payer)) for payer in payers]
    return moves


def state_to_dict(text: str) -> dict[str, Any]:
    """Read a position text into the dictionary of recorded games."""
    f = text.split("|")
    standing = f[15].split(",")

    def numbers(part: str) -> list[int]:
        return [int(x) for x in part.split(",")]

    def pairs(part: str) -> dict[int, str]:
        return {int(k): v for k, _, v in (e.partition(":") for e in part.split(","))} if part else {}

    return {
        "phase": PHASES[f[0]],
        "player": int(f[1]),
        "status": "active" if f[2] == "A" else "over",
        "winner": int(f[3]),
        "hand": numbers(f[4]),
        "eliminated": numbers(f[5]),
        "territory": numbers(f[6]),
        "stacks": pairs(f[7]),
        "markers": {k: int(v) for k, v in pairs(f[8]).items()},
        "collapsed": {k: int(v) for k, v in pairs(f[9]).items()},
        "must_move_from": None if f[10] == "-" else int(f[10]),
        "attacker": None if f[11] == "-" else int(f[11]),
        "pending": DUE[f[12]],
        "acted": f[13][0] == "1",
        "recovered": f[13][1] == "1",
        "swap": int(f[14]),
        "lps": {
            "round": int(standing[0]),
            "first": int(standing[1]),
            "mask": [None if c == "-" else c == "1" for c in standing[2]],
            "exclusive": int(standing[3]),
            "count": int(standing[4]),
            "holder": int(standing[5]),
        },
    }


def state_from_dict(state: Mapping[str, Any]) -> str:
    """Write the dictionary of recorded games as a position text."""
    standing = state["lps"]
    mask = "".join("-" if seen is None else str(int(seen)) for seen in standing["mask"])

    def pairs(part: Mapping[int, Any]) -> str:
        return ",".join(f"{k}:{part[k]}" for k in sorted(part))

    def cell(value: int | None) -> str:
        return "-" if value is None else str(value)

    return "|".join(
        [
            next(code for code, name in PHASES.items() if name == state["phase"]),
            str(state["player"]),
            "A" if state["status"] == "active" else "X",
            str(state["winner"]),
            *(",".join(map(str, state[key])) for key in ("hand", "eliminated", "territory")),
            *(pairs(state[key]) for key in ("stacks", "markers", "collapsed")),
            cell(state["must_move_from"]),
            cell(state["attacker"]),
            next(code for code, name in DUE.items() if name == state["pending"]),
            f"{int(state['acted'])}{int(state['recovered'])}",
            str(state["swap"]),
            f"{standing['round']},{standing['first']},{mask},"
            f"{standing['exclusive']},{standing['count']},{standing['holder']}",
        ]
    )


class TraceAdapter:
    """What a checker of recorded games drives: dictionaries in, dictionaries out."""

    game: Game

    def new_game(self, board: str, players: int, rules: Mapping[str, object]) -> None:
        """Start from the empty board."""
        self.game = Game.new(board, players, rules)

    def from_state(self, state: Mapping[str, Any], board: str, players: int, rules: Mapping[str, object]) -> None:
        """Start from a position."""
        self.game = Game.from_state(state_from_dict(state), board, players, rules)

    def legal_moves(self) -> list[dict[str, Any]]:
        """List all moves."""
        return [move_to_dict(move) for move in listed_moves(self.game)]

    def apply(self, move: Mapping[str, Any]) -> None:
        """Play one move."""
        self.game.apply(move_from_dict(move))

    def state(self) -> dict[str, Any]:
        """Return the position."""
        return state_to_dict(self.game.state())
