"""Territory (rules §11), on bit rows.

For each marker colour on the board the cells that are neither collapsed nor markers of that colour fall into
components; a last pass looks at what is sealed by collapsed cells alone. Components are filled row by row:
a whole row is filled with shifts, and rows are swept down and up until nothing changes.

A region is named by its first cell, row by row, and its border colour relative to the player (0 own, 1 next
seat, ..., 4 collapsed cells alone). A cell set that is a component for several colours is named by the first
of them.
"""

from engine.rules import layout as lay
from engine.rules.cells import Words, collapse, has_buried
from engine.rules.compiled import kernel


@kernel
def fill_row(seed: int, free: int) -> int:
    """Spread the bits of `seed` along the runs of `free` (Kogge-Stone, both ways, rows of at most 32)."""
    up = seed
    down = seed
    way_up = free
    way_down = free
    for k in range(5):
        shift = 1 << k
        up |= way_up & (up << shift)
        way_up &= way_up << shift
        down |= way_down & (down >> shift)
        way_down &= way_down >> shift
    return up | down


@kernel
def fill(s: Words, t: Words, y: int, seed: int) -> int:
    """Move the component of `seed` in row y from REST to COMPONENT rows; return first | last << 8 row."""
    width = int(t[lay.T_WIDTH])
    size = int(t[lay.T_SIZE])
    component = int(t[lay.T_ROWS]) + lay.ROWS_COMPONENT * width
    rest = component + width
    is_hex = int(t[lay.T_HEX])
    s[component + y] = fill_row(seed, int(s[rest + y]))
    low = y
    high = y
    way = 1
    changed = True
    while changed:
        changed = False
        row = max(low - 1, 1) if way > 0 else min(high + 1, size)
        while max(low - 1, 1) <= row <= min(high + 1, size):
            free = int(s[rest + row])
            old = int(s[component + row])
            if free != old:
                above = int(s[component + row - 1])
                below = int(s[component + row + 1])
                new = above | below
                if is_hex:
                    new |= above >> 1 | below << 1
                new = (new & free) | old
                if new != old:
                    s[component + row] = fill_row(new, free)
                    changed = True
                    low = min(low, row)
                    high = max(high, row)
            row += way
        way = -way
    for row in range(low, high + 1):
        s[rest + row] &= ~s[component + row]
    return low | high << 8


@kernel
def clear_component(s: Words, t: Words, span: int) -> None:
    """Empty the COMPONENT rows of a span returned by `fill`."""
    base = int(t[lay.T_ROWS]) + lay.ROWS_COMPONENT * int(t[lay.T_WIDTH])
    for row in range(span & 255, (span >> 8) + 1):
        s[base + row] = 0


@kernel
def set_rest(s: Words, t: Words, colour: int) -> None:
    """Set the REST rows to the cells that are neither collapsed nor markers of the colour (0..3, -1 none)."""
    width = int(t[lay.T_WIDTH])
    rows = int(t[lay.T_ROWS])
    for y in range(1, int(t[lay.T_SIZE]) + 1):
        free = int(t[lay.T_BOARD + y]) & ~int(s[rows + lay.ROWS_COLLAPSED * width + y])
        if colour >= 0:
            free &= ~int(s[rows + colour * width + y])
        s[rows + lay.ROWS_REST * width + y] = free


@kernel
def set_payers(s: Words, t: Words, player: int) -> bool:
    """Set the PAYERS rows to the stacks the player could pay with (rules §11.3); say if there is one."""
    width = int(t[lay.T_WIDTH])
    rows = int(t[lay.T_ROWS])
    found = False
    if not s[lay.RECOVERED] and not s[lay.CARRIED] & lay.CARRIED_RECOVERED:
        if s[lay.STACKS + player - 1] == 0:
            return False
        for y in range(1, int(t[lay.T_SIZE]) + 1):
            s[rows + lay.ROWS_PAYERS * width + y] = s[rows + (lay.ROWS_STACKS + player - 1) * width + y]
        return True
    for y in range(1, int(t[lay.T_SIZE]) + 1):
        s[rows + lay.ROWS_PAYERS * width + y] = 0
    for q in range(t[lay.T_CELLS]):
        i = int(t[lay.T_SQUARE + q])
        if s[i] & lay.STACK and has_buried(s, t, i, player):
            s[rows + lay.ROWS_PAYERS * width + int(t[lay.T_ROW + i])] |= t[lay.T_BIT + i]
            found = True
    return found


