"""The engine's parts for commands that compute on this machine.

Imported by name and when used: voters share this package, and never load the engine.
"""

from __future__ import annotations

import importlib
from typing import Any

from workqueue.cli.context import USAGE, fail


def part(name: str) -> Any:
    """Import a module of the engine; what is not installed ends the command."""
    try:
        return importlib.import_module(f"engine.{name}")
    except ModuleNotFoundError as error:
        fail(f"this needs {error.name}, which is not installed: pip install 'riftq[worker]'", USAGE)
