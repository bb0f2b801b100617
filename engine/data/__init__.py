"""Shards of games: reading, checking, statistics, export and import."""

from engine.data.check import Verified, verify
from engine.data.flat import export

__all__ = ["Verified", "export", "verify"]
