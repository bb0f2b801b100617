"""End of a turn and of the game (rules §13, §15)."""

from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.movement import any_placement, real_action


@kernel
def material(s: Words, player: int) -> bool:
    """Whether the player has a ring in hand or in any stack (rules §3.7)."""
    return bool(s[lay.HAND + player - 1] > 0 or s[lay.ON_BOARD + player - 1] > 0)


@kernel
def finish(s: Words, winner: int, reason: int) -> None:
    """End the game; the turn variables of a finished game are clear (rules §4.6)."""
    s[lay.WINNER] = winner
    s[lay.REASON] = reason
    s[lay.PHASE] = lay.OVER
    s[lay.PLAYER] = winner
    s[lay.MUST_MOVE] = 0
    s[lay.CHAIN] = 0
    s[lay.PENDING] = lay.DUE_NOTHING
    s[lay.ACTED] = 0
    s[lay.RECOVERED] = 0
    s[lay.CARRIED] = 0
    s[lay.REGIONS] = lay.UNKNOWN
    s[lay.SLIDE] = 0


@kernel
def score(s: Words, player: int) -> int:
    """Elimination score: rings eliminated and rings in hand (rules §13.6)."""
    return int(s[lay.ELIMINATED + player - 1] + s[lay.HAND + player - 1])


@kernel
def rung(s: Words, player: int, which: int) -> int:
    """What a player has on a rung of the stalemate ladder: territory, elimination score, markers."""
    if which == 0:
        return int(s[lay.TERRITORY + player - 1])
    if which == 1:
        return score(s, player)
    return int(s[lay.MARKERS + player - 1])


@kernel
def stalemate(s: Words, last_actor: int) -> None:
    """Decide a game without stacks and placements by the ladder (rules §13.6)."""
    players = int(s[lay.PLAYERS])
    for which in range(3):
        best = 0
        leader = 0
        for player in range(1, players + 1):
            value = rung(s, player, which)
            if value > best:
                best = value
                leader = player
            elif value == best:
                leader = 0
        if leader:
            finish(s, leader, lay.STALEMATE_TERRITORY + which)
            return
    winner = last_actor
    if winner == 0:
        winner = (int(s[lay.PLAYER]) - 2) % players + 1
    finish(s, winner, lay.STALEMATE_LAST_ACTOR)


@kernel
def sole_survivor(s: Words) -> int:
    """The player who controls all stacks while nobody else has any ring (rules §13.4), 0 for none."""
    found = 0
    for player in range(1, int(s[lay.PLAYERS]) + 1):
        if material(s, player):
            if found:
                return 0
            found = player
    return found if found and s[lay.STACKS + found - 1] > 0 else 0


@kernel
def decide_victory(s: Words, t: Words, last_actor: int) -> bool:
    """Run the end-of-turn tests in order (rules §13.1); return whether the game is over."""
    players = int(s[lay.PLAYERS])
    total = 0
    controllers = 0
    for player in range(1, players + 1):
        if s[lay.ELIMINATED + player - 1] >= t[lay.T_ELIMINATION_WIN]:
            finish(s, player, lay.RING_ELIMINATION)
            return True
        total += s[lay.TERRITORY + player - 1]
        if s[lay.STACKS + player - 1] > 0:
            controllers += 1
    for player in range(1, players + 1):
        own = int(s[lay.TERRITORY + player - 1])
        if own >= t[lay.T_TERRITORY_WIN] and 2 * own > total:
            finish(s, player, lay.TERRITORY_CONTROL)
            return True
    survivor = sole_survivor(s)
    if survivor:
        finish(s, survivor, lay.LPS_EARLY)
        return True
    if controllers == 0:
        for player in range(1, players + 1):
            if any_placement(s, t, player):
                return False
        stalemate(s, last_actor)
        return True
    return False


