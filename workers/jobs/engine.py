"""What job kinds share in calling the engine: imports when first needed, threads, players, versions, times."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from typing import TYPE_CHECKING, Any

from workers.jobs.context import JobError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from workers.jobs.context import Context
    from workqueue.schema import PlayerSpec


def load(name: str) -> Any:
    """Import a module of the engine; one that cannot be imported is the machine's fault."""
    try:
        return importlib.import_module(f"engine.{name}")
    except ImportError as error:
        raise JobError("runner.unusable", f"engine.{name} cannot be imported: {error}", fault="node") from error


def begin(context: Context, rules_version: str) -> None:
    """Refuse a job for other rules, and give libraries that are loaded the job's threads."""
    installed = str(load("rules").RULES_VERSION)
    if rules_version and rules_version != installed:
        raise JobError("version.mismatch", f"the job is for rules {rules_version}, not {installed}", fault="node")
    if numba := sys.modules.get("numba"):
        numba.set_num_threads(min(context.threads, numba.config.NUMBA_NUM_THREADS))
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(context.threads)


@contextlib.contextmanager
def computing(context: Context) -> Iterator[None]:
    """Have nets computed as this worker computes them; a runtime that cannot do it is the machine's fault."""
    inference = load("nets.inference")
    inference.use(context.backend)
    try:
        yield
    except inference.InferenceError as error:
        raise JobError("runner.unusable", f"nets cannot be computed here: {error}", fault="node") from error


def rules_version() -> str:
    """The installed rules."""
    return str(load("rules").RULES_VERSION)


def player(context: Context, spec: PlayerSpec, board: str, players: int, variant: str) -> Any:
    """Make a player of the engine, with its weights fetched."""
    where = load("rules.geometry").geometry(board, players, variant)
    module = load("players.player")
    try:
        return module.make(player_config(spec), where, model(context, spec.model), context.device)
    except (ValueError, load("nets.store").ModelError) as error:
        raise JobError("player.unusable", f"player {spec.key} cannot be made: {error}") from error


def player_config(spec: PlayerSpec) -> Any:
    """Return the engine's description of a player."""
    return load("players.player").PlayerConfig(
        kind=spec.kind,
        simulations=spec.simulations,
        depth=spec.depth,
        temperature=spec.temperature_milli / 1000,
        mix=tuple((share / 1000, player_config(part)) for share, part in spec.mix),
    )


def weights(context: Context, sha256: str) -> Path | None:
    """Fetch weights, None for a player without a net."""
    return context.fetch(sha256) if sha256 else None


def model(context: Context, sha256: str) -> Path | None:
    """Fetch a net; one whose planes or moves mean other things than here is for a worker of another build."""
    path = weights(context, sha256)
    if path:
        store = load("nets.store")
        try:
            manifest = store.read_manifest(path.read_bytes())
        except store.ModelError:
            return path  # whoever reads it says what is wrong with it
        theirs, ours = (manifest.rules_version, manifest.encoder), (rules_version(), str(load("nets.encoder").ENCODER))
        if theirs != ours:
            raise JobError(
                "version.mismatch",
                f"model {sha256[:12]} is for rules {theirs[0]} and layout {theirs[1]}, this worker has {ours[0]} and "
                f"{ours[1]}; install the build that the cluster runs",
                fault="node",
            )
    return path


def milli(value: float) -> int:
    """Thousandths, rounded; what is no number becomes 0."""
    return round(value * 1000) if value == value and abs(value) < 1e12 else 0


def stop_after(context: Context, max_seconds: int) -> tuple[Callable[[], bool], Callable[[], bool]]:
    """(whether to stop, whether the time alone is over)."""
    start = time.monotonic()

    def late() -> bool:
        return bool(max_seconds) and time.monotonic() - start >= max_seconds

    return lambda: context.should_stop() or late(), late


def tell(context: Context) -> Callable[[dict[str, object]], None]:
    """Progress as the engine tells it."""
    return lambda values: context.progress(**values)
