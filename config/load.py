"""Read a settings file: YAML, then environment, then flags; unknown keys are refused with path and near match."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, TypeVar

import msgspec
import yaml

from config.cluster import Section
from config.errors import ConfigError
from config.removed import explain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

S = TypeVar("S", bound=Section)
PREFIX = "RIFT_"
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]+)`(?: - at `\$\.?(?P<at>[^`]*)`)?")


def load(kind: type[S], path: Path, overrides: Mapping[str, object] | None = None) -> S:
    """Return the settings in `path`, `RIFT_<KEY>` variables and `overrides` laid over; raises ConfigError."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(str(path), f"is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(str(path), "must be a map of keys to values")
    tree.update(_environment(kind))
    tree.update(overrides or {})
    return convert(kind, tree, str(path))


def convert(kind: type[S], tree: object, where: str) -> S:
    """Check `tree` against `kind`."""
    try:
        return msgspec.convert(tree, kind, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(where, _explain(kind, str(error))) from error


def _environment(kind: type[S]) -> dict[str, str]:
    names = {PREFIX + field.upper(): field for field in kind.__struct_fields__}
    return {names[name]: value for name, value in os.environ.items() if name in names}


def _explain(kind: type[Section], message: str) -> str:
    found = _UNKNOWN.search(message)
    if not found:
        return message
    at = (found["at"] or "").strip(".")
    full = f"{at}.{found['field']}" if at else found["field"]
    if sentence := explain(full):
        return sentence
    near = difflib.get_close_matches(found["field"], _fields(kind), n=1)
    return f"unknown key `{full}`" + (f"; did you mean `{near[0]}`?" if near else "")


def _fields(kind: type[Section]) -> set[str]:
    names: set[str] = set()
    for field in msgspec.structs.fields(kind):
        names.add(field.name)
        parts = (field.type, *getattr(field.type, "__args__", ()))
        for part in parts:
            if isinstance(part, type) and issubclass(part, Section):
                names |= _fields(part)
    return names
