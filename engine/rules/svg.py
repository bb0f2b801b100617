"""Positions and whole games as SVG.

A stack is a pile of rings seen from the side, bottom ring lowest, with its height beside it; a marker is a
small disc; a collapsed cell is filled in its owner's colour. An animation draws every cell content once, and
shows it for its time.
"""

import math
from collections.abc import Sequence
from html import escape

from engine.rules import layout as lay
from engine.rules.actions import Move
from engine.rules.cells import rings_at
from engine.rules.game import Game
from engine.rules.geometry import Geometry
from engine.rules.records import GameRecord

UNIT = 44.0  # pixels from cell to cell
MARGIN = 16.0
HEAD = 34.0
PANEL = 210.0
SEATS = ("#2f6db3", "#e08a1e", "#2e9461", "#a4489e")  # told apart with any colour vision
SEATS_DARK = ("#173d68", "#8a500a", "#155236", "#5f2259")
BOARD, CELL, EDGE, INK = "#efe7d6", "#fbf8f1", "#c8bca4", "#2b2a27"
PHASE_NAMES = (
    "ring placement", "movement", "capture", "chain capture", "lines", "territory", "forced elimination",
    "game over", "extraction",
)  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


class Canvas:
    """Places of the cells of one board."""

    def __init__(self, where: Geometry) -> None:
        self.where = where
        self.hex = where.is_hex
        self.centres = [self._centre(x, y) for x, y in where.coordinates]
        if self.hex:
            span = 2 * where.radius + 1
            self.width = 2 * MARGIN + span * UNIT
            self.height = HEAD + 2 * MARGIN + (span - 1) * UNIT * math.sqrt(3) / 2 + UNIT * 1.16
        else:
            self.width = 2 * MARGIN + where.size * UNIT
            self.height = HEAD + 2 * MARGIN + where.size * UNIT

    def _centre(self, x: int, y: int) -> tuple[float, float]:
        if not self.where.is_hex:
            return MARGIN + (x + 0.5) * UNIT, HEAD + MARGIN + (y + 0.5) * UNIT
        r = self.where.radius
        return (
            MARGIN + (x + y / 2 + r + 0.5) * UNIT,
            HEAD + MARGIN + (y + r) * UNIT * math.sqrt(3) / 2 + UNIT * 0.58,
        )

    def outline(self, cell: int, inset: float, style: str) -> str:
        """Draw the border of a cell."""
        cx, cy = self.centres[cell]
        if not self.hex:
            side = UNIT - 2 * inset
            corner = f'x="{_number(cx - side / 2)}" y="{_number(cy - side / 2)}"'
            return f'<rect {corner} width="{_number(side)}" height="{_number(side)}" {style}/>'
        radius = UNIT / math.sqrt(3) - inset
        turns = [k * math.pi / 3 for k in range(6)]
        points = " ".join(f"{_number(cx + radius * math.sin(a))},{_number(cy + radius * math.cos(a))}" for a in turns)
        return f'<polygon points="{points}" {style}/>'


def _stack(canvas: Canvas, cell: int, colours: list[int]) -> str:
    """Draw a pile of rings; `colours` are seats from 0, bottom first."""
    cx, cy = canvas.centres[cell]
    count = len(colours)
    step = min(5.5, 22.0 / count)
    base = cy + min(9.0, 2 + (count - 1) * step / 2)
    parts = []
    for k, colour in enumerate(colours):
        y = _number(base - k * step)
        parts.append(
            f'<ellipse cx="{_number(cx)}" cy="{y}" rx="13" ry="5.5" fill="{SEATS[colour]}" '
            f'stroke="{SEATS_DARK[colour]}" stroke-width="1"/>'
        )
    top = _number(base - (count - 1) * step)
    parts.append(f'<ellipse cx="{_number(cx)}" cy="{top}" rx="6" ry="2.2" fill="{CELL}"/>')
    if count > 1:
        parts.append(f'<text class="h" x="{_number(cx + 14)}" y="{_number(cy + 18)}">{count}</text>')
    return "".join(parts)


