"""The turn as a state machine: what each phase offers, and what a code does in it (rules §4, §16.3)."""

from engine.rules import layout as lay
from engine.rules.cells import Words, extract, lose_cap, lose_top
from engine.rules.compiled import kernel
from engine.rules.ending import end_turn
from engine.rules.lines import add_lines, collapse_run, has_line, line_length
from engine.rules.movement import (
    BOTH,
    CAPTURES,
    add_all_rays,
    add_placements,
    add_rays,
    any_movable,
    can_act,
    place,
    travel,
)
from engine.rules.recovery import add_extractions, add_slides, count_extractions, eligible, slide
from engine.rules.regions import find_regions, process_region


@kernel
def scalar_code(t: Words, plane: int) -> int:
    """Code of a move that names no cell: the first cell of its plane."""
    return int(t[plane]) * int(t[lay.T_CELLS])


@kernel
def legal_placement(s: Words, t: Words, player: int, out: Words) -> int:
    """Legal codes of ring placement (rules §6.5)."""
    n = add_placements(s, t, player, out)
    p = player - 1
    if s[lay.HAND + p] > 0:
        skip = any_movable(s, t, player) if s[lay.STACKS + p] > 0 else eligible(s, player)
        if skip:
            out[n] = scalar_code(t, lay.T_PLANE_SKIP)
            n += 1
    if n == 0:
        out[0] = scalar_code(t, lay.T_PLANE_NOTHING)
        n = 1
    if s[lay.SWAP] == lay.SWAP_OPEN and player == 2:
        out[n] = scalar_code(t, lay.T_PLANE_SWAP)
        n += 1
    return n


@kernel
def legal_movement(s: Words, t: Words, player: int, out: Words) -> int:
    """Legal codes of movement (rules §7, §8, §9)."""
    must = int(s[lay.MUST_MOVE])
    if must:
        n = add_rays(s, t, must, BOTH, out, 0)
    elif s[lay.STACKS + player - 1] > 0:
        n = add_all_rays(s, t, player, out)
    elif eligible(s, player):
        n = add_slides(s, t, player, out, 0)
        out[n] = scalar_code(t, lay.T_PLANE_SKIP)
        n += 1
    else:
        n = 0
    if n == 0:
        out[0] = scalar_code(t, lay.T_PLANE_NOTHING)
        n = 1
    return n


@kernel
def add_own_stacks(s: Words, t: Words, player: int, out: Words) -> int:
    """List the stacks of the player as codes of the elimination plane."""
    cells = int(t[lay.T_CELLS])
    own = lay.STACK | player
    n = 0
    for q in range(cells):
        if (int(s[t[lay.T_SQUARE + q]]) & lay.FACE) == own:
            out[n] = t[lay.T_PLANE_ELIMINATE] * cells + q
            n += 1
    return n


@kernel
def legal_region(s: Words, t: Words, player: int, out: Words) -> int:
    """Legal codes of territory processing (rules §11.7)."""
    if s[lay.PENDING] == lay.DUE_RECOVERY:
        return add_extractions(s, t, player, out)
    if s[lay.PENDING]:
        return add_own_stacks(s, t, player, out)
    n = 0
    if s[lay.REGIONS] != lay.NONE:
        n = find_regions(s, t, player, 0, out)
    if n == 0:
        out[0] = scalar_code(t, lay.T_PLANE_NOTHING)
        return 1
    out[n] = scalar_code(t, lay.T_PLANE_SKIP)
    return n + 1


@kernel
def legal_words(s: Words, t: Words, out: Words) -> int:
    """As `legal`, with the bare table."""
    phase = int(s[lay.PHASE])
    player = int(s[lay.PLAYER])
    if phase == lay.PLACEMENT:
        return legal_placement(s, t, player, out)
    if phase == lay.MOVEMENT:
        return legal_movement(s, t, player, out)
    if phase == lay.CAPTURE:
        n = add_rays(s, t, int(s[lay.CHAIN]), CAPTURES, out, 0)
        out[n] = scalar_code(t, lay.T_PLANE_SKIP)
        return n + 1
    if phase == lay.CHAIN_CAPTURE:
        return add_rays(s, t, int(s[lay.CHAIN]), CAPTURES, out, 0)
    if phase == lay.LINES:
        if s[lay.PENDING]:
            return add_own_stacks(s, t, player, out)
        n = add_lines(s, t, player, out)
        if n == 0:
            out[0] = scalar_code(t, lay.T_PLANE_NOTHING)
            n = 1
        return n
    if phase == lay.REGION:
        return legal_region(s, t, player, out)
    if phase == lay.FORCED:
        return add_own_stacks(s, t, player, out)
    if phase == lay.EXTRACTION:
        return add_extractions(s, t, player, out)
    return 0


