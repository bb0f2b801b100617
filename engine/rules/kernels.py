"""The compiled rules: legal codes, apply, ending, playouts. Unchecked: they may only see legal input.

`s` is one state, `g` the `Tables` of a geometry. All of it also runs as plain Python (NUMBA_DISABLE_JIT=1).
"""

import numpy as np
from numpy.typing import NDArray

from engine.rules import layout as lay
from engine.rules.cells import Words, extract, lose_cap, lose_top, rings_at
from engine.rules.compiled import kernel
from engine.rules.ending import ahead, end_turn
from engine.rules.geometry import Tables
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

Random = NDArray[np.int64]  # [1], state of a PCG generator
TURN_LIMIT = 1 << 30


@kernel
def new_game(s: Words, g: Tables) -> None:
    """Set the starting position (rules §2.4)."""
    t = g.table
    for k in range(t[lay.T_STATE_WORDS]):
        s[k] = 0
    for k in range(t[lay.T_SQUARES]):
        s[lay.FIRST_SQUARE + k] = lay.COLLAPSED
    for q in range(t[lay.T_CELLS]):
        s[t[lay.T_SQUARE + q]] = 0
    s[lay.PLAYERS] = t[lay.T_PLAYERS]
    s[lay.PLAYER] = 1
    s[lay.SWAP] = t[lay.T_SWAP]
    for p in range(4):
        s[lay.OUT_AT + p] = lay.NEVER
        if p < t[lay.T_PLAYERS]:
            s[lay.HAND + p] = t[lay.T_SUPPLY]


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
def legal(s: Words, g: Tables, out: Words) -> int:
    """Write the codes of all playable moves to `out` [max_legal]; return their number, 0 after the end."""
    return legal_words(s, g.table, out)


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
    if (word & lay.FACE) == lay.STACK | player and can_act(
        s, t, square, (word >> 8) & 255, word >> 16, CAPTURES
    ):
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


@kernel
def apply(s: Words, g: Tables, code: int) -> None:
    """Play a legal code. Any other code leaves a broken state."""
    apply_words(s, g.table, code)


@kernel
def is_over(s: Words) -> bool:
    """Whether the game has ended."""
    return bool(s[lay.PHASE] == lay.OVER)


@kernel
def winner(s: Words) -> int:
    """Seat of the winner, 0 while the game runs or when nobody has won."""
    return int(s[lay.WINNER])


@kernel
def to_move(s: Words) -> int:
    """Seat to move, 1..N; the winner once the game is over."""
    return int(s[lay.PLAYER])


@kernel
def n_players(s: Words) -> int:
    """Number of seats."""
    return int(s[lay.PLAYERS])


@kernel
def phase(s: Words) -> int:
    """Phase, see `layout`."""
    return int(s[lay.PHASE])


@kernel
def copy(target: Words, source: Words) -> None:
    """Copy a state."""
    for k in range(source.shape[0]):
        target[k] = source[k]


@kernel
def cell_word(s: Words, g: Tables, cell: int) -> int:
    """Word of a cell: owner | kind | height << 8 | cap << 16 (see `layout`)."""
    return int(s[g.table[lay.T_SQUARE + cell]])


@kernel
def owner(s: Words, g: Tables, cell: int) -> int:
    """Seat that owns what is on a cell, 0 when empty."""
    return int(s[g.table[lay.T_SQUARE + cell]]) & 7


@kernel
def kind(s: Words, g: Tables, cell: int) -> int:
    """0 empty, MARKER, STACK or COLLAPSED of `layout`."""
    return int(s[g.table[lay.T_SQUARE + cell]]) & (lay.MARKER | lay.STACK | lay.COLLAPSED)


@kernel
def height(s: Words, g: Tables, cell: int) -> int:
    """Rings of the stack on a cell, 0 without one."""
    return int(s[g.table[lay.T_SQUARE + cell]]) >> 8 & 255


@kernel
def cap(s: Words, g: Tables, cell: int) -> int:
    """Equal colours on top of the stack on a cell, 0 without one."""
    return int(s[g.table[lay.T_SQUARE + cell]]) >> 16


@kernel
def ring(s: Words, g: Tables, cell: int, depth: int) -> int:
    """Seat that owns the ring at a depth (0 top) of the stack on a cell; depth < height."""
    i = int(g.table[lay.T_SQUARE + cell])
    return ((rings_at(s, g.table, i) >> (2 * depth)) & 3) + 1


@kernel
def cell_at(g: Tables, square: int) -> int:
    """Cell of a square, -1 for none."""
    return int(g.table[lay.T_CELL + square])