def cell_svg(game: Game, canvas: Canvas, cell: int) -> str:
    """Draw what is on a cell; empty for an empty cell."""
    t = game.geometry.tables.table
    square = int(t[lay.T_SQUARE + cell])
    word = int(game.words[square])
    seat = (word & 7) - 1
    cx, cy = canvas.centres[cell]
    if word & lay.STACK:
        rings = rings_at(game.words, t, square)
        height = word >> 8 & 255
        return _stack(canvas, cell, [rings >> 2 * k & 3 for k in reversed(range(height))])
    if word & lay.MARKER:
        return (
            f'<circle cx="{_number(cx)}" cy="{_number(cy)}" r="6" fill="{SEATS[seat]}" '
            f'stroke="{SEATS_DARK[seat]}" stroke-width="1.5"/>'
        )
    if word & lay.COLLAPSED:
        return canvas.outline(cell, 0.5, f'fill="{SEATS[seat]}" fill-opacity="0.55"')
    return ""


def _header(game: Game, note: str) -> str:
    phase = PHASE_NAMES[int(game.words[lay.PHASE])]
    outcome = game.outcome
    if outcome is not None:
        who = f"Player {outcome.winner} wins" if outcome.winner else "Nobody wins"
        line = f"{who}: {outcome.reason.replace('lps', 'last player standing').replace('_', ' ')}"
    else:
        line = f"Player {game.to_move}, {phase}"
    tail = f'<tspan class="q" dx="8">after {escape(note)}</tspan>' if note else ""
    return f'<text x="{_number(MARGIN)}" y="25" class="t">{escape(line)}{tail}</text>'


def _panel(game: Game, canvas: Canvas) -> str:
    """Draw hands, eliminated rings and territory of each seat, with what it takes to win."""
    s, t = game.words, game.geometry.tables.table
    x = canvas.width + 6
    parts = []
    for p in range(game.players):
        y = HEAD + MARGIN + 14 + p * 84
        chosen = not game.is_over and game.to_move == p + 1
        border = f'stroke="{SEATS[p]}" stroke-width="3"' if chosen else f'stroke="{EDGE}"'
        parts.append(
            f'<rect x="{_number(x)}" y="{_number(y - 14)}" width="{_number(PANEL - 22)}" height="74" rx="6" '
            f'fill="{CELL}" {border}/>'
            f'<circle cx="{_number(x + 16)}" cy="{_number(y + 3)}" r="7" fill="{SEATS[p]}"/>'
            f'<text class="p" x="{_number(x + 30)}" y="{_number(y + 8)}">Player {p + 1}</text>'
        )
        rows = (
            f"{s[lay.HAND + p]} in hand",
            f"{s[lay.ELIMINATED + p]} of {t[lay.T_ELIMINATION_WIN]} rings eliminated",
            f"{s[lay.TERRITORY + p]} of {t[lay.T_TERRITORY_WIN]} cells of territory",
        )
        for k, row in enumerate(rows):
            parts.append(f'<text class="s" x="{_number(x + 12)}" y="{_number(y + 23 + 14 * k)}">{row}</text>')
    return "".join(parts)


def _arrow(canvas: Canvas, move: Move | None) -> str:
    """Draw the last move: a line from departure to landing, or a ring about the cell."""
    if move is None or move.to < 0:
        return ""
    x, y = canvas.centres[move.to]
    ring = f'<circle cx="{_number(x)}" cy="{_number(y)}" r="19" class="m"/>'
    if move.origin < 0:
        return ring
    a, b = canvas.centres[move.origin]
    return f'<line x1="{_number(a)}" y1="{_number(b)}" x2="{_number(x)}" y2="{_number(y)}" class="m"/>{ring}'


