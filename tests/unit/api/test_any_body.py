"""Whatever JSON arrives on a path: a job and an answer of the documented form, or a sentence about the field at fault."""

import json
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

import api.dialects
from api import wire
from api.callers_words import in_callers_words
from api.dialect import Answer, Dialect, Route
from api.endpoint import choose
from api.routing import body_schema, served_paths
from shared.errors import MillraceError, ModelNotFound, WrongTask
from shared.plugins import discover
from tests.helpers.dialects import CONTEXT, outputs_of
from tests.helpers.json_schema import fits
from tests.helpers.served import served_model, work_of

CONTENDERS: dict[str, list[tuple[Dialect, Route]]] = defaultdict(list)
for _dialect in discover(api.dialects).values():
    for _route in _dialect.routes:
        for _path in served_paths(_dialect, _route):
            CONTENDERS[_path].append((_dialect, _route))
#: One path for each set of contenders.
PATHS = sorted({tuple(id(route) for _, route in found): path for path, found in CONTENDERS.items()}.values())

SCHEMAS = {path: body_schema(CONTENDERS[path]) for path in PATHS}

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([-1, 0, 1, 3])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.sampled_from(["float", "base64", "int8", "binary", "left", "true", "query", "classification", "user", "END"])
)
WORDS = st.sampled_from(["text", "image", "image_url", "content", "role", "type", "url", "title"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)


@st.composite
def bodies(draw: st.DrawFn, contenders: list[tuple[Dialect, Route]]) -> dict[str, Any]:
    """An example of one of the dialects, in which some fields of any of them have another value or are gone."""
    _, route = draw(st.sampled_from(contenders))
    names = sorted({name for _, other in contenders for name in other.body.model_fields})
    body = {**route.example, **draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=4))}
    for name in draw(st.lists(st.sampled_from(sorted(body)), max_size=1)):
        del body[name]
    return body


@pytest.mark.parametrize("path", PATHS)
@given(data=st.data())
@settings(max_examples=60)
def test_a_body_is_answered_in_its_documented_form_or_refused_with_a_sentence(path: str, data: st.DataObject) -> None:
    contenders = CONTENDERS[path]
    body = data.draw(bodies(contenders))
    dialect, route = contenders[0]
    try:
        if len(contenders) > 1:
            dialect, route = choose(contenders, body)
        validated = wire.validated(route.body, body)
        job = route.parse(validated, CONTEXT)
    except MillraceError as error:
        _assert_names_a_field(error, dialect, contenders)
        return
    answer = Answer("req-1", "own/name", outputs_of(job), 0.5, ["own/name"] * len(job.requests))
    read = json.loads(wire.dumps(route.render(validated, answer)))
    TypeAdapter(route.response).validate_python(read)


#: A worker's model that is made for everything, and knows texts as large as they may be.
SERVED = served_model(skip_prompt=True)


@pytest.mark.parametrize("path", PATHS)
@given(data=st.data())
@settings(max_examples=60)
def test_what_a_worker_refuses_is_a_sentence_about_the_field_at_fault(path: str, data: st.DataObject) -> None:
    contenders = CONTENDERS[path]
    _, route = data.draw(st.sampled_from(contenders))
    names = sorted({*OPTIONS} & {*route.body.model_fields})
    options = data.draw(st.fixed_dictionaries({}, optional={name: OPTIONS[name] for name in names}))
    body = {**route.example, **options}
    try:
        dialect, route = choose(contenders, body) if len(contenders) > 1 else contenders[0]
        job = route.parse(wire.validated(route.body, body), CONTEXT)
    except MillraceError:
        return
    for number, request in enumerate(job.requests):
        try:
            SERVED.sequences_of(work_of(request))
        except MillraceError as error:
            _assert_names_a_field(in_callers_words(error, route, body, job.place, number), dialect, contenders, body)


#: Options of which some values are for the model to refuse.
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("dimensions", "output_dimension"), st.sampled_from([1, 384, 500])),
    **dict.fromkeys(("truncate_prompt_tokens", "max_tokens"), st.sampled_from([1, 3, 100])),
    **dict.fromkeys(("normalize", "normalized", "use_activation", "truncate", "truncation"), st.booleans()),
    "truncation_side": st.sampled_from(["left", "right"]),
    "truncation_direction": st.sampled_from(["Left", "Right"]),
    "output_dtype": st.sampled_from(["float32", "int8"]),
    "embedding_types": st.lists(st.sampled_from(["float", "int8"]), max_size=2),
    "prompt_name": st.sampled_from(["query", "nobody"]),
    "late_chunking": st.booleans(),
    "return_multivector": st.booleans(),
}


#: By which a body that fits the schema is refused all the same: what a schema cannot say, such as which models there are.
BEYOND_SCHEMAS = {
    ModelNotFound.code,
    *tomllib.loads((Path(__file__).parents[2] / "fuzz" / "exclusions.toml").read_text()),
}


@pytest.mark.parametrize("path", PATHS)
@given(data=st.data())
@settings(max_examples=60)
def test_what_is_accepted_is_what_is_documented(path: str, data: st.DataObject) -> None:
    contenders = CONTENDERS[path]
    body = data.draw(bodies(contenders))
    is_documented = fits(body, SCHEMAS[path])
    try:
        _, route = choose(contenders, body) if len(contenders) > 1 else contenders[0]
        route.parse(wire.validated(route.body, body), CONTEXT)
        refusal = None
    except MillraceError as error:
        refusal = error.code
    if refusal is None:
        assert is_documented
    else:
        assert not is_documented or refusal in BEYOND_SCHEMAS, refusal


def _assert_names_a_field(
    error: MillraceError,
    dialect: Dialect,
    contenders: list[tuple[Dialect, Route]],
    sent: Mapping[str, Any] | None = None,
) -> None:
    status, problem = dialect.render_error(error)
    assert 400 <= status < 500
    if error.param is None:
        assert all(route.key in error.message for _, route in contenders)
    elif isinstance(error, ModelNotFound | WrongTask) and error.param == "model":
        assert error.message.startswith(f"{error.param} ")
    else:
        assert f"`{error.param}" in error.message, error.message
        assert sent is None or error.param in sent, error.message
    assert json.loads(wire.dumps(problem))["message"] == error.message != ""