@kernel
def has_acted(s: Words) -> bool:
    """Whether the player has made a real move, as the end of a turn sees it (rules §3.6)."""
    return bool(s[lay.ACTED] or s[lay.CARRIED] & lay.CARRIED_ACTED)


@kernel
def leave_lines(s: Words, t: Words, player: int) -> None:
    """Go on after the line phase (rules §4.4)."""
    s[lay.MUST_MOVE] = 0
    s[lay.CHAIN] = 0
    found = find_regions(s, t, player, 1, s) > 0
    s[lay.REGIONS] = lay.SOME if found else lay.NONE
    if not found and not has_acted(s) and s[lay.STACKS + player - 1] > 0:
        s[lay.PHASE] = lay.FORCED
    else:
        s[lay.PHASE] = lay.REGION


@kernel
def land(s: Words, t: Words, square: int, player: int, phase: int) -> None:
    """Enter a capture phase if the stack that has landed may capture, else the line phase (rules §4.3)."""
    word = int(s[square])
    s[lay.MUST_MOVE] = 0
    if (word & lay.FACE) == lay.STACK | player and can_act(s, t, square, (word >> 8) & 255, word >> 16, CAPTURES):
        s[lay.PHASE] = phase
        s[lay.CHAIN] = square
    else:
        s[lay.PHASE] = lay.LINES
        s[lay.CHAIN] = 0


@kernel
def apply_ray(s: Words, t: Words, plane: int, cell: int, player: int) -> None:
    """Carry out a move or a capture."""
    reach = int(t[lay.T_REACH])
    d = (plane - lay.PLANE_MOVE) // reach
    distance = (plane - lay.PLANE_MOVE) % reach + 1
    step = int(t[lay.T_STEP + d])
    origin = int(t[lay.T_SQUARE + cell])
    s[lay.ACTED] = 1
    captured = False
    j = origin + step
    for _ in range(distance - 1):
        if s[j] & lay.STACK:
            captured = True
            break
        j += step
    landing = travel(s, t, origin, step, distance, player)
    land(s, t, landing, player, lay.CHAIN_CAPTURE if captured else lay.CAPTURE)


