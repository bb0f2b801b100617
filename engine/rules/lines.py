"""Lines of markers (rules §10)."""

from engine.rules import layout as lay
from engine.rules.cells import Words, collapse
from engine.rules.compiled import kernel


@kernel
def has_line(s: Words, t: Words, player: int) -> bool:
    """Whether the player owns a run of at least D markers: bit rows shifted over each other on each axis."""
    detect = int(t[lay.T_DETECT])
    if s[lay.MARKERS + player - 1] < detect:
        return False
    width = int(t[lay.T_WIDTH])
    base = int(t[lay.T_ROWS]) + (lay.ROWS_MARKERS + player - 1) * width
    size = int(t[lay.T_SIZE])
    for y in range(1, size + 1):
        along = int(s[base + y])
        if along == 0:
            continue
        down = along
        rising = along
        falling = along
        for k in range(1, detect):
            along &= along >> 1
            if y + k <= size:
                row = int(s[base + y + k])
            else:
                row = 0
            down &= row
            rising &= row << k
            falling &= row >> k
        if t[lay.T_HEX]:
            falling = 0
        if along | down | rising | falling:
            return True
    return False


@kernel
def line_length(s: Words, t: Words, i: int, step: int, player: int) -> int:
    """Markers of the player from square i on along an axis."""
    own = lay.MARKER | player
    n = 0
    while s[i] == own:
        i += step
        n += 1
    return n


@kernel
def add_lines(s: Words, t: Words, player: int, out: Words) -> int:
    """List the line moves: whole lines, and the segments of over-long ones (rules §10.3)."""
    if not has_line(s, t, player):
        return 0
    cells = int(t[lay.T_CELLS])
    length = int(t[lay.T_LINE])
    own = lay.MARKER | player
    n = 0
    for q in range(cells):
        i = int(t[lay.T_SQUARE + q])
        if s[i] != own:
            continue
        for axis in range(t[lay.T_AXES]):
            step = int(t[lay.T_AXIS + axis])
            if s[i - step] == own:
                continue
            run = line_length(s, t, i, step, player)
            if run < t[lay.T_DETECT]:
                continue
            out[n] = (t[lay.T_PLANE_LINE] + axis) * cells + q
            n += 1
            if run > length:
                for k in range(run - length + 1):
                    out[n] = (t[lay.T_PLANE_SEGMENT] + axis) * cells + t[lay.T_CELL + i + k * step]
                    n += 1
    return n


@kernel
def collapse_run(s: Words, t: Words, i: int, step: int, count: int, player: int) -> None:
    """Collapse `count` cells from square i on along an axis."""
    for _ in range(count):
        collapse(s, t, i, player)
        i += step
