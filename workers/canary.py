"""Checks that a runner makes of itself: known positions must give the known answers before any job runs there.

Called by name in the runner, so that the agent never imports an engine. The rules are checked by the legal codes along
a fixed game, the device by a convolution whose exact value the CPU computes in double precision.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from typing import Any

from workers.jobs.context import JobError

PLIES = 80
_TOLERANCE = 1e-3
_BATCH = 64
_LEHMER = 48271  # multiplier of Park and Miller's generator (1993), modulus 2**31 - 1
_MODULUS = 2**31 - 1
KNOWN_GAME = {"1": "1a1b3f63"}  # by rules version: head of the digest of the fixed game


def check(device: str) -> dict[str, object]:
    """Raise JobError(node) when the rules or the device give wrong answers; returns the versions."""
    found = versions(device)
    digest = game_digest()
    known = KNOWN_GAME.get(str(found["rules_version"]))
    if known and not digest.startswith(known):
        raise JobError("canary.failed", f"the rules give other moves than they should (digest {digest})", fault="node")
    error = device_error(device)
    if error > _TOLERANCE:
        raise JobError("canary.failed", f"{device} computes with an error of {error:.2g}", fault="node")
    return found


def versions(device: str) -> dict[str, object]:
    """Rules version of the installed engine; raises JobError when there is none."""
    del device
    try:
        rules = importlib.import_module("engine.rules")
    except ImportError as error:
        raise JobError("canary.unusable", f"the engine cannot be imported: {error}", fault="node") from error
    return {"rules_version": str(rules.RULES_VERSION)}


def game_digest() -> str:
    """Digest of the legal codes along one fixed game of square8 for two."""
    game = _new_game("square8", 2)
    digest, chance = hashlib.sha256(), 1
    for _ in range(PLIES):
        if game.is_over:
            break
        codes = sorted(int(code) for code in game.legal_codes())
        digest.update(repr(codes).encode())
        chance = chance * _LEHMER % _MODULUS
        game.apply(codes[chance % len(codes)])
    return digest.hexdigest()


def device_error(device: str) -> float:
    """Largest relative error of a small convolution on this device."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise JobError("canary.unusable", f"torch cannot be imported: {error}", fault="node") from error
    planes = torch.sin(torch.arange(4 * 8 * 10 * 10, dtype=torch.float64)).reshape(4, 8, 10, 10)
    weights = torch.cos(torch.arange(16 * 8 * 3 * 3, dtype=torch.float64)).reshape(16, 8, 3, 3)
    exact = torch.nn.functional.conv2d(planes, weights)
    got = torch.nn.functional.conv2d(planes.float().to(device), weights.float().to(device)).cpu().double()
    return float((got - exact).abs().max() / exact.abs().max())


def measure(device: str) -> dict[str, object]:
    """Versions and rates in thousandths: random games and evaluations of a small net a second on each small board."""
    rates: dict[str, int] = {}
    for board, players in (("square8", 2), ("hex8", 2)):
        rates[f"games_s/{board}_{players}p"] = game_rate(board, players)
        rates[f"evals_s/{board}_{players}p"] = evaluation_rate(board, players, device)
    return versions(device) | {"rates": rates}


def evaluation_rate(board: str, players: int, device: str, seconds: float = 0.5) -> int:
    """Positions a second that a net of 32 channels and 4 blocks evaluates on a device, in thousandths."""
    torch, nets = importlib.import_module("torch"), importlib.import_module("engine.nets.net")
    where = importlib.import_module("engine.rules.geometry").geometry(board, players)
    net = nets.Net(where).to(device).eval()
    planes = torch.zeros((_BATCH, nets.PLANES, where.size, where.size), device=device)
    scalars = torch.zeros((_BATCH, nets.SCALARS), device=device)
    done, start = 0, 0.0
    with torch.inference_mode():
        net.answer(planes, scalars)[1].cpu()  # the first is slower
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            net.answer(planes, scalars)[1].cpu()
            done += _BATCH
    return int(1000 * done / (time.perf_counter() - start))


def game_rate(board: str, players: int, seconds: float = 0.5) -> int:
    """Random games a second by one thread, in thousandths; of one game at least, however slow the machine."""
    chance = _play(board, players, 1)  # compiles
    games, start = 0, time.perf_counter()
    while not games or time.perf_counter() - start < seconds:
        chance = _play(board, players, chance)
        games += 1
    return max(1, int(1000 * games / (time.perf_counter() - start)))


def _play(board: str, players: int, chance: int) -> int:
    """Play a random game to its end; returns where the generator stands."""
    game = _new_game(board, players)
    while not game.is_over:
        codes = game.legal_codes()
        chance = chance * _LEHMER % _MODULUS
        game.apply(int(codes[chance % len(codes)]))
    return chance


def _new_game(board: str, players: int) -> Any:
    return importlib.import_module("engine.rules.game").Game.new(board, players)