@kernel
def must_move(s: Words, g: Tables) -> int:
    """Cell of the stack placed this turn, -1 for none."""
    return int(g.table[lay.T_CELL + s[lay.MUST_MOVE]])


@kernel
def chain_cell(s: Words, g: Tables) -> int:
    """Cell of the stack that may or must capture, -1 for none."""
    return int(g.table[lay.T_CELL + s[lay.CHAIN]])


@kernel
def pending(s: Words) -> int:
    """Payment due: DUE_NOTHING, DUE_LINE, DUE_TERRITORY or DUE_RECOVERY of `layout`."""
    return int(s[lay.PENDING])


@kernel
def hand(s: Words, seat: int) -> int:
    """Rings in hand of a seat (1..N)."""
    return int(s[lay.HAND + seat - 1])


@kernel
def eliminated(s: Words, seat: int) -> int:
    """Rings credited to a seat."""
    return int(s[lay.ELIMINATED + seat - 1])


@kernel
def territory(s: Words, seat: int) -> int:
    """Collapsed cells of a seat."""
    return int(s[lay.TERRITORY + seat - 1])


@kernel
def lps_count(s: Words) -> int:
    """Rounds in a row in which only `lps_holder` could act."""
    return int(s[lay.LPS_COUNT])


@kernel
def lps_holder(s: Words) -> int:
    """Seat that leads in last-player-standing, 0 for none."""
    return int(s[lay.LPS_HOLDER])


@kernel
def ranks(s: Words, out: Words) -> None:
    """Write each seat's rank in a finished game to `out` [players]; ties share the better (rules §13.7)."""
    players = int(s[lay.PLAYERS])
    for a in range(1, players + 1):
        rank = 1
        for b in range(1, players + 1):
            if b != a and ahead(s, b, a):
                rank += 1
        out[a - 1] = rank


@kernel
def placement_values(s: Words, out: NDArray[np.float32]) -> None:
    """Write the value of each seat's place: 1 first, 0 last, evenly between, ties share their mean."""
    players = int(s[lay.PLAYERS])
    for a in range(1, players + 1):
        beaten = 0.0
        for b in range(1, players + 1):
            if b != a:
                if ahead(s, a, b):
                    beaten += 1.0
                elif not ahead(s, b, a):
                    beaten += 0.5
        out[a - 1] = beaten / (players - 1)


@kernel
def state_hash(s: Words, g: Tables) -> int:
    """63-bit hash of a position; how long it took to reach does not enter."""
    a = 0x2545F491
    b = 0x1B873593
    rows = int(g.table[lay.T_ROWS])
    for k in range(rows):
        if k in (lay.PLIES, lay.REGIONS, lay.LAST_ACTOR) or lay.OUT_AT <= k < lay.OUT_AT + 4:
            continue
        word = int(s[k]) & 0xFFFFFFFF
        a = ((a ^ word) * 0x01000193) & 0xFFFFFFFF
        b = ((b ^ word) * 0x05F356B5) & 0xFFFFFFFF
        a ^= a >> 15
        b ^= b >> 13
    return (a & 0x7FFFFFFF) << 32 | b


@kernel
def seed_random(rng: Random, seed: int) -> None:
    """Start a generator from any seed."""
    rng[0] = (seed * 747796405 + 2891336453) & 0xFFFFFFFF


@kernel
def draw(rng: Random, n: int) -> int:
    """Draw from 0..n-1 (PCG-RXS-M-XS 32, O'Neill 2014)."""
    x = int(rng[0])
    rng[0] = (x * 747796405 + 2891336453) & 0xFFFFFFFF
    word = (((x >> ((x >> 28) + 4)) ^ x) * 277803737) & 0xFFFFFFFF
    word = (word >> 22) ^ word
    return (word * n) >> 32


@kernel
def playout_words(s: Words, t: Words, out: Words, rng: Random, limit: int) -> int:
    """Play uniformly random legal codes to the end, or for `limit` plies; return the plies played."""
    plies = 0
    while s[lay.PHASE] != lay.OVER and plies < limit:
        n = legal_words(s, t, out)
        k = draw(rng, n) if n > 1 else 0
        apply_words(s, t, int(out[k]))
        plies += 1
    return plies


@kernel
def random_playout(s: Words, g: Tables, rng: Random) -> int:
    """Play uniformly random legal codes to the end of the game; return the plies played."""
    out = np.empty(g.max_legal, dtype=np.int32)
    return playout_words(s, g.table, out, rng, TURN_LIMIT)
