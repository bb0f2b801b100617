"""Words of a game state and of a geometry table, as compile-time constants of the kernels.

A state is one row of int32: the scalars below, then one word a square of a padded board, then the rings of
each stack, then bit rows that mirror the board. The board is padded with a rim of collapsed cells without an
owner, so a ray is `i += step` until it meets a wall and every board has the same code.

A cell word is `owner | kind | height << 8 | cap << 16`, owner 1..4. Rings are two bits each, top ring lowest,
15 to a word; large boards have a second word for each cell. A stack can only grow while it can still move
(rules §6.4, §8.2), so no stack is taller than the longest ray plus one: 8, 19, 9 or 25 rings.

A bit row holds one row of the board, bit x for padded column x. `cells.put` alone keeps rows and counts.
"""

from typing import Final

# Kinds of a cell word. A word below STACK is passable (empty or marker).
MARKER: Final = 8
STACK: Final = 16
COLLAPSED: Final = 32
FACE: Final = 255  # owner and kind, without height and cap
RINGS_A_WORD: Final = 15

# Scalars of a state.
PLAYERS: Final = 0
PLAYER: Final = 1
PHASE: Final = 2
WINNER: Final = 3
REASON: Final = 4
MUST_MOVE: Final = 5  # square of the stack placed this turn, 0 none
CHAIN: Final = 6  # square of the stack that may or must capture, 0 none
PENDING: Final = 7
ACTED: Final = 8
RECOVERED: Final = 9
CARRIED: Final = 10  # flags kept when the same player takes two turns in a row (rules §3.6)
SWAP: Final = 11
LPS_ROUND: Final = 12
LPS_FIRST: Final = 13
LPS_MASK: Final = 14  # two bits a seat: 0 not seen, 1 no real action, 2 had one
LPS_EXCLUSIVE: Final = 15
LPS_COUNT: Final = 16
LPS_HOLDER: Final = 17
LAST_ACTOR: Final = 18
PLIES: Final = 19
REGIONS: Final = 20  # what is known of processable regions: UNKNOWN, NONE or SOME; no part of the position
SLIDE: Final = 21  # code of a recovery slide that waits for its extraction, plus 1; 0 none
HAND: Final = 24
ELIMINATED: Final = 28
TERRITORY: Final = 32
STACKS: Final = 36  # stacks controlled
MARKERS: Final = 40  # markers owned
ON_BOARD: Final = 44  # rings of the colour in any stack
OUT_AT: Final = 48  # ply at which the seat lost its last ring, NEVER while it has one
FIRST_SQUARE: Final = 52

NEVER: Final = 1 << 30
UNKNOWN: Final = 0
NONE: Final = 1
SOME: Final = 2
CARRIED_ACTED: Final = 1
CARRIED_RECOVERED: Final = 2

# Phases. EXTRACTION is this engine's own: a recovery slide waits for the choice of the stack that pays.
PLACEMENT: Final = 0
MOVEMENT: Final = 1
CAPTURE: Final = 2
CHAIN_CAPTURE: Final = 3
LINES: Final = 4
REGION: Final = 5
FORCED: Final = 6
OVER: Final = 7
EXTRACTION: Final = 8

# Payments due.
DUE_NOTHING: Final = 0
DUE_LINE: Final = 1
DUE_TERRITORY: Final = 2
DUE_RECOVERY: Final = 3

# Reasons for the end (rules §16.5).
NOT_OVER: Final = 0
RING_ELIMINATION: Final = 1
TERRITORY_CONTROL: Final = 2
LPS_EARLY: Final = 3
LPS_ROUNDS: Final = 4
STALEMATE_TERRITORY: Final = 5
STALEMATE_ELIMINATED: Final = 6
STALEMATE_MARKERS: Final = 7
STALEMATE_LAST_ACTOR: Final = 8
RESIGNATION: Final = 9
TIMEOUT: Final = 10

# Pie rule (rules §14).
SWAP_OFF: Final = 0
SWAP_OPEN: Final = 1
SWAP_DECLINED: Final = 2
SWAP_TAKEN: Final = 3

# Groups of bit rows, each of `width` words; the last four are scratch.
ROWS_MARKERS: Final = 0  # + seat - 1
ROWS_STACKS: Final = 4  # + seat - 1
ROWS_COLLAPSED: Final = 8
ROWS_COMPONENT: Final = 9
ROWS_REST: Final = 10
ROWS_BORDER: Final = 11
ROWS_PAYERS: Final = 12
ROW_GROUPS: Final = 13

# Header of a geometry table.
T_WIDTH: Final = 0  # squares in a padded row
T_SIZE: Final = 1  # rows of the board
T_SQUARES: Final = 2  # squares of the padded board
T_CELLS: Final = 3
T_DIRECTIONS: Final = 4
T_AXES: Final = 5
T_HEX: Final = 6
T_SPREAD: Final = 7  # border markers spread (rules §11.5)
T_WIDE: Final = 8  # a second ring word for each square
T_RINGS: Final = 9  # ring word of a square, as an offset from the square
T_ROWS: Final = 10  # first bit row
T_STATE_WORDS: Final = 11
T_PLAYERS: Final = 12
T_SUPPLY: Final = 13
T_LINE: Final = 14  # L of rules §2.2
T_DETECT: Final = 15  # D
T_RECOVERY: Final = 16  # B
T_ELIMINATION_WIN: Final = 17
T_TERRITORY_WIN: Final = 18
T_LPS_ROUNDS: Final = 19
T_SWAP: Final = 20
T_REACH: Final = 21  # longest distance along a ray
T_PLANE_LINE: Final = 22
T_PLANE_SEGMENT: Final = 23
T_PLANE_REGION: Final = 24
T_PLANE_ELIMINATE: Final = 25
T_PLANE_SKIP: Final = 26
T_PLANE_NOTHING: Final = 27
T_PLANE_SWAP: Final = 28
PLANE_MOVE: Final = 3  # after the three placement planes
# Tables behind the header, at places that hold the largest board.
T_STEP: Final = 32  # [8] square step of each ray direction
T_AXIS: Final = 40  # [4] square step of each line axis
T_SLIDE_AXIS: Final = 44  # [4] the same axes in the order that recovery tries them (rules §9.2)
T_BOARD: Final = 48  # [27] bits of the cells of each padded row
T_SQUARE: Final = 80  # [469] square of a cell
T_CELL: Final = 560  # [781] cell of a square, -1 on the rim
T_ROW: Final = 1344  # [781] padded row of a square
T_BIT: Final = 2128  # [781] bit of a square in its row
TABLE_WORDS: Final = 2912
