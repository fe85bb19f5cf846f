"""Types of request fields: what they accept is what the OpenAPI document says of them, no more and no less.

By itself pydantic also reads "4" as an integer, true as 1 and "no" as false; who sends such a thing is better told.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import CoreSchema


class RequestFields(BaseModel):
    """Fields of a request, strictly of the types that are documented. Unknown fields are ignored."""

    model_config = ConfigDict(strict=True)


class Documented:
    """Adds to a type's schema what is checked later, with a sentence and a code of its own."""

    def __init__(self, **keywords: Any) -> None:
        self._keywords = keywords

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Mapping[str, Any]:
        """The type's own JSON schema with the further keywords."""
        return {**handler(schema), **self._keywords}


_SWITCHES = {"true": True, "True": True, "false": False, "False": False}


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _token_ids(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    # By their types, their least and their greatest: there may be millions of them, nearly always integers.
    if isinstance(value, list):
        types = set(map(type, value))
        if types == {int} and min(value) >= 0 and max(value) < _MOST_TOKENS:
            return value
        if float in types:
            value = [_whole(entry) for entry in value]
    return handler(value)


def _true(value: bool) -> bool:
    if not value:
        raise ValueError("can only be true")
    return value


def _switch(value: Any) -> Any:
    return _SWITCHES.get(value, value) if isinstance(value, str) else value


#: A whole number; 4.0 is one too, in JSON Schema as here.
Integer = Annotated[int, BeforeValidator(_whole)]
#: How many dimensions of a vector are kept; 0, which Infinity's clients send, means all.
Dimensions = Annotated[int, Field(ge=0, le=2**31 - 1), BeforeValidator(_whole)]
#: The same where 0 means nothing.
SomeDimensions = Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_whole)]
#: How many tokens of a text are read ...
SomeTokens = Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_whole)]
#: ... where -1 means as many as the model takes.
MostTokens = Annotated[int, Field(ge=-1, le=2**31 - 1), BeforeValidator(_whole)]
EntryT = TypeVar("EntryT")
#: A list; the first wrong entry is enough, as noting a million of them takes seconds.
Listed = Annotated[list[EntryT], Field(fail_fast=True)]
#: The same with at least one entry.
Several = Annotated[list[EntryT], Field(fail_fast=True), Documented(minItems=1)]
#: Token ids are less; in TEI they are u32.
_MOST_TOKENS = 2**32
#: Ids of a model's own vocabulary, at least one.
TokenIds = Annotated[Several[Annotated[int, Field(ge=0, lt=_MOST_TOKENS)]], WrapValidator(_token_ids)]
#: A boolean that some clients send as a string (RAGFlow).
Switch = Annotated[
    bool,
    BeforeValidator(_switch),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": list(_SWITCHES)}]}),
]

#: A boolean that can only be true: `Literal[True]` would take 1 too.
OnlyTrue = Annotated[bool, AfterValidator(_true), WithJsonSchema({"const": True})]

#: A text that is refused when it is empty.
Text = Annotated[str, Documented(minLength=1)]
#: At least one text, none of them empty.
Texts = Several[Text]


def either(*branches: Mapping[str, Any]) -> ConfigDict:
    """The configuration of request fields of which one of these further schemas must be true."""
    return ConfigDict(strict=True, json_schema_extra={"anyOf": [dict(branch) for branch in branches]})
