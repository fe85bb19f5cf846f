"""Jobs whose sink could take nothing are refused when they are made: callback workers say what their sinks take."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from shared import keys
from tests.helpers.callbacks import Callbacks
from tests.helpers.gateways import BulkGateway
from tests.helpers.waiting import wait_until

DECLARED = """
sinks:
  open: {type: qdrant, url: 'https://qdrant.example'}
  fixed: {type: qdrant, url: 'https://qdrant.example', collection: docs}
  rows: {type: pgvector, url: 'postgresql://db.example/x'}
  hook: {type: webhook, url: 'https://a.example', secret: whsec_AAAA}
  unset: {type: webhook, url: 'https://a.example', secret_env: NO_SUCH_VARIABLE}
  bare: {type: webhook, url: 'https://a.example'}
  typo: {type: webhok}
  distant: {type: qdrant, url: 'https://qdrant.example', distance: Far}
"""


@pytest.fixture
def sinks_file(tmp_path: Path) -> Path:
    path = tmp_path / "sinks.yaml"
    path.write_text(DECLARED)
    return path


@pytest.fixture
def client(redis_url: str, tmp_path: Path, sinks_file: Path) -> Iterator[httpx.Client]:
    """A client of a gateway that knows the same sinks."""
    gateway = BulkGateway(redis_url, tmp_path / "store", sinks_file=sinks_file)
    gateway.start()
    with gateway.client() as client:
        yield client
    gateway.stop()


@pytest.fixture
def worker(redis_url: str, redis: Redis, tmp_path: Path, sinks_file: Path) -> Iterator[Callbacks]:
    """A callback worker that has said what its sinks take."""
    callbacks = Callbacks(redis_url, tmp_path, sinks_file=sinks_file)
    callbacks.start(workers=1)
    wait_until(lambda: redis.exists(keys.SINKS), what="the sinks' cards")
    yield callbacks
    callbacks.stop()


CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"sink": "open"}, "sink open: it needs the option `collection`; send it in `sink_options`", "sink_options"),
    ({"sink": "rows", "sink_options": {}}, "sink rows: it needs the option `table`", "sink_options"),
    (
        {"sink": "open", "sink_options": {"collection": "a", "colection": "b"}},
        "sink open takes no option 'colection' from callers; it takes collection",
        "sink_options",
    ),
    (
        {"sink": "fixed", "sink_options": {"collection": "mine"}},
        "sink fixed takes no option 'collection' from callers; it takes none",
        "sink_options",
    ),
    (
        {"sink": "hook", "sink_options": {"url": "https://b.example"}},
        "sink hook takes no option 'url' from callers; it takes none",
        "sink_options",
    ),
    ({"sink": "rows", "sink_options": {"table": 5}}, "sink rows: its option `table` must be a text", "sink_options"),
    ({"sink": "unset"}, "sink unset: `secret_env` names NO_SUCH_VARIABLE, which is not set", "sink"),
    ({"sink": "bare"}, "sink bare: it needs the option `secret`", "sink"),
    ({"sink": "typo"}, "sink typo: there is no type 'webhok'; there are: pgvector, qdrant, webhook", "sink"),
    ({"sink": "distant"}, "sink distant: its `distance` must be one of Cosine, Dot, Euclid, Manhattan", "sink"),
    (
        {"sink": "fixed", "precision": "binary"},
        "sink fixed takes numbers, and precision binary has none",
        "precision",
    ),
]
TAKEN: list[dict[str, Any]] = [
    {"sink": "open", "sink_options": {"collection": "mine"}},
    {"sink": "fixed", "precision": "int8"},
    {"sink": "rows", "sink_options": {"table": "search.documents"}},
    {"sink": "hook", "precision": "binary"},
]


def test_what_a_sink_cannot_take_is_refused_before_the_work(client: httpx.Client, worker: Callbacks) -> None:
    for options, said, param in CASES:
        refused = client.post("/v1/jobs", json=options)
        assert refused.status_code == 400, options
        assert refused.json()["error"]["message"].startswith(said)
        assert refused.json()["error"]["param"] == param
    for options in TAKEN:
        assert client.post("/v1/jobs", json=options).status_code == 201, options
    assert len(client.get("/v1/jobs").json()["data"]) == len(TAKEN)
    assert worker.log().count("sink_refused") == 4


def test_without_a_callback_worker_a_declared_sink_is_taken_as_it_is(client: httpx.Client) -> None:
    assert client.post("/v1/jobs", json={"sink": "open"}).status_code == 201
    assert client.post("/v1/jobs", json={"sink": "elsewhere"}).status_code == 400
