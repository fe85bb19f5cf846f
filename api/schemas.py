"""JSON schemas of request bodies, as the OpenAPI document has them."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_NULL = {"type": "null"}
_OF_ANOTHER = {**_NULL, "description": "Of another form of body on this path: absent, or null, in this one."}


def standalone(body: type[BaseModel]) -> dict[str, Any]:
    """The schema of a body with its definitions in their places, so that it can be read by itself."""
    schema = body.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return inline(definitions[node["$ref"].rsplit("/", 1)[-1]])
            return {key: inline(value) for key, value in node.items()}
        return [inline(value) for value in node] if isinstance(node, list) else node

    inlined: dict[str, Any] = inline(schema)
    return inlined


def query_parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    """The fields of a query's model as OpenAPI's parameters; objects are JSON in it."""
    fields = form(query)["properties"]
    return [{"name": name, "in": "query", **_encoded(schema)} for name, schema in fields.items()]


def form(fields: type[BaseModel]) -> dict[str, Any]:
    """The schema of fields that are text, in a query or a form: there is no null, a field is absent."""
    schema = standalone(fields)
    return {**schema, "properties": {name: _without_null(field) for name, field in schema["properties"].items()}}


def _encoded(schema: Mapping[str, Any]) -> dict[str, Any]:
    if schema.get("type") != "object":
        return {"schema": schema}
    return {"description": schema["description"], "content": {"application/json": {"schema": schema}}}


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    if _NULL not in schema.get("anyOf", ()):
        return dict(schema)
    (branch,) = (branch for branch in schema["anyOf"] if branch != _NULL)
    said = {key: value for key, value in schema.items() if key != "anyOf" and value is not None}
    return {**branch, **said}


def without(schema: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    """A body's schema for a body that has none of these fields, or null there."""
    return {**schema, "properties": {**schema.get("properties", {}), **dict.fromkeys(fields, _OF_ANOTHER)}}


def given(*fields: str) -> dict[str, Any]:
    """What a body fits that has these fields, and none of them null."""
    return {"required": list(fields), "properties": {name: {"not": _NULL} for name in fields}}


def with_file(schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """A form's schema for a form with a `file` besides."""
    file = {"type": "string", "format": "binary", "description": description}
    return with_field({**schema, "properties": {**schema["properties"], "file": file}}, "file")


def with_field(schema: Mapping[str, Any], field: str) -> dict[str, Any]:
    """A body's schema for a body that has this field."""
    return {**schema, "required": sorted({*schema.get("required", ()), field})}
