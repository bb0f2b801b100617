"""Placement, movement and capture (rules §6, §7, §8).

A code is `plane * cells + cell`. A move or capture is named by its square of departure, its direction and its
whole distance: the stack on its ray tells a capture from a move, so both share one plane a direction and
distance.
"""

from engine.rules import layout as lay
from engine.rules.cells import Words, lose_ring, put, put_stack, rings_at
from engine.rules.compiled import kernel

MOVES = 1
CAPTURES = 2
BOTH = 3


@kernel
def add_rays(s: Words, t: Words, i: int, mode: int, out: Words, n: int) -> int:
    """Append the moves and captures of the stack on square i; return the new count (rules §7.2, §8.2)."""
    word = int(s[i])
    height = (word >> 8) & 255
    cap = word >> 16
    cells = int(t[lay.T_CELLS])
    reach = int(t[lay.T_REACH])
    base = (lay.PLANE_MOVE - 1) * cells + int(t[lay.T_CELL + i])
    for d in range(t[lay.T_DIRECTIONS]):
        step = int(t[lay.T_STEP + d])
        j = i + step
        distance = 1
        while s[j] < lay.STACK:
            if distance >= height and mode & MOVES:
                out[n] = base + distance * cells
                n += 1
            j += step
            distance += 1
        if s[j] & lay.STACK and mode & CAPTURES and cap >= int(s[j]) >> 16:
            j += step
            distance += 1
            while s[j] < lay.STACK:
                if distance >= height:
                    out[n] = base + distance * cells
                    n += 1
                j += step
                distance += 1
        base += reach * cells
    return n


@kernel
def can_act(s: Words, t: Words, i: int, height: int, cap: int, mode: int) -> bool:
    """Whether a stack of this height and cap on square i would have a move or a capture (rules §17.1)."""
    for d in range(t[lay.T_DIRECTIONS]):
        step = int(t[lay.T_STEP + d])
        j = i + step
        distance = 1
        while s[j] < lay.STACK:
            if distance >= height and mode & MOVES:
                return True
            j += step
            distance += 1
        if s[j] & lay.STACK and mode & CAPTURES and cap >= int(s[j]) >> 16:
            j += step
            distance += 1
            while s[j] < lay.STACK:
                if distance >= height:
                    return True
                j += step
                distance += 1
    return False


@kernel
def any_movable(s: Words, t: Words, player: int) -> bool:
    """Whether some stack of the player has a move or a capture."""
    left = int(s[lay.STACKS + player - 1])
    own = lay.STACK | player
    q = 0
    while left > 0:
        i = int(t[lay.T_SQUARE + q])
        word = int(s[i])
        if (word & lay.FACE) == own:
            if can_act(s, t, i, (word >> 8) & 255, word >> 16, BOTH):
                return True
            left -= 1
        q += 1
    return False


@kernel
def hand_of(s: Words, t: Words, player: int) -> int:
    """Rings the player may still place (rules §6.3)."""
    return min(int(s[lay.HAND + player - 1]), int(t[lay.T_SUPPLY]) - int(s[lay.ON_BOARD + player - 1]))


@kernel
def free_run(s: Words, t: Words, i: int, most: int) -> int:
    """Longest run of passable cells along a ray from square i, counted up to `most`."""
    best = 0
    for d in range(t[lay.T_DIRECTIONS]):
        step = int(t[lay.T_STEP + d])
        j = i + step
        run = 0
        while run < most and s[j] < lay.STACK:
            j += step
            run += 1
        if run > best:
            best = run
            if best >= most:
                break
    return best


@kernel
def single_ok(s: Words, t: Words, i: int, player: int) -> bool:
    """Whether one ring of the player may be placed on square i (rules §6.4)."""
    word = int(s[i])
    if word == 0:
        return can_act(s, t, i, 1, 1, BOTH)
    if word & lay.STACK:
        cap = (word >> 16) + 1 if (word & 7) == player else 1
        return can_act(s, t, i, ((word >> 8) & 255) + 1, cap, BOTH)
    return False


