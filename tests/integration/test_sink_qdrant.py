"""The Qdrant sink on the client's own local engine: the same calls, without a server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from shared.model_config import ConfigurationError
from shared.results import Precision
from tests.helpers.bulk_jobs import WIDTH, results, vectors
from tests.helpers.parcels import TOOLS, final_parcel, parcel, parcel_of
from workers.sink import DeliveryFailed, Parcel, Verdict
from workers.sinks import qdrant

ALL_KINDS = ("dense", "sparse", "multivector")
SERVER = {"url": "http://a", "collection": "docs"}


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """A sink on an engine of its own."""
    return {"path": str(tmp_path / "qdrant"), "collection": "docs", "create": True}


@contextmanager
def looking(options: Mapping[str, Any]) -> Iterator[QdrantClient]:
    """The engine, which one client at a time has."""
    client = QdrantClient(path=options["path"])
    yield client
    client.close()


def deliver(options: Mapping[str, Any], *parcels: Parcel) -> None:
    """Deliver parcels, and let go of the engine."""
    sink = qdrant.PLUGIN.open(options, TOOLS)
    try:
        for one in parcels:
            sink.deliver(one)
    finally:
        sink.close()


def test_documents_become_points_with_named_vectors_and_payload(options: dict[str, Any]) -> None:
    # When
    deliver(options, parcel(kinds=ALL_KINDS))

    # Then the document with an error has no point
    with looking(options) as client:
        assert client.count("docs").count == 3
        (point,) = client.retrieve("docs", [qdrant.point_id("doc-0")], with_vectors=True)
    assert point.payload == {"lang": "en", "page": 0, "document_id": "doc-0"}
    assert isinstance(point.vector, dict)
    dense, expected = np.array(point.vector["dense"]), vectors(0, 1)[0]
    # An engine for cosine similarity may keep unit vectors.
    np.testing.assert_allclose(dense / np.linalg.norm(dense), expected / np.linalg.norm(expected), rtol=1e-5)
    assert point.vector["sparse"] == models.SparseVector(indices=[3, 70], values=[0.5, 0.5])
    assert np.array(point.vector["colbert"]).shape == (3, 4)


def test_each_kind_of_vector_can_be_searched(options: dict[str, Any]) -> None:
    # Given
    deliver(options, parcel(kinds=ALL_KINDS))

    # When
    queries: list[tuple[str, Any]] = [
        ("dense", vectors(1, 1)[0].tolist()),
        ("sparse", models.SparseVector(indices=[70], values=[1.0])),
        ("colbert", [vectors(1, 1)[0][:4].tolist()]),
    ]
    with looking(options) as client:
        found = {name: client.query_points("docs", query=query, using=name).points for name, query in queries}

    # Then
    assert found["dense"][0].payload == {"document_id": "doc-1"}
    assert len(found["sparse"]) == 3
    assert found["colbert"][0].payload == {"document_id": "doc-1"}


def test_what_comes_twice_changes_nothing_and_what_is_new_replaces(options: dict[str, Any]) -> None:
    # When
    changed = results(0, 4)
    changed.metadata = {0: {"lang": "de"}}
    deliver(options, parcel(), parcel(), parcel_of(changed))

    # Then
    with looking(options) as client:
        assert client.count("docs").count == 3
        (point,) = client.retrieve("docs", [qdrant.point_id("doc-0")])
    assert point.payload == {"lang": "de", "document_id": "doc-0"}


def test_a_document_without_an_id_is_called_by_its_index(options: dict[str, Any]) -> None:
    # When
    deliver(options, parcel(2, ids=[None, 7, "x", "y"]))

    # Then
    with looking(options) as client:
        payloads = [point.payload or {} for point in client.scroll("docs")[0]]
    assert {payload["document_id"] for payload in payloads} == {"8", "7", "x"}


def test_an_operator_chooses_the_names_and_the_collection_must_be_there(options: dict[str, Any]) -> None:
    # Given a collection of the operator's
    with looking(options) as client:
        client.create_collection(
            "own", vectors_config={"text": models.VectorParams(size=WIDTH, distance=models.Distance.DOT)}
        )

    # When
    deliver({**options, "collection": "own", "vectors": {"dense": "text"}, "create": False}, parcel())

    # Then
    with looking(options) as client:
        assert client.count("own").count == 3

    # When there is none, and it is not to be made
    with pytest.raises(DeliveryFailed, match="missing") as caught:
        deliver({**options, "collection": "missing", "create": False}, parcel())

    # Then it may be there later
    assert caught.value.verdict is Verdict.RETRY


def test_bits_are_refused_and_an_end_is_nothing_to_write(options: dict[str, Any]) -> None:
    # When
    deliver(options, final_parcel())
    with pytest.raises(DeliveryFailed, match="binary") as caught:
        deliver(options, parcel_of(replace(results(0, 2), precision=Precision.BINARY)))

    # Then
    assert caught.value.verdict is Verdict.GIVE_UP
    with looking(options) as client:
        assert not client.collection_exists("docs")


def test_a_server_that_is_not_there_is_tried_again_later() -> None:
    # When
    with pytest.raises(DeliveryFailed) as caught:
        deliver({"url": "http://127.0.0.1:9", "collection": "docs"}, parcel())

    # Then
    assert caught.value.verdict is Verdict.RETRY
    assert caught.value.reason == "Qdrant cannot be reached: connection refused"


# The client leaves the lock's file to the garbage collector when it does not get it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_folder_that_is_in_use_is_told_as_such(options: dict[str, Any]) -> None:
    with looking(options), pytest.raises(DeliveryFailed, match=r"folder .* is in use"):
        deliver(options, parcel())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"collection": "docs"}, "needs the option `url`"),
        ({"url": "http://a"}, "needs the option `collection`"),
        ({**SERVER, "create": "yes"}, "`create` must be a bool"),
        ({**SERVER, "distance": "Near"}, "`distance` must be one of"),
    ],
)
def test_an_option_that_is_missing_or_wrong_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        qdrant.PLUGIN.open(given, TOOLS)
