"""A progress bar for what the engine reports while it works."""

from __future__ import annotations

from collections.abc import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

HIDDEN = {"done", "total", "left_s", "left_out"}


def progress() -> Progress:
    """Return a bar with counts and the time left."""
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def bar(shown: Progress, name: str, total: int) -> Callable[[dict[str, object]], None]:
    """Return a function that shows what is reported."""
    task = shown.add_task(name, total=total)

    def show(values: dict[str, object]) -> None:
        words = "  ".join(f"{k} {v}" for k, v in values.items() if k not in HIDDEN)
        shown.update(task, completed=int(str(values["done"])), description=f"{name}  {words}")

    return show
