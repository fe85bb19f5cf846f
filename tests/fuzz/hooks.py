"""What the fuzzing knows of this service beyond its OpenAPI document. Loaded by schemathesis, in its own environment."""

import base64
import os
import tomllib
import zlib
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

EXCLUSIONS = tomllib.loads((Path(__file__).parent / "exclusions.toml").read_text())
#: Names of served models, the empty one for the default, and one that nobody has.
_MODELS = [*os.environ.get("MILLRACE_FUZZ_MODELS", "").split(","), "", "nobody's"]

#: A picture of one black pixel.
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="

schemathesis.openapi.format(
    "image-reference",
    st.sampled_from([_PNG, f"data:image/png;base64,{_PNG}", base64.urlsafe_b64encode(base64.b64decode(_PNG)).decode()]),
)
schemathesis.openapi.format(
    "webhook-url",
    st.sampled_from(
        ["https://indexer.example/vectors", "https://indexer.example:8443/?a=b", "https://indexer.example."]
    ),
)
# Files of forms are texts, since schemathesis 4 now and then fails at bytes that it has made itself ("Unsupported type:
# 'Binary'"); bytes that are no text are among `tests.helpers.hostile`.
schemathesis.openapi.format("binary", st.text(st.characters(codec="utf-8")))
schemathesis.serializer.alias("application/x-ndjson", "text/plain")


@schemathesis.hook
def map_body(_: Any, body: Any) -> Any:
    """Most made-up names of models become names of models: else nearly every body would end at the first 404.

    A form's file comes last, which no schema can say: the documents are read while they arrive.
    """
    if isinstance(body, dict):
        if "file" in body:
            body = {**{name: value for name, value in body.items() if name != "file"}, "file": body["file"]}
        entries = body.get("inputs")
        for part in [body, *(entries if isinstance(entries, list) else [])]:
            if isinstance(part, dict) and isinstance(part.get("model"), str):
                part["model"] = _served(part["model"])
    return body


@schemathesis.hook
def map_path_parameters(_: Any, parameters: Any) -> Any:
    """The same for models that the path names, and never the empty one."""
    if not isinstance(parameters, dict):
        return parameters
    named = {name: _served(value) or _MODELS[0] for name, value in parameters.items() if name in ("model", "id")}
    return {**parameters, **named}


def _fits_as_it_is_sent(case: Any) -> bool:
    """Whether what is wrong with a body is not there any more when it is sent.

    Whatever it is, as lines of text it is a text; and of an empty list a form has no part.
    """
    if case.media_type == "application/x-ndjson":
        return True
    return case.media_type == "multipart/form-data" and isinstance(case.body, dict) and [] in case.body.values()


def _served(name: str) -> str:
    return _MODELS[zlib.crc32(name.encode(errors="replace")) % len(_MODELS)]


@schemathesis.hook
def filter_failure(_: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether a failure counts: a refusal of a fitting body does not when its code is among the exclusions."""
    if isinstance(failure, AcceptedNegativeData):
        return not _fits_as_it_is_sent(case)
    if not isinstance(failure, RejectedPositiveData):
        return True
    try:
        problem = response.json()
        code = problem["error"]["code"] if isinstance(problem["error"], dict) else problem["code"]
    except (ValueError, KeyError, TypeError):
        return True
    return code not in EXCLUSIONS
