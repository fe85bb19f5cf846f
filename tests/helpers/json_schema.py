"""Whether a value fits a JSON schema, as far as the schemas of this service go: an unknown keyword is an error."""

import re
from collections.abc import Mapping
from typing import Any

_TYPES: dict[str, Any] = {"string": str, "array": list, "object": dict, "boolean": bool, "null": type(None)}
#: Keywords that restrict nothing.
_NOTES = {"title", "description", "default", "example", "examples", "format"}


def fits(value: Any, schema: Mapping[str, Any] | bool) -> bool:
    """Whether a value fits a schema.

    Raises:
        KeyError: The schema has a keyword that is not known here.
    """
    if isinstance(schema, bool):
        return schema
    return all(_KEYWORDS[word](value, said, schema) for word, said in schema.items() if word not in _NOTES)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_type(value: Any, said: str | list[str]) -> bool:
    for name in [said] if isinstance(said, str) else said:
        if name == "integer":
            if _is_number(value) and float(value).is_integer():
                return True
        elif name == "number":
            if _is_number(value):
                return True
        elif isinstance(value, _TYPES[name]):
            return True
    return False


def _is(value: Any, said: Any) -> bool:
    return value == said and isinstance(value, bool) == isinstance(said, bool)


_KEYWORDS: dict[str, Any] = {
    "type": lambda value, said, _: _has_type(value, said),
    "const": lambda value, said, _: _is(value, said),
    "enum": lambda value, said, _: any(_is(value, one) for one in said),
    "anyOf": lambda value, said, _: any(fits(value, one) for one in said),
    "oneOf": lambda value, said, _: sum(fits(value, one) for one in said) == 1,
    "allOf": lambda value, said, _: all(fits(value, one) for one in said),
    "not": lambda value, said, _: not fits(value, said),
    # In JSON Schema `$` is the very end.
    "pattern": lambda value, said, _: not isinstance(value, str) or bool(re.search(said.replace("$", r"\Z"), value)),
    "maxLength": lambda value, said, _: not isinstance(value, str) or len(value) <= said,
    "minLength": lambda value, said, _: not isinstance(value, str) or len(value) >= said,
    "minimum": lambda value, said, _: not _is_number(value) or value >= said,
    "maximum": lambda value, said, _: not _is_number(value) or value <= said,
    "exclusiveMaximum": lambda value, said, _: not _is_number(value) or value < said,
    "minItems": lambda value, said, _: not isinstance(value, list) or len(value) >= said,
    "maxItems": lambda value, said, _: not isinstance(value, list) or len(value) <= said,
    "items": lambda value, said, _: not isinstance(value, list) or all(fits(entry, said) for entry in value),
    "contains": lambda value, said, _: not isinstance(value, list) or any(fits(entry, said) for entry in value),
    "minProperties": lambda value, said, _: not isinstance(value, dict) or len(value) >= said,
    "maxProperties": lambda value, said, _: not isinstance(value, dict) or len(value) <= said,
    "propertyNames": lambda value, said, _: not isinstance(value, dict) or all(fits(name, said) for name in value),
    "required": lambda value, said, _: not isinstance(value, dict) or all(name in value for name in said),
    "properties": lambda value, said, _: (
        not isinstance(value, dict) or all(fits(value[name], one) for name, one in said.items() if name in value)
    ),
    "additionalProperties": lambda value, said, schema: (
        not isinstance(value, dict)
        or all(fits(entry, said) for name, entry in value.items() if name not in schema.get("properties", {}))
    ),
}
