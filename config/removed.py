"""Keys that may no longer be set: what holds in place of each, and how settings that a log holds are read.

A cluster begins with a command that puts every key of its time into the log. Replayed, it must be accepted or refused
as it was then, so the types of removed keys stay; their values change nothing.
"""

from __future__ import annotations

import msgspec

from config.cluster import Positive
from config.loop import GateSettings, LoopSettings, Milli, SelfplaySettings

INSTEAD = {
    "ca": "the CA's certificate is certs/ca.pem beside cluster.yaml",
    "token_key": "the key is secrets/token.key beside cluster.yaml",
    "raft.election_ms_max": "it is twice raft.election_ms_min",
    "raft.snapshot_bytes": "a snapshot is taken when the log has grown by 64 MiB",
    "gossip.suspicion_mult": "suspicions wait in proportion to gossip.period_ms",
    "limits.request_bytes_max": "a request may have 8 MiB",
    "limits.requests_s_max": "20,000 requests a second are too many on one connection",
    "limits.sockets_address_max": "one address gets a third of a voter's TCP connections, one and a half times "
    "limits.connections_max",
    "selfplay.full_share_milli": "a quarter of the moves have the full budget; with simulations_fast equal to "
    "simulations_full all have",
    "gate.bootstrap_heuristic_milli": "the first champion need not beat the heuristic, which made its games",
    "gate.regression_elo": "a champion comes back when games show it 50 Elo ahead of the one after it",
    "gate.canary_games": "40 games since the promotion are needed to take it back",
    "gate.rollbacks_day_max": "after three rollbacks in a day a config is halted",
    "gate.alpha_milli": "the sequential test errs in 5 % of cases either way",
    "gate.beta_milli": "the sequential test errs in 5 % of cases either way",
}


class _Selfplay(SelfplaySettings, frozen=True):
    full_share_milli: Milli = 250


class _Gate(GateSettings, frozen=True):
    bootstrap_heuristic_milli: tuple[int, int, int] = (0, 0, 0)
    regression_elo: Positive = 50
    canary_games: Positive = 40
    rollbacks_day_max: Positive = 3
    alpha_milli: Milli = 50
    beta_milli: Milli = 50


class _Loop(LoopSettings, frozen=True):
    selfplay: _Selfplay = _Selfplay()
    gate: _Gate = _Gate()


def recorded(tree: object) -> LoopSettings:
    """Return the settings in `tree` without its removed keys; raises as if these could still be set."""
    return msgspec.convert(msgspec.convert(tree, _Loop), LoopSettings, from_attributes=True)


def explain(key: str) -> str:
    """Return a sentence about a key that is removed, empty for any other."""
    instead = INSTEAD.get(key)
    return f"`{key}` can no longer be set, leave it out: {instead}" if instead else ""
