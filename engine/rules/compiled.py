"""The decorator of every compiled function of the engine, and the place of its compiled code.

Numba's own cache looks only at the file of the outermost function, so a change in a file it calls would leave
stale machine code behind. Compiled code is therefore kept in a folder named after the sources of all of it: every
file of the engine that imports this one.
`NUMBA_DISABLE_JIT=1` leaves every rule plain Python; `NUMBA_BOUNDSCHECK=1` checks every index.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import numba
from numba.core import config

P = ParamSpec("P")
R = TypeVar("R")


def source_digest() -> str:
    """Name the sources that are compiled: equal names compile to equal code."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        source = path.read_bytes()
        if b"engine.rules.compiled import" in source or path.stem in ("compiled", "geometry", "layout"):
            digest.update(path.as_posix().encode() + b"\0" + source)
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Place of the compiled code: under NUMBA_CACHE_DIR, or the user's cache folder."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "riftq" / "numba"
    checked = "-checked" if os.environ.get("NUMBA_BOUNDSCHECK") == "1" else ""
    return Path(chosen or home) / f"{source_digest()}{checked}"


# A setting that numba makes when it is imported, unknown to its types.
vars(config)["CACHE_DIR"] = str(cache_folder())


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function for the CPU; unchecked, so it may only see legal input."""
    compiled: Callable[P, R] = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    return compiled


def parallel_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a loop over many games for all threads."""
    compiled: Callable[P, R] = numba.njit(cache=True, error_model="numpy", parallel=True)(function)
    return compiled
