"""Fields of requests: what they take is what their schema says."""

from typing import Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from api.fields import Dimensions, Integer, OnlyTrue, RequestFields, SomeDimensions, Switch, TokenIds
from tests.helpers.json_schema import fits


class _Strict(RequestFields):
    flag: bool | None = None
    switch: Switch | None = None
    number: Integer | None = None
    dimensions: Dimensions | None = None
    some: SomeDimensions | None = None
    only: OnlyTrue | None = None
    ids: TokenIds | None = Field(None)
    text: str | None = None


SCHEMA = _Strict.model_json_schema()
VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    4.0,
    0.5,
    1.0,
    2**31,
    2.0**31,
    "",
    "4",
    "true",
    "False",
    "yes",
    [],
    [1, 2.0],
    [True],
    ["1"],
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("name", _Strict.model_fields)
def test_a_field_takes_what_its_schema_says_and_nothing_else(name: str, value: Any) -> None:
    try:
        _Strict.model_validate({name: value})
        is_taken = True
    except ValidationError:
        is_taken = False

    # Given that the emptiness of a list is refused later, with a code of its own
    assert is_taken == (fits({name: value}, SCHEMA) or (name, value) == ("ids", []))


def test_a_whole_number_is_an_integer_however_it_is_written() -> None:
    read = _Strict.model_validate({"number": 2.0**70, "dimensions": 4.0, "ids": [3.0, 4]})

    assert (read.number, read.dimensions, read.ids) == (2**70, 4, [3, 4])
    assert type(read.dimensions) is int


@pytest.mark.parametrize(("given", "read"), [("true", True), ("True", True), ("false", False), (False, False)])
def test_a_switch_may_be_a_string(given: Any, read: bool) -> None:
    assert TypeAdapter(Switch).validate_python(given) is read