@kernel
def payer_outside(s: Words, t: Words) -> bool:
    """Whether some payer is outside the component."""
    width = int(t[lay.T_WIDTH])
    payers = int(t[lay.T_ROWS]) + lay.ROWS_PAYERS * width
    component = int(t[lay.T_ROWS]) + lay.ROWS_COMPONENT * width
    for y in range(1, int(t[lay.T_SIZE]) + 1):
        if s[payers + y] & ~s[component + y]:
            return True
    return False


@kernel
def controllers_inside(s: Words, t: Words, span: int) -> int:
    """Number of players who control a stack in the component."""
    width = int(t[lay.T_WIDTH])
    rows = int(t[lay.T_ROWS])
    count = 0
    for p in range(t[lay.T_PLAYERS]):
        if s[lay.STACKS + p] == 0:
            continue
        for y in range(span & 255, (span >> 8) + 1):
            if s[rows + (lay.ROWS_STACKS + p) * width + y] & s[rows + lay.ROWS_COMPONENT * width + y]:
                count += 1
                break
    return count


@kernel
def neighbours(s: Words, t: Words, y: int) -> int:
    """Cells of row y territory-adjacent to the component, those inside it included."""
    base = int(t[lay.T_ROWS]) + lay.ROWS_COMPONENT * int(t[lay.T_WIDTH]) + y
    here = int(s[base])
    above = int(s[base - 1])
    below = int(s[base + 1])
    near = here | here << 1 | here >> 1 | above | below
    if t[lay.T_HEX]:
        near |= above >> 1 | below << 1
    return near


@kernel
def sealed_by(s: Words, t: Words, colour: int, span: int) -> bool:
    """Whether the component is also a component when markers of `colour` (0..3) are the walls."""
    if s[lay.MARKERS + colour] == 0:
        return False
    width = int(t[lay.T_WIDTH])
    rows = int(t[lay.T_ROWS])
    size = int(t[lay.T_SIZE])
    for y in range(max((span & 255) - 1, 1), min((span >> 8) + 1, size) + 1):
        here = int(s[rows + lay.ROWS_COMPONENT * width + y])
        walls = int(s[rows + colour * width + y])
        if here & walls:
            return False
        passable = int(t[lay.T_BOARD + y]) & ~int(s[rows + lay.ROWS_COLLAPSED * width + y]) & ~walls
        if neighbours(s, t, y) & ~here & passable:
            return False
    return True


@kernel
def named_before(s: Words, t: Words, player: int, turn: int, span: int) -> bool:
    """Whether an earlier pass has found the same cell set."""
    players = int(t[lay.T_PLAYERS])
    for k in range(min(turn, players)):
        if sealed_by(s, t, (player - 1 + k) % players, span):
            return True
    return False


@kernel
def active_colours(s: Words, t: Words) -> int:
    """Number of colours with a ring in any stack (rules §11.1)."""
    count = 0
    for p in range(t[lay.T_PLAYERS]):
        if s[lay.ON_BOARD + p] > 0:
            count += 1
    return count


@kernel
def first_cell(s: Words, t: Words, y: int) -> int:
    """First cell of the component, which begins in row y."""
    width = int(t[lay.T_WIDTH])
    row = int(s[int(t[lay.T_ROWS]) + lay.ROWS_COMPONENT * width + y])
    x = 0
    while not row >> x & 1:
        x += 1
    return int(t[lay.T_CELL + lay.FIRST_SQUARE + y * width + x])


