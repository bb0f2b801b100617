"""What the agent's own files and the jobs' processes may use, and the agent's rhythms."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Set once at start, from settings and from what the machine has."""

    cpus: int  # threads that a runner may use at most
    threads: int  # of one job; 0 = as many CPUs as it requires
    memory_mb: int  # of one runner with its children; 0 = not watched
    disk_bytes: int
    floor_bytes: int
    backend: str = "auto"  # what computes nets
    canary: str = ""  # "module:function" that a runner calls before its first job
    tick_s: float = 0.1
    watch_s: float = 0.5
    beat_s: float = 1.0
    answer_s: float = 10.0  # a renewal that takes longer counts as unanswered
    farewell_s: float = 15.0  # for what an earlier run left in the spool