def _frame(canvas: Canvas, title: str, body: str) -> str:
    height = max(canvas.height, HEAD + MARGIN + 84 * canvas.where.players + MARGIN)
    width = canvas.width + PANEL
    style = (
        f".t{{font:600 17px sans-serif;fill:{INK}}}.q{{font-weight:400;fill:#6d675b}}"
        f".p{{font:600 14px sans-serif;fill:{INK}}}.s{{font:12px sans-serif;fill:{INK}}}"
        f".h{{font:600 10px sans-serif;fill:{INK};text-anchor:middle}}"
        f".m{{stroke:{INK};stroke-width:2;fill:none;stroke-dasharray:4 3;opacity:.7}}"
    )
    cells = "".join(canvas.outline(c, 0.5, "") for c in range(canvas.where.cells))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_number(width)} {_number(height)}" '
        f'width="{_number(width)}" height="{_number(height)}" role="img"><title>{escape(title)}</title>'
        f'<style>{style}</style><rect width="100%" height="100%" fill="{BOARD}"/>'
        f'<g fill="{CELL}" stroke="{EDGE}">{cells}</g>{body}</svg>\n'
    )


def position_svg(game: Game, last: Move | None = None) -> str:
    """Draw a position, with the move that led to it."""
    canvas = Canvas(game.geometry)
    contents = "".join(cell_svg(game, canvas, c) for c in range(game.geometry.cells))
    body = contents + _arrow(canvas, last) + _header(game, str(last) if last else "") + _panel(game, canvas)
    return _frame(canvas, f"{game.board}, {game.players} players, ply {game.plies}", body)


def _shown(body: str, start: int, end: int, frames: int, seconds: float) -> str:
    """Show a part from frame `start` to frame `end`; the last frame is what a still picture shows."""
    if not body:
        return ""
    if start == 0 and end == frames:
        return body
    times, values = ["0"], ["visible" if start == 0 else "hidden"]
    if start:
        times.append(f"{start / frames:.5f}".rstrip("0"))
        values.append("visible")
    if end < frames:
        times.append(f"{end / frames:.5f}".rstrip("0"))
        values.append("hidden")
    still = "visible" if end == frames else "hidden"
    return (
        f'<g visibility="{still}"><animate attributeName="visibility" dur="{_number(seconds)}s" '
        f'repeatCount="indefinite" calcMode="discrete" keyTimes="{";".join(times)}" '
        f'values="{";".join(values)}"/>{body}</g>'
    )


def _timeline(bodies: Sequence[str], seconds: float) -> str:
    """Join one body a frame into parts that are shown as long as they stay the same."""
    parts = []
    start = 0
    for k in range(1, len(bodies) + 1):
        if k == len(bodies) or bodies[k] != bodies[start]:
            parts.append(_shown(bodies[start], start, k, len(bodies), seconds))
            start = k
    return "".join(parts)


def game_svg(record: GameRecord, frame_ms: int = 600) -> str:
    """Draw a whole game as an animation that repeats; its still picture is the last position."""
    games = list(record.positions())
    moves: list[Move | None] = [None]
    moves += [game.move(code) for game, code in zip(games, record.codes, strict=False)]
    hold = max(1, 3000 // frame_ms)  # the end stays on screen for three seconds
    games += [games[-1]] * hold
    moves += [moves[-1]] * hold
    canvas = Canvas(games[0].geometry)
    seconds = len(games) * frame_ms / 1000
    layers = [
        _timeline([cell_svg(game, canvas, cell) for game in games], seconds) for cell in range(canvas.where.cells)
    ]
    layers.append(_timeline([_arrow(canvas, move) for move in moves], seconds))
    heads = [_header(g, str(m) if m else "") for g, m in zip(games, moves, strict=True)]
    layers.append(_timeline(heads, seconds))
    layers.append(_timeline([_panel(game, canvas) for game in games], seconds))
    title = f"{record.board}, {record.players} players, {len(record.codes)} plies"
    return _frame(canvas, title, "".join(layers))
