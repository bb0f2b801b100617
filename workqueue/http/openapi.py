"""`/v1/openapi.json`: OpenAPI 3.1, generated from the table of endpoints and the types of commands and outcomes."""

from __future__ import annotations

import functools
import operator
import re
import types
import typing
from typing import Any

import msgspec
from aiohttp import web

from workqueue.http.context import FrontContext
from workqueue.http.endpoints import ENDPOINTS, Endpoint
from workqueue.http.extra import ARTIFACT_PATHS, EXTRA_PATHS, HEALTH_PATHS
from workqueue.http.problem import MEDIA_TYPE, STATUS_OF_CODE
from workqueue.machine.commands import Claim
from workqueue.machine.outcomes import Empty, Outcome

_REF = "#/components/schemas/{name}"
_SEGMENT = re.compile(r"\{(\w+)\}")
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "What programs may rely on."},
        "detail": {"type": "string", "description": "A sentence that says what to do."},
        "retry_ms": {"type": "integer"},
        "current": {"type": "string"},
    },
}


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    kinds: list[Any] = [Empty]
    for endpoint in ENDPOINTS:
        kinds += [kind for kind in (endpoint.command, endpoint.answer) if kind]
    _, schemas = msgspec.json.schema_components([_plain(kind) for kind in kinds], ref_template=_REF)
    for endpoint in ENDPOINTS:
        if endpoint.command:
            schemas[endpoint.command.__name__]["additionalProperties"] = False
    schemas["Claim"]["properties"]["wait_ms"] = {"type": "integer", "minimum": 0, "maximum": 60_000, "default": 0}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    for path, operations in (EXTRA_PATHS | ARTIFACT_PATHS | HEALTH_PATHS).items():
        paths.setdefault(path, {}).update(operations)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Riftq",
            "version": "1",
            "description": "The work queue of a Riftq cluster. Any voter answers; a write goes to the leader.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {**schemas, "Problem": _PROBLEM},
        },
    }


@functools.cache
def _plain(kind: Any) -> Any:
    """Return the type with `Any` in place of raw msgpack, which the schema generator cannot describe."""
    if kind is msgspec.Raw:
        return Any
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = []
        for field in msgspec.structs.fields(kind):
            default = msgspec.NODEFAULT if field.required else _default(field)
            fields.append((field.name, _plain(field.type), msgspec.field(default=default)))
        tag = "type" if issubclass(kind, Outcome) else None  # a command's is in the path
        described = {"__doc__": kind.__doc__}
        return msgspec.defstruct(
            kind.__name__, fields, namespace=described, kw_only=True, tag=bool(tag) or None, tag_field=tag
        )
    arguments = typing.get_args(kind)
    if not arguments:
        return kind
    plain = tuple(each if each is Ellipsis else _plain(each) for each in arguments)
    origin = typing.get_origin(kind)
    return functools.reduce(operator.or_, plain) if origin is types.UnionType else origin[plain]


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is msgspec.NODEFAULT:
        return msgspec.NODEFAULT if field.default_factory is msgspec.NODEFAULT else None
    if isinstance(field.default, msgspec.Raw):
        return msgspec.msgpack.decode(field.default)
    return msgspec.to_builtins(field.default)


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.about,
        "description": f"Needs the role `{endpoint.role}`.",
        "responses": {"200": _answer(endpoint), "default": problem_response()},
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _SEGMENT.findall(endpoint.path)
    ]
    for param in endpoint.params:
        schema = {"type": "integer", "minimum": 0} if param.kind is int else {"type": "string"}
        parameters.append({"name": param.name, "in": "query", "schema": schema, "description": param.about})
    if endpoint.view:
        modes = {"type": "string", "enum": ["auto", "linear", "stale"], "default": "auto"}
        about = "linear: as of now, from the leader; stale: this voter's own; auto: linear while there is a leader"
        parameters.append({"name": "consistency", "in": "query", "schema": modes, "description": about})
    if endpoint.command:
        schema = {"$ref": _REF.format(name=endpoint.command.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        about = "Repeating a request with the same key answers the first outcome again."
        key = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 200}}
        parameters.append({**key, "description": about})
    if parameters:
        operation["parameters"] = parameters
    return operation


def _answer(endpoint: Endpoint) -> dict[str, Any]:
    if not endpoint.answer:
        headers = {name: {"schema": {"type": "string"}} for name in ("Rift-Index", "Rift-Age-Ms", "Rift-Stale")}
        return {"description": "The view.", "headers": headers, "content": {"application/json": {"schema": {}}}}
    schema: dict[str, Any] = {"$ref": _REF.format(name=endpoint.answer.__name__)}
    if endpoint.command is Claim:
        schema = {"oneOf": [schema, {"$ref": _REF.format(name="Empty")}]}
    return {"description": "The outcome.", "content": {"application/json": {"schema": schema}}}


def problem_response() -> dict[str, Any]:
    """Return the description of every error."""
    codes = ", ".join(f"{code.value} ({status})" for code, status in STATUS_OF_CODE.items())
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}}
    return {"description": f"A problem; codes of refusals: {codes}.", "content": content}


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the route of the document."""
    del context
    body = msgspec.json.encode(document())

    async def show(request: web.Request) -> web.Response:
        del request
        return web.Response(body=body, content_type="application/json")

    return [web.get("/v1/openapi.json", show)]