@kernel
def find_in_pass(s: Words, t: Words, player: int, turn: int, active: int, stop: int, out: Words, n: int) -> int:
    """Append the processable regions of one border colour; with `stop` return at the first, unwritten."""
    players = int(t[lay.T_PLAYERS])
    cells = int(t[lay.T_CELLS])
    rest = int(t[lay.T_ROWS]) + lay.ROWS_REST * int(t[lay.T_WIDTH])
    sealed = turn == players
    set_rest(s, t, -1 if sealed else (player - 1 + turn) % players)
    for y in range(1, int(t[lay.T_SIZE]) + 1):
        while s[rest + y]:
            row = int(s[rest + y])
            span = fill(s, t, y, row & -row)
            if payer_outside(s, t):
                inside = controllers_inside(s, t, span)
                if inside < active and (not sealed or inside == 1):
                    if stop:
                        clear_component(s, t, span)
                        return n + 1
                    if not named_before(s, t, player, turn, span):
                        plane = int(t[lay.T_PLANE_REGION]) + (4 if sealed else turn)
                        out[n] = plane * cells + first_cell(s, t, y)
                        n += 1
            clear_component(s, t, span)
    return n


@kernel
def find_regions(s: Words, t: Words, player: int, stop: int, out: Words) -> int:
    """List the processable regions; with `stop` only say whether there is one (rules §11.2, §11.3)."""
    active = active_colours(s, t)
    if active == 0 or not set_payers(s, t, player):
        return 0
    players = int(t[lay.T_PLAYERS])
    collapsed = 0
    for p in range(players):
        collapsed += s[lay.TERRITORY + p]
    n = 0
    for turn in range(players + 1):
        if turn < players:
            walls = int(s[lay.MARKERS + (player - 1 + turn) % players])
            # The smallest pocket is a corner, behind two cells on squares and three on hexagons.
            if walls == 0 or walls + collapsed < 2:
                continue
        elif collapsed < 2:
            continue
        n = find_in_pass(s, t, player, turn, active, stop, out, n)
        if stop and n > 0:
            return n
    return n


@kernel
def mark_region(s: Words, t: Words, cell: int, colour: int) -> int:
    """Put the region of a cell and border colour (-1 none) in the COMPONENT rows; return its span of rows."""
    i = int(t[lay.T_SQUARE + cell])
    set_rest(s, t, colour)
    return fill(s, t, int(t[lay.T_ROW + i]), int(t[lay.T_BIT + i]))


@kernel
def mark_border(s: Words, t: Words) -> None:
    """Put the border markers of the component in the BORDER rows (rules §11.5)."""
    width = int(t[lay.T_WIDTH])
    size = int(t[lay.T_SIZE])
    rows = int(t[lay.T_ROWS])
    component = rows + lay.ROWS_COMPONENT * width
    border = rows + lay.ROWS_BORDER * width
    rest = rows + lay.ROWS_REST * width  # here: markers outside the region
    for y in range(1, size + 1):
        markers = 0
        for p in range(t[lay.T_PLAYERS]):
            markers |= int(s[rows + p * width + y])
        s[rest + y] = markers & ~int(s[component + y])
        s[border + y] = neighbours(s, t, y) & int(s[rest + y])
    changed = bool(t[lay.T_SPREAD])
    while changed:
        changed = False
        for y in range(1, size + 1):
            near = int(s[border + y - 1]) | int(s[border + y]) | int(s[border + y + 1])
            near = (near | near << 1 | near >> 1) & int(s[rest + y])
            if near != s[border + y]:
                s[border + y] = near
                changed = True


@kernel
def process_region(s: Words, t: Words, cell: int, wall: int, player: int) -> None:
    """Collapse a region and its border markers (rules §11.4); `wall` is relative to the player, 4 none."""
    players = int(t[lay.T_PLAYERS])
    width = int(t[lay.T_WIDTH])
    component = int(t[lay.T_ROWS]) + lay.ROWS_COMPONENT * width
    border = int(t[lay.T_ROWS]) + lay.ROWS_BORDER * width
    span = mark_region(s, t, cell, -1 if wall == 4 else (player - 1 + wall) % players)
    mark_border(s, t)
    for q in range(t[lay.T_CELLS]):
        i = int(t[lay.T_SQUARE + q])
        y = int(t[lay.T_ROW + i])
        if (int(s[component + y]) | int(s[border + y])) & int(t[lay.T_BIT + i]):
            collapse(s, t, i, player)
    clear_component(s, t, span)
