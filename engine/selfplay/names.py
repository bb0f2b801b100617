"""Who plays in self-play, as people write it."""

from __future__ import annotations

from pathlib import Path

from engine.players.names import key_of
from engine.players.player import PlayerConfig
from engine.selfplay.spec import ENGINES, WITH_NET


def player_of(engine: str, weights: Path | None, simulations: int, mix: str = "") -> tuple[PlayerConfig, str]:
    """Return the player and its key; without an engine gumbel where there are weights, the heuristic else.

    Raises ValueError for one that does not exist or lacks what it needs.
    """
    engine = engine or ("mixed" if mix else "gumbel" if weights else "heuristic")
    if engine not in ENGINES:
        raise ValueError(f"there is no engine {engine!r}: choose one of {', '.join(ENGINES)}")
    if engine in WITH_NET and weights is None:
        raise ValueError(f"{engine} self-play needs the weights of a net: name a model.safetensors with --weights")
    if engine not in WITH_NET and weights is not None:
        raise ValueError(f"{engine} plays without weights: leave --weights out, or choose another engine")
    if mix and engine != "mixed":
        raise ValueError(f"a mix is for the engine mixed, not for {engine}")
    config = PlayerConfig(
        engine, simulations if engine in ("gumbel", "mcts", "mixed") else 0, mix=_mix(mix) if mix else ()
    )
    return config, key_of(config, weights)


def _mix(text: str) -> tuple[tuple[float, PlayerConfig], ...]:
    parts = []
    for part in text.split("+"):
        share, star, name = part.partition("*")
        try:
            parts.append((float(share) if star else 1.0, PlayerConfig((name if star else part).strip())))
        except ValueError as error:
            raise ValueError(f"mix {text!r}: {share!r} is no share; write 0.6*gumbel+0.4*heuristic") from error
    return tuple(parts)
