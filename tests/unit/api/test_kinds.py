"""Several kinds of vectors in one answer: who makes them, and where they are."""

from typing import Any

from api.catalog import Catalog
from api.dialect import Context
from api.kinds import Vectors, hybrid_job
from api.places import listed
from shared.jobs import EmbedRequest
from shared.results import Kind
from tests.helpers.fleets import card, config, fleet_of
from tests.helpers.outputs import hybrid_output

DENSE, SPARSE, MULTIVECTOR = Kind.DENSE, Kind.SPARSE, Kind.MULTIVECTOR


def _context(**models: list[Kind]) -> Context:
    cards = [card(name, kinds=kinds) for name, kinds in models.items()]
    return Context("req-1", 12.5, Catalog([config(name) for name in models], fleet_of(*cards)))


def _shares(model: str | None, kinds: list[Kind], context: Context, **options: Any) -> dict[str | None, EmbedRequest]:
    job = hybrid_job(model, kinds, ["a"], context, place=listed("input"), **options)
    requests = [request for request in job.requests if isinstance(request, EmbedRequest)]
    return dict(zip(job.models, requests, strict=True))


def test_a_model_that_makes_all_kinds_makes_them_in_one_pass() -> None:
    context = _context(dense=[DENSE], m3=[DENSE, SPARSE, MULTIVECTOR])

    assert _shares(None, [DENSE, SPARSE], context, normalize=False) == {
        "m3": EmbedRequest(request_id="req-1", deadline=12.5, texts=["a"], kinds=[DENSE, SPARSE], normalize=False)
    }


def test_models_share_what_none_of_them_makes_alone_and_dimensions_are_for_dense_vectors() -> None:
    shares = _shares(None, [DENSE, SPARSE], _context(splade=[SPARSE], dense=[DENSE]), dimensions=8)

    assert {name: (request.kinds, request.dimensions) for name, request in shares.items()} == {
        "dense": ([DENSE], 8),
        "splade": ([SPARSE], None),
    }


def test_a_model_that_is_named_is_asked_for_all_of_it() -> None:
    shares = _shares("dense", [DENSE, SPARSE], _context(dense=[DENSE], splade=[SPARSE]))

    assert {name: request.kinds for name, request in shares.items()} == {"dense": [DENSE, SPARSE]}


def test_vectors_are_found_whichever_model_made_them() -> None:
    # Given
    dense = hybrid_output(dense=[[0.5, 1.0], [0.25, -1.0]])
    others = hybrid_output(sparse=[{7: 0.5, 9: 0.25}, {}], multivector=[[[1.0], [2.0]], [[3.0]]])

    # When
    vectors = Vectors(["d", "o"], [dense, others])

    # Then
    assert [vectors.model(kind) for kind in (DENSE, SPARSE, MULTIVECTOR)] == ["d", "o", "o"]
    assert vectors.dense is not None
    assert vectors.dense.tolist() == [[0.5, 1.0], [0.25, -1.0]]
    assert vectors.sparse is not None
    assert [(indices.tolist(), values.tolist()) for indices, values in vectors.sparse] == [
        ([7, 9], [0.5, 0.25]),
        ([], []),
    ]
    assert vectors.multivector is not None
    assert [matrix.tolist() for matrix in vectors.multivector] == [[[1.0], [2.0]], [[3.0]]]


def test_vectors_that_nobody_made_are_not_there() -> None:
    vectors = Vectors(["d"], [hybrid_output(dense=[[0.5]])])

    assert (vectors.sparse, vectors.multivector, vectors.model(SPARSE)) == (None, None, None)
