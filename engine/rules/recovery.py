"""Recovery slides (rules §9).

A slide has the code of a move of distance 1 in its direction; taking only a segment (option 2) has distance 2
+ place of the slid marker in the segment. A recovering player controls no stack, so the planes of movement
are free. Which stack pays is a second decision when several could (phase EXTRACTION).
"""

from engine.rules import layout as lay
from engine.rules.cells import Words, extract, has_buried, lose_top, put
from engine.rules.compiled import kernel
from engine.rules.lines import collapse_run


@kernel
def eligible(s: Words, player: int) -> bool:
    """Whether the player may recover (rules §3.7); without stacks every ring on the board is buried."""
    p = player - 1
    return bool(s[lay.STACKS + p] == 0 and s[lay.MARKERS + p] > 0 and s[lay.ON_BOARD + p] > 0)


@kernel
def run_half(s: Words, start: int, gone: int, step: int, own: int) -> int:
    """Own markers behind square `start`, as if the marker on square `gone` had left."""
    n = 0
    j = start + step
    while s[j] == own and j != gone:
        n += 1
        j += step
    return n


@kernel
def best_run(s: Words, t: Words, origin: int, to: int, own: int) -> int:
    """Longest run through `to` after the slide: its step + 64, cells before `to`, length, 8 bits each."""
    best = 0
    for axis in range(t[lay.T_AXES]):
        step = int(t[lay.T_SLIDE_AXIS + axis])
        before = run_half(s, to, origin, -step, own)
        length = before + 1 + run_half(s, to, origin, step, own)
        if length > best & 255:
            best = (step + 64) << 16 | before << 8 | length
    return best


@kernel
def applied_run(s: Words, t: Words, origin: int, to: int, own: int) -> int:
    """The run that applying a slide uses: the first of length >= B (rules §9.5); 0 when unplayable."""
    for axis in range(t[lay.T_AXES]):
        step = int(t[lay.T_SLIDE_AXIS + axis])
        before = run_half(s, to, origin, -step, own)
        length = before + 1 + run_half(s, to, origin, step, own)
        if length >= t[lay.T_RECOVERY]:
            if length < t[lay.T_LINE]:
                return 0
            return (step + 64) << 16 | before << 8 | length
    return 0


@kernel
def add_line_slide(s: Words, t: Words, origin: int, d: int, best: int, out: Words, n: int) -> int:
    """Append option 1 and the segments of option 2 of one line slide."""
    cells = int(t[lay.T_CELLS])
    line = int(t[lay.T_LINE])
    code = (lay.PLANE_MOVE + d * int(t[lay.T_REACH])) * cells + int(t[lay.T_CELL + origin])
    out[n] = code
    n += 1
    length = best & 255
    before = best >> 8 & 255
    if length > line:
        for place in range(line):
            if place <= before and line - 1 - place <= length - 1 - before:
                out[n] = code + (1 + place) * cells
                n += 1
    return n


@kernel
def add_slides(s: Words, t: Words, player: int, out: Words, listed: int) -> int:
    """List recovery slides; with `listed` also the line slides that cannot be played (rules §9.2, §9.5)."""
    own = lay.MARKER | player
    cells = int(t[lay.T_CELLS])
    line = int(t[lay.T_LINE])
    n = 0
    lines = False
    for q in range(cells):
        i = int(t[lay.T_SQUARE + q])
        if s[i] != own:
            continue
        for d in range(t[lay.T_DIRECTIONS]):
            to = i + int(t[lay.T_STEP + d])
            word = int(s[to])
            if word & (lay.MARKER | lay.COLLAPSED):
                continue
            best = best_run(s, t, i, to, own) if word == 0 else 0
            if best & 255 >= line:
                if not lines:
                    lines = True
                    n = 0
                if listed or applied_run(s, t, i, to, own):
                    n = add_line_slide(s, t, i, d, best, out, n)
            elif not lines:
                out[n] = (lay.PLANE_MOVE + d * int(t[lay.T_REACH])) * cells + q
                n += 1
    return n


@kernel
def add_extractions(s: Words, t: Words, player: int, out: Words) -> int:
    """List the stacks with a non-top ring of the player, as codes of the elimination plane."""
    cells = int(t[lay.T_CELLS])
    n = 0
    for q in range(cells):
        i = int(t[lay.T_SQUARE + q])
        if s[i] & lay.STACK and has_buried(s, t, i, player):
            out[n] = t[lay.T_PLANE_ELIMINATE] * cells + q
            n += 1
    return n


@kernel
def count_extractions(s: Words, t: Words, player: int) -> int:
    """Number of stacks to extract from, and the square of the first, 16 bits each."""
    n = 0
    first = 0
    for q in range(t[lay.T_CELLS]):
        i = int(t[lay.T_SQUARE + q])
        if s[i] & lay.STACK and has_buried(s, t, i, player):
            n += 1
            if n == 1:
                first = i
    return first << 16 | n


@kernel
def slide(s: Words, t: Words, origin: int, d: int, distance: int, payer: int, player: int) -> None:
    """Carry out a slide; `payer` is the square to extract from, or 0 (rules §9.4)."""
    own = lay.MARKER | player
    to = origin + int(t[lay.T_STEP + d])
    if s[to] & lay.STACK:
        put(s, t, origin, 0)
        lose_top(s, t, to, 1, player)
        extract(s, t, payer, player)
        return
    best = best_run(s, t, origin, to, own)
    used = applied_run(s, t, origin, to, own)
    put(s, t, origin, 0)
    put(s, t, to, own)
    line = int(t[lay.T_LINE])
    if best & 255 >= line:
        if distance > 1 and used & 255 > line:
            step = (best >> 16) - 64
            collapse_run(s, t, to - (distance - 2) * step, step, line, player)
        else:
            step = (used >> 16) - 64
            collapse_run(s, t, to - (used >> 8 & 255) * step, step, used & 255, player)
    if payer:
        extract(s, t, payer, player)
