"""The pgvector sink on a real PostgreSQL."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector

from shared.model_config import ConfigurationError
from shared.results import Precision
from tests.helpers.bulk_jobs import results, vectors
from tests.helpers.parcels import TOOLS, final_parcel, parcel, parcel_of
from tests.helpers.postgres import binaries, running_postgres
from workers.sink import DeliveryFailed, Verdict
from workers.sinks import pgvector

ALL_KINDS = ("dense", "sparse", "multivector")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server for all these tests."""
    found = binaries()
    if isinstance(found, str):
        pytest.skip(found)
    with running_postgres(found) as url:
        yield url


@pytest.fixture
def database(server: str) -> str:
    """The emptied server."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server


def options(url: str, **more: Any) -> dict[str, Any]:
    return {"url": url, "table": "docs", "create": True, **more}


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        register_vector(connection)
        return connection.execute(query).fetchall()  # type: ignore[call-overload]


def test_documents_become_rows(database: str) -> None:
    # Given
    sink = pgvector.PLUGIN.open(options(database), TOOLS)

    # When
    sink.deliver(parcel(kinds=ALL_KINDS))

    # Then the document with an error has no row
    found = rows(database, "SELECT id, embedding, sparse, multivector, metadata FROM docs ORDER BY id")
    assert [row[0] for row in found] == ["doc-0", "doc-1", "doc-2"]
    _, dense, sparse, multivector, metadata = found[0]
    assert np.array_equal(_array(dense), vectors(0, 1)[0])
    assert (sparse.indices(), sparse.values()) == ([3, 70], [0.5, 0.5])
    assert len(multivector) == 3
    assert metadata == {"lang": "en", "page": 0}
    assert found[1][4] is None


def test_rows_can_be_searched(database: str) -> None:
    # Given
    pgvector.PLUGIN.open(options(database), TOOLS).deliver(parcel(kinds=ALL_KINDS))

    # When
    wanted = "[" + ",".join(map(str, vectors(2, 1)[0].tolist())) + "]"
    found = rows(database, f"SELECT id FROM docs ORDER BY embedding <=> '{wanted}' LIMIT 1")
    weights = rows(database, "SELECT -(sparse <#> '{4:1}/1000000000'), -(sparse <#> '{5:1}/1000000000') FROM docs")

    # Then
    assert found == [("doc-2",)]
    assert weights[0] == (0.5, 0.0)  # pgvector writes indices from 1


def test_what_comes_twice_changes_nothing_and_what_is_new_replaces(database: str) -> None:
    # Given
    sink = pgvector.PLUGIN.open(options(database), TOOLS)
    sink.deliver(parcel())

    # When
    sink.deliver(parcel())
    changed = results(0, 4)
    changed.metadata = {0: {"lang": "de"}}
    sink.deliver(parcel_of(changed))

    # Then
    assert rows(database, "SELECT count(*) FROM docs") == [(3,)]
    assert rows(database, "SELECT metadata FROM docs WHERE id = 'doc-0'") == [({"lang": "de"},)]


def test_of_documents_with_one_id_the_last_counts_and_those_without_have_their_index(database: str) -> None:
    # Given
    sink = pgvector.PLUGIN.open(options(database), TOOLS)

    # When
    sink.deliver(parcel(2, ids=["same", None, "same", "failed"]))

    # Then
    found = {row[0]: row[1] for row in rows(database, "SELECT id, embedding FROM docs")}
    assert set(found) == {"same", "9"}
    assert np.array_equal(_array(found["same"]), vectors(10, 1)[0])


def test_text_that_postgresql_has_no_place_for_is_written_all_the_same(database: str) -> None:
    # Given
    made = results(0, 2, ids=["a\0b", "c"])
    made.metadata = {0: {"text": "x\0y\t\\N\n"}}

    # When
    pgvector.PLUGIN.open(options(database), TOOLS).deliver(parcel_of(made))

    # Then
    assert rows(database, "SELECT id, metadata FROM docs") == [("a\ufffdb", {"text": "x\ufffdy\t\\N\n"})]


def test_an_operators_own_table_with_its_own_columns_is_used(database: str) -> None:
    # Given
    with psycopg.connect(database) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE SCHEMA shop")
        connection.execute(
            'CREATE TABLE shop.products (sku text PRIMARY KEY, "Vec" vector(8), info jsonb, seen timestamptz DEFAULT now())'
        )
    columns = {"id": "sku", "dense": "Vec", "metadata": "info"}

    # When
    sink = pgvector.PLUGIN.open({"url": database, "table": "shop.products", "columns": columns}, TOOLS)
    sink.deliver(parcel())

    # Then
    assert rows(database, "SELECT count(*) FROM shop.products WHERE seen IS NOT NULL") == [(3,)]


def test_workers_that_write_at_the_same_time_do_not_fail_each_other(database: str) -> None:
    # Given
    sink = pgvector.PLUGIN.open(options(database), TOOLS)
    failures: list[Exception] = []

    def deliver(ids: list[str]) -> None:
        try:
            for _ in range(5):
                sink.deliver(parcel(size=len(ids), ids=ids))
        except DeliveryFailed as err:
            failures.append(err)

    # When
    names = [f"d{number}" for number in range(60)]
    threads = [threading.Thread(target=deliver, args=[order]) for order in (names, names[::-1], names, names[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # Then
    assert failures == []
    assert rows(database, "SELECT count(*) FROM docs") == [(60,)]


def test_what_the_server_refuses_is_said_without_values(database: str) -> None:
    # Given a table for other vectors
    with psycopg.connect(database) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE docs (id text PRIMARY KEY, embedding vector(3), metadata jsonb)")

    # When
    with pytest.raises(DeliveryFailed, match="expected 3 dimensions, not 8") as caught:
        pgvector.PLUGIN.open(options(database), TOOLS).deliver(parcel())

    # Then
    assert "doc-0" not in caught.value.reason


def test_without_the_table_or_the_extension_the_reason_says_so(database: str) -> None:
    sink = pgvector.PLUGIN.open({"url": database, "table": "docs"}, TOOLS)

    with pytest.raises(DeliveryFailed, match="no extension `vector`"):
        sink.deliver(parcel())
    with psycopg.connect(database) as connection:
        connection.execute("CREATE EXTENSION vector")
    with pytest.raises(DeliveryFailed, match='relation "docs" does not exist'):
        sink.deliver(parcel())


def test_bits_are_refused_and_an_end_is_nothing_to_write() -> None:
    # Given
    sink = pgvector.PLUGIN.open(options("postgresql://a:hunter2@127.0.0.1:9/x"), TOOLS)

    # When
    assert sink.deliver(final_parcel()) is None
    with pytest.raises(DeliveryFailed, match="binary") as caught:
        sink.deliver(parcel_of(replace(results(0, 2), precision=Precision.BINARY)))

    # Then
    assert caught.value.verdict is Verdict.GIVE_UP


def test_a_server_that_is_not_there_is_tried_again_later() -> None:
    # Given
    sink = pgvector.PLUGIN.open(options("postgresql://a:hunter2@127.0.0.1:9/x"), TOOLS)

    # When
    with pytest.raises(DeliveryFailed) as caught:
        sink.deliver(parcel())

    # Then
    assert caught.value.verdict is Verdict.RETRY
    assert "hunter2" not in caught.value.reason


def test_a_connection_string_that_is_none_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        pgvector.PLUGIN.open(options("postgres//a:hunter2@host"), TOOLS)

    assert "hunter2" not in str(caught.value)


def _array(vector: Any) -> np.ndarray[Any, Any]:
    """A vector as the client gives it back; its type depends on the client's version."""
    return np.asarray(vector.to_numpy() if hasattr(vector, "to_numpy") else vector)
