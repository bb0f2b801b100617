"""Open kinds: jobs of any program, their payloads and results checked against the JSON schemas of their kind."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import referencing
from jsonschema.validators import validator_for

from workqueue.stream import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA_BYTES_MAX = 64 << 10


class SchemaMismatch(ValueError):
    """A payload, a result or a schema that cannot be used; says where and why."""


@functools.lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    tree = msgspec.json.decode(schema)
    # An empty registry: a reference to another host is an error, never a request.
    return validator_for(tree, default=jsonschema.Draft202012Validator)(tree, registry=referencing.Registry())


def check_schema(schema: str) -> None:
    """Refuse what is not a JSON schema; raises SchemaMismatch."""
    if len(schema.encode(errors="replace")) > SCHEMA_BYTES_MAX:
        raise SchemaMismatch(f"a schema may have {SCHEMA_BYTES_MAX} bytes at most")
    try:
        tree = msgspec.json.decode(schema)
        validator_for(tree, default=jsonschema.Draft202012Validator).check_schema(tree)
    except msgspec.DecodeError as error:
        raise SchemaMismatch(f"the schema is not JSON: {error}") from error
    except (jsonschema.SchemaError, TypeError, AttributeError) as error:
        raise SchemaMismatch(f"not a JSON schema: {getattr(error, 'message', error)}") from error


def check(schema: str, value: object, what: str) -> None:
    """Refuse a value that does not fit its kind's schema; raises SchemaMismatch."""
    if schema in {"", "{}"}:
        return
    try:
        error = next(iter(_validator(schema).iter_errors(value)), None)
    except (referencing.exceptions.Unresolvable, RecursionError) as unusable:
        raise SchemaMismatch(f"the schema of {what} cannot be used: {unusable}") from unusable
    if error is not None:
        raise SchemaMismatch(f"{what} does not fit its schema at {error.json_path}: {error.message[:300]}")


def plain(raw: msgspec.Raw, what: str) -> object:
    """Return msgpack as plain values; raises SchemaMismatch for bytes that are not."""
    try:
        return msgspec.msgpack.decode(raw)
    except UNREADABLE as error:
        raise SchemaMismatch(f"{what} cannot be read: {error}") from error


def with_schema(kinds: Iterable[Mapping[str, Any]], field: str) -> dict[str, str]:
    """Return the schemas by kind, of the kinds that have one."""
    return {str(kind["name"]): str(kind[field]) for kind in kinds if kind.get(field, "{}") not in {"", "{}"}}
