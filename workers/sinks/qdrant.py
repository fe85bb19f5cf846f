"""Qdrant: each document a point with dense, sparse and multi-vectors under their names, and its metadata as the payload."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from shared.errors import first_line
from shared.logging import get_logger
from shared.model_config import ConfigurationError
from workers.sink import DeliveryFailed, Document, OpenSink, Parcel, Tools, option

log = get_logger("millrace.sink")

#: Points of one request.
_POINTS = 256
#: How long one request may take, in seconds.
_TIMEOUT_S = 30
_NOT_FOUND = 404
#: Our own namespace of point ids: a document's id always gives the same point.
_NAMESPACE = UUID("b8a3ab5e-6b52-4a52-9d0c-4f8de3a0c5a1")
_DISTANCES = ("Cosine", "Dot", "Euclid", "Manhattan")
#: Under which names the vectors are kept, where the operator does not say otherwise.
_VECTOR_NAMES = {"dense": "dense", "sparse": "sparse", "multivector": "colbert"}


def point_id(document_id: str) -> str:
    """The id of a document's point."""
    return str(uuid5(_NAMESPACE, document_id))


class _OpenQdrant:
    """A collection."""

    def __init__(self, connect: Callable[[], Any], options: Mapping[str, Any]) -> None:
        self._connect = connect
        self._collection: str = option(options, "collection", str)
        self._create: bool = option(options, "create", bool, default=False)
        self._distance: str = option(options, "distance", str, default="Cosine")
        self._names = {**_VECTOR_NAMES, **option(options, "vectors", dict, default={})}
        if self._distance not in _DISTANCES:
            raise ConfigurationError(f"its `distance` must be one of {', '.join(_DISTANCES)}")
        self._client: Any = None
        self._lock = threading.Lock()

    def deliver(self, parcel: Parcel) -> int | None:
        """Upsert a segment's documents; that a job has ended changes nothing here.

        Raises:
            DeliveryFailed: The server cannot be reached, or refuses.
        """
        if parcel.segment is None:
            return None
        found = parcel.documents()
        try:
            client = self._opened(found)
            for start in range(0, len(found), _POINTS):
                points = [self._point(document) for document in found[start : start + _POINTS]]
                client.upsert(self._collection, points=points, wait=True)
        except DeliveryFailed:
            raise
        except Exception as err:
            if getattr(err, "status_code", None) == _NOT_FOUND:
                self._forget()  # the collection was dropped; it may be ours to make again
            log.warning("sink_failed", sink="qdrant", error=first_line(err)[:300])
            raise DeliveryFailed(_reason(err)) from err
        return None

    def close(self) -> None:
        """Close the client."""
        self._forget()

    def _forget(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _opened(self, found: Sequence[Document]) -> Any:
        """The client, once the collection is known to be there."""
        with self._lock:
            if self._client is None:
                client = self._connect()
                if self._create and found and not client.collection_exists(self._collection):
                    self._make_collection(client, found[0])
                self._client = client
            return self._client

    def _make_collection(self, client: Any, example: Document) -> None:
        from qdrant_client import models

        distance = models.Distance(self._distance)
        vectors: dict[str, Any] = {}
        if example.dense is not None:
            vectors[self._names["dense"]] = models.VectorParams(size=len(example.dense), distance=distance)
        if example.multivector is not None:
            vectors[self._names["multivector"]] = models.VectorParams(
                size=example.multivector.shape[1],
                distance=distance,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
                # Documents are compared by all their tokens, after another vector has found them.
                hnsw_config=models.HnswConfigDiff(m=0),
            )
        sparse = {self._names["sparse"]: models.SparseVectorParams()} if example.sparse is not None else None
        try:
            client.create_collection(self._collection, vectors_config=vectors, sparse_vectors_config=sparse)
        except Exception:
            if not client.collection_exists(self._collection):
                raise
            return  # another worker was faster
        log.info("collection_created", collection=self._collection)

    def _point(self, document: Document) -> Any:
        from qdrant_client import models

        vectors: dict[str, Any] = {}
        if document.dense is not None:
            vectors[self._names["dense"]] = document.dense.tolist()
        if document.multivector is not None:
            vectors[self._names["multivector"]] = document.multivector.tolist()
        if document.sparse is not None:
            indices, weights = document.sparse
            vectors[self._names["sparse"]] = models.SparseVector(indices=indices.tolist(), values=weights.tolist())
        metadata = document.metadata
        payload: dict[str, Any] = dict(metadata) if isinstance(metadata, dict) else {"metadata": metadata}
        if metadata is None:
            payload = {}
        payload["document_id"] = document.id
        return models.PointStruct(id=point_id(document.id), vector=vectors, payload=payload)


class Qdrant:
    """Qdrant through its own client.

    Options: `url`, `api_key`, `collection`, `create` (the collection, when it is not there), `distance`, and `vectors`, a
    mapping of `dense`, `sparse` and `multivector` to the names that they have in the collection. `path` instead of `url` is
    a folder for the client's own engine, to try things out without a server.
    """

    name = "qdrant"
    caller_options = frozenset({"collection"})
    takes_bits = False

    def open(self, options: Mapping[str, Any], tools: Tools) -> OpenSink:  # noqa: ARG002 - for webhooks
        """A collection.

        Raises:
            ConfigurationError: An option is missing, or the client is not installed.
        """
        try:
            from qdrant_client import QdrantClient
        except ImportError as err:
            raise ConfigurationError("it needs the package qdrant-client: pip install 'millrace[qdrant]'") from err
        server: dict[str, Any] = (
            {"path": options["path"]}
            if "path" in options
            else {
                "url": option(options, "url", str),
                "api_key": options.get("api_key"),
                "timeout": _TIMEOUT_S,
                "check_compatibility": False,
            }
        )

        def connect() -> Any:
            return QdrantClient(**server)

        return _OpenQdrant(connect, options)


def _reason(err: Exception) -> str:
    """Why, in a sentence that names no address."""
    status = getattr(err, "status_code", None)
    if status is not None:
        content = getattr(err, "content", b"") or b""
        said = content.decode(errors="replace").splitlines()[0][:300] if content else ""
        return f"Qdrant answered {status}{': ' if said else ''}{said}"
    if isinstance(err, (ValueError, KeyError)):
        return f"Qdrant refuses the points: {first_line(err)[:300]}"
    if isinstance(err, RuntimeError) and "already accessed" in str(err):
        return "Qdrant's folder (`path`) is in use: one process, and in it one collection, can have it at a time"
    root = _root(err)
    if isinstance(root, TimeoutError) or "timeout" in type(root).__name__.lower():
        return f"Qdrant did not answer within {_TIMEOUT_S} s"
    if isinstance(root, OSError):
        said = (root.strerror or getattr(root, "reason", None) or type(root).__name__).lower()
        return f"Qdrant cannot be reached: {said}"
    return f"Qdrant cannot be used ({type(root).__name__}); the callback worker's log says why"


def _root(err: BaseException) -> BaseException:
    """What an error goes back to: the client and what lies under it wrap each other's."""
    cause = getattr(err, "source", None) or err.__cause__ or err.__context__
    return err if not isinstance(cause, BaseException) else _root(cause)


PLUGIN = Qdrant()
