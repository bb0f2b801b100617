"""The difficulty ladder, D1 to D10: from random play to the net with a deep search.

D1 to D7 need no net. Each step was measured to beat the one below it (`python -m benchmarks.ladder`).
"""

from __future__ import annotations

from engine.players.player import WITH_NET, PlayerConfig

RANDOM, HEURISTIC = PlayerConfig("random"), PlayerConfig("heuristic")
LEVELS: dict[int, PlayerConfig] = {
    1: RANDOM,
    2: PlayerConfig("mixed", mix=((0.6, RANDOM), (0.4, HEURISTIC))),
    3: PlayerConfig("mixed", mix=((0.3, RANDOM), (0.7, HEURISTIC))),
    4: HEURISTIC,
    5: PlayerConfig("flat_mc", simulations=4),
    6: PlayerConfig("flat_mc", simulations=16),
    7: PlayerConfig("search", simulations=128),
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
        return " + ".join(f"{100 * share:.0f} % {part.kind}" for share, part in config.mix)
    names = {"gumbel": "net with search", "search": "search without a net", "flat_mc": "random games for each move"}
    name = names.get(config.kind, config.kind)
    unit = "of them" if config.kind == "flat_mc" else "positions"
    return f"{name}, {config.simulations} {unit}" if config.simulations else name
