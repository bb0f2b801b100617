"""The difficulty ladder, D1 to D10: from random play to the net with a deep search.

D1 to D7 need no net; `python -m benchmarks.ladder` measures every step against the one below.
"""

from __future__ import annotations

from engine.players.player import WITH_NET, PlayerConfig

RANDOM, HEURISTIC = PlayerConfig("random"), PlayerConfig("heuristic")
TWO, THREE = PlayerConfig("alphabeta", depth=2), PlayerConfig("alphabeta", depth=3)
LEVELS: dict[int, PlayerConfig] = {
    1: RANDOM,
    2: PlayerConfig("mixed", mix=((0.7, RANDOM), (0.3, HEURISTIC))),
    3: PlayerConfig("mixed", mix=((0.4, RANDOM), (0.6, HEURISTIC))),
    4: HEURISTIC,
    5: TWO,
    6: PlayerConfig("mixed", mix=((0.5, TWO), (0.5, THREE))),
    7: THREE,
    8: PlayerConfig("gumbel", simulations=16),
    9: PlayerConfig("gumbel", simulations=64),
    10: PlayerConfig("gumbel", simulations=400),
}
WITHOUT_NET = max(level for level, config in LEVELS.items() if config.kind not in WITH_NET)


def level_config(level: int, *, with_net: bool) -> PlayerConfig:
    """Return the player of a level; raises ValueError for one that does not exist or needs a net."""
    if level not in LEVELS:
        raise ValueError(f"there is no level {level}: choose 1 to {max(LEVELS)}")
    if LEVELS[level].kind in WITH_NET and not with_net:
        raise ValueError(f"level {level} plays with a net: name one with --model, or choose 1 to {WITHOUT_NET}")
    return LEVELS[level]


def describe(level: int) -> str:
    """Return what plays at a level."""
    config = LEVELS[level]
    if config.mix:
        return " + ".join(f"{100 * share:.0f} % {_words(part)}" for share, part in config.mix)
    return _words(config)


def _words(config: PlayerConfig) -> str:
    match config.kind:
        case "gumbel":
            return f"net with search, {config.simulations} positions"
        case "alphabeta":
            return f"heuristic, {config.depth} decisions ahead"
        case "heuristic":
            return "heuristic, 1 decision ahead"
        case _:
            return config.kind
