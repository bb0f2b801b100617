"""Players as people write them, and the keys that ratings are kept for.

`random`, `heuristic:t1.5`, `flat_mc:s64`, `alphabeta:d3`, `search:s128`, `level:3`, a file of weights
(`model.safetensors:s32`, `policy@model.safetensors`), and `mixed:0.3*random+0.7*heuristic`. After the colon: `s`
simulations or random games, `d` depth, `t` temperature.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.nets.store import digest
from engine.players.ladder import level_config
from engine.players.player import KINDS, WITH_NET, PlayerConfig

EXAMPLES = "random, heuristic, flat_mc:s64, alphabeta:d2, search:s64, level:3, or a model.safetensors"


class Named(msgspec.Struct, frozen=True):
    """A player that was named: how it reads, what it is, its weights, and its key in a match log."""

    text: str
    config: PlayerConfig
    weights: Path | None
    key: str


def parse(text: str, model: Path | None = None) -> Named:
    """Return the player of a text; `model` are the weights for a level that needs some. Raises ValueError."""
    if text.startswith("level"):
        return _level(text, model)
    head, _, tail = text.partition(":")
    if head == "mixed":
        return _mixed(text, tail, model)
    kind, weights = _kind(head, text)
    found = {"s": 0.0, "d": 0.0, "t": 0.0}
    for part in filter(None, tail.split(":")):
        number = _number(part[1:])
        if part[0] not in found or number is None or (part[0] in "sd" and (number < 1 or number % 1)):
            raise ValueError(
                f"player {text!r}: {part!r} is not s (simulations), d (depth) or t (temperature) and a number"
            )
        found[part[0]] = number
    simulations, depth, temperature = int(found["s"]), int(found["d"]), found["t"]
    if kind == "alphabeta":
        depth = depth or 2
    config = PlayerConfig(kind, simulations, depth, temperature)
    return Named(text, config, weights, key_of(config, weights))


def _number(digits: str) -> float | None:
    try:
        number = float(digits)
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def _kind(head: str, text: str) -> tuple[str, Path | None]:
    kind, at, name = head.rpartition("@")
    if name.endswith(".safetensors"):
        path = Path(name)
        if at and kind not in WITH_NET:
            raise ValueError(f"player {text!r}: {kind} plays without weights; before the @ write gumbel or policy")
        if not path.is_file():
            raise ValueError(f"player {text!r}: there is no file {path}")
        return kind or "gumbel", path
    if head not in KINDS:
        raise ValueError(f"there is no player {text!r}; write {EXAMPLES}")
    if head in WITH_NET:
        raise ValueError(f"player {text!r}: name the weights, as in {head}@model.safetensors")
    return head, None


def _level(text: str, model: Path | None) -> Named:
    digits = text.removeprefix("level").removeprefix(":")
    if not digits.isdigit():
        raise ValueError(f"player {text!r}: write level:1 to level:10")
    config = level_config(int(digits), with_net=model is not None)
    weights = model if config.kind in WITH_NET else None
    return Named(text, config, weights, key_of(config, weights))


def _mixed(text: str, tail: str, model: Path | None) -> Named:
    parts = []
    for part in tail.split("+"):
        share, star, name = part.partition("*")
        weight = _number(share) if star else 1.0
        if not weight:
            raise ValueError(f"player {text!r}: {share!r} is no share; write mixed:0.3*random+0.7*heuristic")
        parts.append((weight, parse(name if star else part, model)))
    files = {named.weights for _, named in parts if named.weights}
    if len(files) > 1:
        raise ValueError(f"player {text!r}: its players can share one net, not {len(files)}")
    config = PlayerConfig("mixed", mix=tuple((weight, named.config) for weight, named in parts))
    weights = next(iter(files), None)
    return Named(text, config, weights, key_of(config, weights))


def key_of(config: PlayerConfig, weights: Path | None) -> str:
    """Return the key in a match log: `model-or-none:kind:budget`, with a temperature if there is one."""
    budget = f"s{config.simulations}" if config.simulations else f"d{config.depth}" if config.depth else "-"
    if config.mix:
        parts = (f"{share:g}*{key_of(part, None).removeprefix('none:')}" for share, part in config.mix)
        budget = "+".join(parts) + (f":s{config.simulations}" if config.simulations else "")
    heat = f":t{round(config.temperature * 1000)}" if config.temperature else ""
    model = digest(weights.read_bytes()) if weights else "none"
    return f"{model}:{config.kind}:{budget}{heat}"
