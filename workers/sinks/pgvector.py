"""PostgreSQL with pgvector: each document a row, copied into a temporary table and merged from there by its id."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.logging import get_logger
from shared.model_config import ConfigurationError
from workers.sink import DeliveryFailed, Document, OpenSink, Parcel, Tools, option

if TYPE_CHECKING:
    from psycopg import Connection, sql

log = get_logger("millrace.sink")

_CONNECT_TIMEOUT_S = 10
#: Longest that a merge may take; the event is given to another worker after `MILLRACE_WEBHOOK_LEASE_S`.
_STATEMENT_TIMEOUT_MS = 50_000
#: Of sparse vectors: any vocabulary fits, and pgvector compares only vectors of equal dimensions.
_SPARSE_DIMENSIONS = 1_000_000_000
#: Columns of the kinds of vectors, where the operator does not say otherwise.
_COLUMNS = {"id": "id", "dense": "embedding", "sparse": "sparse", "multivector": "multivector", "metadata": "metadata"}


class _OpenPgvector:
    """A table."""

    def __init__(self, conninfo: str, options: Mapping[str, Any]) -> None:
        self._conninfo = conninfo
        self._table = tuple(option(options, "table", str).split("."))
        self._create: bool = option(options, "create", bool, default=False)
        self._sparse_dimensions: int = option(options, "sparse_dimensions", int, default=_SPARSE_DIMENSIONS)
        self._columns = {**_COLUMNS, **option(options, "columns", dict, default={})}

    def deliver(self, parcel: Parcel) -> int | None:
        """Merge a segment's documents into the table; that a job has ended changes nothing here.

        Raises:
            DeliveryFailed: The server cannot be reached, or refuses.
        """
        if parcel.segment is None:
            return None
        found = parcel.documents()
        if not found:
            return None
        import psycopg

        try:
            # A connection for each segment: some milliseconds beside the copy, and nothing to go stale.
            with psycopg.connect(
                self._conninfo,
                connect_timeout=_CONNECT_TIMEOUT_S,
                options=f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}",
            ) as connection:
                self._merge(connection, found)
        except psycopg.OperationalError as err:
            raise DeliveryFailed(f"PostgreSQL cannot be reached or gave up ({type(err).__name__})") from err
        except psycopg.Error as err:
            # The server's own words, without the values that it may add in further lines.
            said = err.diag.message_primary or type(err).__name__
            raise DeliveryFailed(f"PostgreSQL refuses the rows: {said[:300]}") from err
        return None

    def close(self) -> None:
        """Connections are not kept."""

    def _merge(self, connection: "Connection[Any]", found: Sequence[Document]) -> None:
        from pgvector.psycopg import register_vector
        from psycopg import ProgrammingError, sql

        kinds = [kind for kind in ("dense", "sparse", "multivector") if getattr(found[0], kind) is not None]
        columns = [self._columns[name] for name in ("id", *kinds, "metadata")]
        table = sql.Identifier(*self._table)
        if self._create:
            self._make_table(connection, table, found[0])
        try:
            register_vector(connection)
        except ProgrammingError as err:
            raise DeliveryFailed("the database has no extension `vector`; its owner must create it") from err
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        place = sql.Identifier("millrace_place")
        connection.execute(
            sql.SQL(
                "CREATE TEMPORARY TABLE millrace_incoming ON COMMIT DROP AS "
                "SELECT {names}, 0 AS {place} FROM {table} WITH NO DATA"
            ).format(names=names, place=place, table=table)
        )
        copy_into = sql.SQL("COPY millrace_incoming ({names}, {place}) FROM STDIN").format(names=names, place=place)
        with connection.cursor() as cursor, cursor.copy(copy_into) as copy:
            for number, document in enumerate(found):
                vectors = [self._value(kind, document) for kind in kinds]
                copy.write_row((document.id.replace("\0", "\ufffd"), *vectors, _json(document.metadata), number))
        changed = sql.SQL(", ").join(
            sql.SQL("{column} = EXCLUDED.{column}").format(column=sql.Identifier(column)) for column in columns[1:]
        )
        # In the order of their ids, so that two segments with the same documents cannot wait for each other; of documents
        # with the same id in a segment the last counts.
        connection.execute(
            sql.SQL(
                "INSERT INTO {table} ({names}) SELECT DISTINCT ON ({id}) {names} FROM millrace_incoming "
                "ORDER BY {id}, {place} DESC ON CONFLICT ({id}) DO UPDATE SET {changed}"
            ).format(table=table, names=names, id=sql.Identifier(columns[0]), place=place, changed=changed)
        )

    def _make_table(self, connection: "Connection[Any]", table: "sql.Identifier", example: Document) -> None:
        from psycopg import sql

        # Two workers that create the same table at the same time would fail each other.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [".".join(self._table)])
        if connection.execute("SELECT to_regclass(%s)", [table.as_string(connection)]).fetchone() != (None,):
            return
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        kinds = {"id": "text PRIMARY KEY"}
        if example.dense is not None:
            kinds["dense"] = f"vector({len(example.dense)})"
        if example.sparse is not None:
            kinds["sparse"] = f"sparsevec({self._sparse_dimensions})"
        if example.multivector is not None:
            kinds["multivector"] = f"vector({example.multivector.shape[1]})[]"
        kinds["metadata"] = "jsonb"
        columns = [
            sql.SQL("{} {}").format(sql.Identifier(self._columns[name]), sql.SQL(kind)) for name, kind in kinds.items()
        ]
        connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join(columns)))
        log.info("table_created", table=".".join(self._table))

    def _value(self, kind: str, document: Document) -> Any:
        """A vector as pgvector's types write it."""
        from pgvector import SparseVector, Vector

        vector = getattr(document, kind)
        if kind == "dense":
            return Vector(vector.astype("float32"))
        if kind == "multivector":
            return [Vector(row) for row in vector]
        indices, weights = vector
        return SparseVector(dict(zip(indices.tolist(), weights.tolist(), strict=True)), self._sparse_dimensions)


class Pgvector:
    """PostgreSQL with pgvector through psycopg.

    Options: `url` (`postgresql://...` or a connection string), `table` (`documents`, `schema.documents`), `create` (the
    table, when it is not there), `columns`, a mapping of `id`, `dense`, `sparse`, `multivector` and `metadata` to the
    columns of the table, and `sparse_dimensions`.
    """

    name = "pgvector"
    caller_options = frozenset({"table"})
    takes_bits = False

    def open(self, options: Mapping[str, Any], tools: Tools) -> OpenSink:  # noqa: ARG002 - for webhooks
        """A table.

        Raises:
            ConfigurationError: An option is missing, or a client is not installed.
        """
        try:
            import pgvector  # noqa: F401
            import psycopg
        except ImportError as err:
            raise ConfigurationError(
                "it needs the packages pgvector and psycopg: pip install 'millrace[pgvector]'"
            ) from err
        url: str = option(options, "url", str)
        with suppress(psycopg.ProgrammingError):
            psycopg.conninfo.conninfo_to_dict(url)
            return _OpenPgvector(url, options)
        # Outside of the block: the driver's own error repeats the password.
        raise ConfigurationError("its option `url` is not a connection string of PostgreSQL")


def _json(metadata: Any) -> str | None:
    # PostgreSQL's text and jsonb have no NUL.
    return None if metadata is None else json.dumps(metadata).replace("\\u0000", "\\ufffd")


PLUGIN = Pgvector()