@kernel
def pay_slide(s: Words, t: Words, code: int, payer: int, player: int) -> None:
    """Carry out a recovery slide with its payment, and go on to the lines."""
    cells = int(t[lay.T_CELLS])
    reach = int(t[lay.T_REACH])
    plane = code // cells - lay.PLANE_MOVE
    origin = int(t[lay.T_SQUARE + code % cells])
    slide(s, t, origin, plane // reach, plane % reach + 1, payer, player)
    s[lay.ACTED] = 1
    s[lay.RECOVERED] = 1
    s[lay.SLIDE] = 0
    s[lay.PHASE] = lay.LINES


@kernel
def apply_slide(s: Words, t: Words, code: int, plane: int, player: int) -> None:
    """Start a recovery slide: it waits for its extraction when several stacks could pay."""
    payer = 0
    if (plane - lay.PLANE_MOVE) % int(t[lay.T_REACH]) == 0:
        found = count_extractions(s, t, player)
        if found & 0xFFFF > 1:
            s[lay.SLIDE] = code + 1
            s[lay.PHASE] = lay.EXTRACTION
            return
        payer = found >> 16
    pay_slide(s, t, code, payer, player)


@kernel
def apply_placement(s: Words, t: Words, plane: int, cell: int, player: int) -> None:
    """Apply a move of ring placement."""
    if plane == t[lay.T_PLANE_SWAP]:
        s[lay.SWAP] = lay.SWAP_TAKEN
        s[lay.ACTED] = 1
        return
    if player == 2 and s[lay.SWAP] == lay.SWAP_OPEN:
        s[lay.SWAP] = lay.SWAP_DECLINED
    s[lay.PHASE] = lay.MOVEMENT
    if plane < lay.PLANE_MOVE:
        square = int(t[lay.T_SQUARE + cell])
        place(s, t, square, plane + 1, player)
        s[lay.MUST_MOVE] = square
        s[lay.ACTED] = 1


@kernel
def apply_movement(s: Words, t: Words, code: int, plane: int, cell: int, player: int) -> None:
    """Apply a move of the movement and capture phases."""
    if plane >= t[lay.T_PLANE_LINE]:
        s[lay.PHASE] = lay.LINES
        s[lay.MUST_MOVE] = 0
        s[lay.CHAIN] = 0
    elif s[lay.STACKS + player - 1] > 0:
        apply_ray(s, t, plane, cell, player)
    else:
        apply_slide(s, t, code, plane, player)


@kernel
def apply_line(s: Words, t: Words, plane: int, cell: int, player: int) -> None:
    """Apply a move of line processing (rules §10.6)."""
    square = int(t[lay.T_SQUARE + cell])
    if s[lay.PENDING]:
        lose_top(s, t, square, 1, player)
        s[lay.PENDING] = lay.DUE_NOTHING
        return
    if plane == t[lay.T_PLANE_NOTHING]:
        leave_lines(s, t, player)
        return
    s[lay.ACTED] = 1
    if plane >= t[lay.T_PLANE_SEGMENT]:
        step = int(t[lay.T_AXIS + plane - t[lay.T_PLANE_SEGMENT]])
        collapse_run(s, t, square, step, int(t[lay.T_LINE]), player)
    else:
        step = int(t[lay.T_AXIS + plane - t[lay.T_PLANE_LINE]])
        collapse_run(s, t, square, step, line_length(s, t, square, step, player), player)
        if s[lay.STACKS + player - 1] > 0:
            s[lay.PENDING] = lay.DUE_LINE
    if not s[lay.PENDING] and not has_line(s, t, player):
        leave_lines(s, t, player)


@kernel
def apply_region(s: Words, t: Words, plane: int, cell: int, player: int, last_actor: int) -> None:
    """Apply a move of territory processing (rules §11.7)."""
    if s[lay.PENDING]:
        square = int(t[lay.T_SQUARE + cell])
        if s[lay.PENDING] == lay.DUE_RECOVERY:
            extract(s, t, square, player)
        else:
            lose_cap(s, t, square, player)
        s[lay.PENDING] = lay.DUE_NOTHING
        s[lay.ACTED] = 1
        s[lay.REGIONS] = lay.SOME
        if find_regions(s, t, player, 1, s) == 0:
            end_turn(s, t, last_actor)
    elif plane >= t[lay.T_PLANE_SKIP]:
        if not has_acted(s) and s[lay.STACKS + player - 1] > 0:
            s[lay.PHASE] = lay.FORCED
        else:
            end_turn(s, t, last_actor)
    else:
        process_region(s, t, cell, plane - int(t[lay.T_PLANE_REGION]), player)
        s[lay.ACTED] = 1
        recovered = s[lay.RECOVERED] or s[lay.CARRIED] & lay.CARRIED_RECOVERED
        s[lay.PENDING] = lay.DUE_RECOVERY if recovered else lay.DUE_TERRITORY


@kernel
def apply_words(s: Words, t: Words, code: int) -> None:
    """As `apply`, with the bare table."""
    cells = int(t[lay.T_CELLS])
    plane = code // cells
    cell = code % cells
    phase = int(s[lay.PHASE])
    player = int(s[lay.PLAYER])
    last_actor = int(s[lay.LAST_ACTOR])
    s[lay.PLIES] += 1
    s[lay.LAST_ACTOR] = player
    if phase == lay.PLACEMENT:
        apply_placement(s, t, plane, cell, player)
    elif phase <= lay.CHAIN_CAPTURE:
        apply_movement(s, t, code, plane, cell, player)
    elif phase == lay.LINES:
        apply_line(s, t, plane, cell, player)
    elif phase == lay.REGION:
        apply_region(s, t, plane, cell, player, last_actor)
    elif phase == lay.FORCED:
        lose_cap(s, t, int(t[lay.T_SQUARE + cell]), player)
        s[lay.ACTED] = 1
        end_turn(s, t, last_actor)
    elif phase == lay.EXTRACTION:
        pay_slide(s, t, int(s[lay.SLIDE]) - 1, int(t[lay.T_SQUARE + cell]), player)