@kernel
def exclusive_seat(s: Words) -> int:
    """The only seat with material whose mask is yes, 0 if none or several."""
    found = 0
    for player in range(1, int(s[lay.PLAYERS]) + 1):
        if material(s, player) and (s[lay.LPS_MASK] >> (2 * (player - 1))) & 3 == 2:
            if found:
                return 0
            found = player
    return found


@kernel
def close_round(s: Words) -> None:
    """Score a complete round of last-player-standing (rules §13.5 step 3)."""
    seat = exclusive_seat(s)
    s[lay.LPS_EXCLUSIVE] = seat
    if seat == 0:
        s[lay.LPS_COUNT] = 0
        s[lay.LPS_HOLDER] = 0
    elif seat == s[lay.LPS_HOLDER]:
        s[lay.LPS_COUNT] += 1
    else:
        s[lay.LPS_HOLDER] = seat
        s[lay.LPS_COUNT] = 1
    s[lay.LPS_ROUND] += 1
    s[lay.LPS_MASK] = 0


@kernel
def track_standing(s: Words, t: Words) -> None:
    """Last-player-standing bookkeeping and test at a turn's start (rules §13.5)."""
    player = int(s[lay.PLAYER])
    first = int(s[lay.LPS_FIRST])
    if first == 0 or not material(s, first):
        s[lay.LPS_ROUND] += 1
        s[lay.LPS_FIRST] = player
        s[lay.LPS_MASK] = 0
        s[lay.LPS_EXCLUSIVE] = 0
        if s[lay.LPS_HOLDER] == 0 or not material(s, int(s[lay.LPS_HOLDER])):
            s[lay.LPS_COUNT] = 0
            s[lay.LPS_HOLDER] = 0
    elif player == first and s[lay.LPS_MASK] != 0:
        close_round(s)
    real = real_action(s, t, player)
    seen = 2 if real else 1
    shift = 2 * (player - 1)
    s[lay.LPS_MASK] = (int(s[lay.LPS_MASK]) & ~(3 << shift)) | seen << shift
    if s[lay.LPS_COUNT] >= t[lay.T_LPS_ROUNDS] and s[lay.LPS_HOLDER] == player and real:
        for other in range(1, int(s[lay.PLAYERS]) + 1):
            if other != player and material(s, other) and real_action(s, t, other):
                return
        finish(s, player, lay.LPS_ROUNDS)


@kernel
def end_turn(s: Words, t: Words, last_actor: int) -> None:
    """Test for victory, then hand the turn to the next seat with material (rules §4.6)."""
    if decide_victory(s, t, last_actor):
        return
    players = int(s[lay.PLAYERS])
    player = int(s[lay.PLAYER])
    following = player
    for k in range(1, players + 1):
        following = (player - 1 + k) % players + 1
        if material(s, following):
            break
    if following == player:
        if s[lay.ACTED]:
            s[lay.CARRIED] |= lay.CARRIED_ACTED
        if s[lay.RECOVERED]:
            s[lay.CARRIED] |= lay.CARRIED_RECOVERED
    else:
        s[lay.CARRIED] = 0
    s[lay.PLAYER] = following
    s[lay.PHASE] = lay.PLACEMENT
    s[lay.MUST_MOVE] = 0
    s[lay.CHAIN] = 0
    s[lay.PENDING] = lay.DUE_NOTHING
    s[lay.ACTED] = 0
    s[lay.RECOVERED] = 0
    s[lay.REGIONS] = lay.UNKNOWN
    track_standing(s, t)


@kernel
def ahead(s: Words, a: int, b: int) -> bool:
    """Whether seat a ranks before seat b in a finished game (rules §13.7)."""
    if s[lay.WINNER] == a or s[lay.WINNER] == b:
        return bool(s[lay.WINNER] == a)
    for which in range(3):
        x = rung(s, a, which)
        y = rung(s, b, which)
        if x != y:
            return bool(x > y)
    return bool(s[lay.OUT_AT + a - 1] > s[lay.OUT_AT + b - 1])
