"""A document that makes its request fail does so alone."""

import asyncio
from collections.abc import Collection, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bulk import bisect
from shared import arrays
from shared.errors import InferenceFailed, InputTooLong, ModelNotFound, Overloaded
from shared.jobs import EmbedRequest
from shared.results import Output


class Model:
    """Makes a vector of a text's number; fails on some."""

    def __init__(self, bad: Collection[str], error: type[Exception] = InferenceFailed) -> None:
        self.bad = bad
        self.error = error
        self.requests = 0

    async def send(self, request: EmbedRequest) -> Output:
        self.requests += 1
        if any(text in self.bad for text in request.texts):
            raise self.error(f"failed on {len(request.texts)}")
        data = np.array([[float(text)] for text in request.texts], "<f4")
        return Output(shape=data.shape, data=data.tobytes(), tokens=len(request.texts))


def build(texts: Sequence[str]) -> EmbedRequest:
    return EmbedRequest(request_id="r", deadline=2e9, texts=texts)


def embed(texts: Sequence[str], model: Model) -> bisect.Embedded:
    places = [10 * int(text) for text in texts]
    return asyncio.run(bisect.embed(places, texts, build, model.send))


@given(st.integers(0, 40), st.sets(st.integers(0, 39), max_size=5))
def test_each_document_has_its_own_vector_or_its_own_error(count: int, bad: set[int]) -> None:
    texts = [str(number) for number in range(count)]
    embedded = embed(texts, Model({str(number) for number in bad}))

    found = {
        place: row[0]
        for part in embedded.parts
        for place, row in zip(part.places, arrays.rows(part.output), strict=True)
    }
    assert found == {10 * number: number for number in range(count) if number not in bad}
    assert set(embedded.errors) == {10 * number for number in bad if number < count}


def test_one_bad_document_costs_few_requests() -> None:
    model = Model({"77"})
    embedded = embed([str(number) for number in range(512)], model)
    assert set(embedded.errors) == {770}
    assert model.requests == 1 + 2 * 9


def test_the_error_is_the_documents_own() -> None:
    embedded = embed(["1", "2"], Model({"2"}, InputTooLong))
    assert (embedded.errors[20].code, embedded.errors[20].message) == ("context_length_exceeded", "failed on 1")


def test_what_may_succeed_later_is_the_callers_to_try_again() -> None:
    with pytest.raises(Overloaded):
        embed(["1", "2"], Model({"2"}, Overloaded))


def test_what_every_document_would_get_is_asked_once() -> None:
    model = Model({"2"}, ModelNotFound)
    embedded = embed(["1", "2", "3"], model)
    assert set(embedded.errors) == {10, 20, 30}
    assert model.requests == 1
