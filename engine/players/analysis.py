"""What a search thinks of one position: its best lines, and who is likely to win."""

from __future__ import annotations

import msgspec
import numpy as np

from engine.nets.evaluator import Evaluator
from engine.players.player import legal_of
from engine.rules.actions import Move
from engine.rules.game import Game
from engine.rules.svg import HEAD, INK, MARGIN, UNIT, Canvas, position_svg
from engine.search.gumbel import GumbelSearch
from engine.search.tree import Trees

LINE_MAX = 8
ROOT = 0


class Line(msgspec.Struct, frozen=True):
    """A move and what is likely to follow; forced moves are in the line too."""

    moves: tuple[str, ...]
    codes: tuple[int, ...]
    chance_milli: int  # of the player to move, in thousandths
    visits: int
    policy_milli: int  # share of the improved policy


class Analysis(msgspec.Struct, frozen=True):
    """A searched position."""

    to_move: int
    chance_milli: int  # of the player to move
    seats_milli: tuple[int, ...]  # of each seat, by the evaluator alone
    simulations: int
    lines: tuple[Line, ...]  # best first


def analyze(game: Game, evaluator: Evaluator, simulations: int, count: int = 5) -> Analysis:
    """Search a position without noise; raises ValueError when the game is over."""
    if game.is_over:
        raise ValueError("the game is over: there is nothing to search")
    data, rows = game.words[None].copy(), np.zeros(1, np.int32)
    codes, counts = legal_of(data, rows, game.geometry)
    _, chances = evaluator.evaluate(data, rows, codes, counts)
    seats = tuple(round(1000 * float(each)) for each in chances[0])
    if counts[0] == 1:
        mine = seats[game.to_move - 1]
        return Analysis(game.to_move, mine, seats, 0, (Line(*_named(game, [int(codes[0, 0])]), mine, 0, 1000),))
    search = GumbelSearch(evaluator, 1, simulations, considered=max(16, count))
    found = search.run(data, rows, simulations, None)
    trees, best = search.trees, int(found.codes[0])
    first, fan = int(trees.first[0, ROOT]), int(trees.fan[0, ROOT])
    edges = sorted(
        range(first, first + fan),
        key=lambda e: (int(trees.code[0, e]) != best, -int(trees.visits[0, e]), -float(found.policy[0, e - first])),
    )
    lines = []
    for edge in edges[:count]:
        visits = int(trees.visits[0, edge])
        chance = float(trees.total[0, edge]) / visits if visits else float(found.value[0])
        moves, played = _named(game, _variation(trees, edge))
        policy = round(1000 * float(found.policy[0, edge - first]))
        lines.append(Line(moves, played, round(1000 * chance), visits, policy))
    return Analysis(game.to_move, round(1000 * float(found.value[0])), seats, simulations, tuple(lines))


def _variation(trees: Trees, edge: int) -> list[int]:
    """Return the codes of the most visited way down from an edge of the root."""
    codes: list[int] = []
    while len(codes) < LINE_MAX:
        codes.append(int(trees.code[0, edge]))
        node = int(trees.child[0, edge])
        if node < 0 or not trees.fan[0, node]:
            break
        first, fan = int(trees.first[0, node]), int(trees.fan[0, node])
        visits = trees.visits[0, first : first + fan]
        if not visits.any():
            break
        edge = first + int(visits.argmax())
    return codes


def _named(game: Game, decisions: list[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return moves in notation and codes: the decisions, with the forced moves between them."""
    game = game.clone()
    names: list[str] = []
    codes: list[int] = []
    left = list(decisions)
    while left and not game.is_over:
        legal = game.legal_codes()
        code = int(legal[0]) if len(legal) == 1 and codes else left.pop(0)
        names.append(str(game.move(code)))
        codes.append(code)
        game.apply(code)
    return tuple(names), tuple(codes)


def analysis_svg(game: Game, found: Analysis) -> str:
    """Draw the position with the first move of each line as an arrow, its width its share of the policy."""
    canvas = Canvas(game.geometry)
    parts = []
    for number, line in enumerate(found.lines):
        parts.append(_arrow(canvas, game.move(line.codes[0]), line, number))
    style = f"<style>.a{{font:700 11px sans-serif;fill:{INK};text-anchor:middle}}</style>"
    legend = [
        f'<text x="{MARGIN:.0f}" y="{HEAD + MARGIN / 2:.0f}" class="s">searched: player {found.to_move} wins '
        f"{found.chance_milli / 10:.1f} %</text>"
    ]
    return position_svg(game).replace("</svg>", "".join([style, *legend, *parts]) + "</svg>")


def _arrow(canvas: Canvas, move: Move, line: Line, number: int) -> str:
    if move.to < 0:
        return ""
    x, y = canvas.centres[move.to]
    colour = "#5b5a55" if number else "#b3202c"
    stroke = f'stroke="{colour}" stroke-width="{1.5 + 4 * line.policy_milli / 1000:.1f}"'
    body = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{UNIT * 0.42:.1f}" fill="none" {stroke}/>'
    if move.origin >= 0:
        a, b = canvas.centres[move.origin]
        body += f'<line x1="{a:.1f}" y1="{b:.1f}" x2="{x:.1f}" y2="{y:.1f}" {stroke}/>'
    return body + f'<text class="a" x="{x:.1f}" y="{y - UNIT * 0.46:.1f}">{line.chance_milli / 10:.0f} %</text>'