@kernel
def any_placement(s: Words, t: Words, player: int) -> bool:
    """Whether the player has a legal placement of one ring."""
    if hand_of(s, t, player) <= 0:
        return False
    for q in range(t[lay.T_CELLS]):
        if single_ok(s, t, int(t[lay.T_SQUARE + q]), player):
            return True
    return False


@kernel
def real_action(s: Words, t: Words, player: int) -> bool:
    """Whether the player could place, move or capture (rules §13.5)."""
    return any_movable(s, t, player) or any_placement(s, t, player)


@kernel
def add_placements(s: Words, t: Words, player: int, out: Words) -> int:
    """List the placements (rules §6.5); planes 0..2 are one to three rings."""
    most = min(hand_of(s, t, player), 3)
    if most <= 0:
        return 0
    cells = int(t[lay.T_CELLS])
    n = 0
    for q in range(cells):
        i = int(t[lay.T_SQUARE + q])
        word = int(s[i])
        if word == 0:
            run = free_run(s, t, i, most)
            if run == 0 and not can_act(s, t, i, 1, 1, CAPTURES):
                continue
            for k in range(1, most + 1):
                if k == 1 or k <= run or can_act(s, t, i, k, k, CAPTURES):
                    out[n] = (k - 1) * cells + q
                    n += 1
        elif word & lay.STACK and single_ok(s, t, i, player):
            out[n] = q
            n += 1
    return n


@kernel
def add_all_rays(s: Words, t: Words, player: int, out: Words) -> int:
    """List the moves and captures of all stacks of the player."""
    left = int(s[lay.STACKS + player - 1])
    own = lay.STACK | player
    n = 0
    q = 0
    while left > 0:
        i = int(t[lay.T_SQUARE + q])
        if (int(s[i]) & lay.FACE) == own:
            n = add_rays(s, t, i, BOTH, out, n)
            left -= 1
        q += 1
    return n


@kernel
def place(s: Words, t: Words, i: int, count: int, player: int) -> None:
    """Put rings of the player on top of square i (rules §6.6)."""
    word = int(s[i])
    rings = 0
    height = 0
    if word & lay.STACK:
        rings = rings_at(s, t, i)
        height = (word >> 8) & 255
    for _ in range(count):
        rings = rings << 2 | (player - 1)
    s[lay.HAND + player - 1] -= count
    s[lay.ON_BOARD + player - 1] += count
    put_stack(s, t, i, rings, height + count)


@kernel
def jump_markers(s: Words, t: Words, i: int, step: int, count: int, player: int) -> None:
    """Flip or collapse the markers on the `count` squares behind square i (rules §7.3 step 2)."""
    j = i
    for _ in range(count):
        j += step
        word = int(s[j])
        if word:
            if word == lay.MARKER | player:
                put(s, t, j, lay.COLLAPSED | player)
            else:
                put(s, t, j, lay.MARKER | player)


@kernel
def travel(s: Words, t: Words, i: int, step: int, distance: int, player: int) -> int:
    """Move or capture from square i; return the landing square (rules §7.3, §8.3)."""
    rings = rings_at(s, t, i)
    height = (int(s[i]) >> 8) & 255
    put(s, t, i, lay.MARKER | player)
    target = i + step
    before = 0
    while before < distance and not s[target] & lay.STACK:
        target += step
        before += 1
    if before >= distance:
        jump_markers(s, t, i, step, distance - 1, player)
    else:
        jump_markers(s, t, i, step, before, player)
        jump_markers(s, t, target, step, distance - before - 2, player)
        taken = rings_at(s, t, target)
        rings |= (taken & 3) << (2 * height)
        height += 1
        put_stack(s, t, target, taken >> 2, ((int(s[target]) >> 8) & 255) - 1)
    landing = i + step * distance
    if s[landing] & lay.MARKER:
        lose_ring(s, rings & 3, player)
        rings >>= 2
        height -= 1
    put_stack(s, t, landing, rings, height)
    return landing
