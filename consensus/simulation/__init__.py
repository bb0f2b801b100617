"""Five real voters on a simulated clock, network and disk; the same seed gives the same run, to the last event.

`World(seed).run()` injects faults, checks the safety properties of Raft (Ongaro & Ousterhout 2014, figure 3) after
every event, heals everything and checks that the voters converge. It raises `Violation` otherwise.
"""

from consensus.simulation.checks import Violation
from consensus.simulation.world import Report, World

__all__ = ["Report", "Violation", "World"]
