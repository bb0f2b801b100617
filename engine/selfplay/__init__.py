"""Self-play: many games side by side, written as shards while they finish."""

from engine.selfplay.run import Selfplay, play
from engine.selfplay.spec import ENGINES, TEMPERATURES, SelfplaySpec, SelfplaySummary, ShardInfo, temperature_at

__all__ = [
    "ENGINES",
    "TEMPERATURES",
    "Selfplay",
    "SelfplaySpec",
    "SelfplaySummary",
    "ShardInfo",
    "play",
    "temperature_at",
]
