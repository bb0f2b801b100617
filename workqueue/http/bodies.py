"""JSON bodies as commands: decoded, checked against the command's type, refused with the field's path."""

from __future__ import annotations

import asyncio
import difflib
import typing
from typing import TYPE_CHECKING, Any

import msgspec

from workqueue.http.problem import Problem

if TYPE_CHECKING:
    from aiohttp import web

_DEPTH_MAX = 32
BODY_S = 30.0


async def read_body(request: web.Request) -> bytes:
    """Return the body; raises Problem(408) when it comes too slowly."""
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError as error:
        raise Problem(408, "slow", f"the body did not arrive within {BODY_S:.0f} s; send it at once") from error


def decode_json(body: bytes) -> Any:
    """Return the JSON value; raises Problem(400)."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "malformed", f"the body is not JSON: {error}") from error
    if _depth(value) > _DEPTH_MAX:
        raise Problem(400, "malformed", f"the body is nested deeper than {_DEPTH_MAX} levels")
    return value


def to_command(kind: type[msgspec.Struct], fields: dict[str, Any]) -> Any:
    """Return the command that the fields make; raises Problem(422) that names what is wrong."""
    unknown = unknown_field(kind, fields)
    if unknown:
        raise Problem(422, "invalid", unknown)
    try:
        encoded = msgspec.msgpack.encode({"type": kind.__name__, **fields})
        return msgspec.msgpack.decode(encoded, type=kind)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid", str(error)) from error
    except (msgspec.DecodeError, OverflowError, UnicodeError, ValueError, TypeError) as error:
        raise Problem(422, "invalid", f"a value cannot be used: {error}") from error


def unknown_field(kind: Any, tree: Any, path: str = "$") -> str:
    """Return a sentence about the first field that `kind` does not have, "" when all are known."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not isinstance(tree, dict):
            return ""
        known = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        for name, value in tree.items():
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                return f"unknown field `{name}` at {path}" + (f"; did you mean `{near[0]}`?" if near else "")
            if found := unknown_field(known[name], value, f"{path}.{name}"):
                return found
        return ""
    if typing.get_origin(kind) is tuple and isinstance(tree, list) and typing.get_args(kind)[-1:] == (Ellipsis,):
        inner = typing.get_args(kind)[0]
        for index, value in enumerate(tree):
            if found := unknown_field(inner, value, f"{path}[{index}]"):
                return found
    return ""


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level and depth <= _DEPTH_MAX:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth
