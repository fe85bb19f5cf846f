"""What a tenant's limit of tokens counts where it is not told in an answer: failed requests, and ingest without a job."""

import base64
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgpack
import orjson
import pytest
from redis import Redis

from shared import keys
from shared.celery_message import encode_result
from shared.jobs import EmbedRequest, Task, estimated_tokens
from shared.model_card import WorkerCard
from shared.model_config import DEFAULT_MODEL
from shared.queues import Lane, queue_name
from shared.results import Kind
from tests.helpers.fleets import card
from tests.helpers.gateway_process import GatewayProcess, gateway_process
from tests.helpers.keys_files import tenant, write_keys_file
from tests.helpers.outputs import output
from tests.helpers.waiting import wait_until

NDJSON = {"accept": "application/x-ndjson", "content-type": "application/x-ndjson"}
TEXT = "a mill " * 50
#: As the gateway estimates it, and as the worker of these tests counts it.
ESTIMATE, REAL = estimated_tokens(len(TEXT), 1), 50


@pytest.fixture
def gateway(redis_url: str, redis: Redis, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway that sees a worker, which does nothing by itself."""
    path = write_keys_file(
        tmp_path / "keys.yaml",
        tenant("hasty", "hasty-key", limits={"tokens": "1000/hour"}),
        tenant("bulky", "bulky-key", limits={"tokens": "2000/hour"}),
    )
    model = card(DEFAULT_MODEL.name, max_batch_tokens=10 * ESTIMATE, kinds=[Kind.DENSE], dimensions=1)
    worker = WorkerCard(worker="w", hostname="h", pid=1, device="cpu", state="ready", models=[model])
    redis.set(keys.worker_card("w"), worker.model_dump_json())
    redis.zadd(keys.LEASES, {"w": 4e12})
    with gateway_process(redis_url, tmp_path, {"MILLRACE_KEYS_FILE": str(path)}) as gateway:
        with gateway.client("hasty-key") as client:
            wait_until(lambda: client.get("/readyz").status_code == 200, what="the worker to be seen")
        yield gateway


@contextlib.contextmanager
def _answering(url: str, lane: Lane) -> Iterator[None]:
    """The worker answers what there is in a lane, while the block runs."""
    ended = threading.Event()

    def answer() -> None:
        with Redis.from_url(url) as redis:
            while not ended.is_set():
                if (taken := redis.brpop([queue_name(DEFAULT_MODEL.name, lane)], timeout=0.1)) is None:
                    continue
                message: dict[str, Any] = orjson.loads(taken[1])
                _, arguments, _ = msgpack.unpackb(base64.b64decode(message["body"]))
                requests = [one for one in Task.from_wire(arguments).requests if isinstance(one, EmbedRequest)]
                key = keys.result(message["headers"]["id"])
                outputs = [output([[1.0]] * one.items, tokens=REAL * one.items) for one in requests]
                value = encode_result(message["headers"]["id"], list(outputs))
                redis.set(key, value, ex=60)
                redis.publish(key, value)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _embed(client: httpx.Client, texts: int, timeout_s: float = 10) -> httpx.Response:
    return client.post("/embed", json={"inputs": [TEXT] * texts}, headers={"x-request-timeout": str(timeout_s)})


def test_what_workers_may_have_computed_is_paid_for_whoever_waited_for_it(
    redis_url: str, gateway: GatewayProcess
) -> None:
    with gateway.client("hasty-key") as client:
        # When a request is given up by its deadline, and another by its sender
        assert _embed(client, 4, timeout_s=0.1).status_code == 504
        with pytest.raises(httpx.ReadTimeout), gateway.client("hasty-key", timeout_s=0.5) as leaving:
            _embed(leaving, 4)

        # Then both are paid for by their estimates, and a third does not fit
        cost = estimated_tokens(4 * len(TEXT), 4)
        left = 1000 - 2 * cost
        wait_until(lambda: gateway.metric("millrace_pending_requests") == 0, what="both to be given up")
        assert f"{left} are left and this costs {cost}" in _embed(client, 4).json()["error"]

        # And what is answered costs what it is
        with _answering(redis_url, Lane.INTERACTIVE):
            assert _embed(client, 2).status_code == 200
        wait_until(lambda: f"{left - 2 * REAL} are left" in _embed(client, 10).json()["error"], what="the real number")


def test_documents_on_the_same_connection_are_paid_for_in_groups(redis_url: str, gateway: GatewayProcess) -> None:
    documents = b"".join(orjson.dumps({"id": str(number), "text": TEXT}) + b"\n" for number in range(100))
    group, limit = 10, 2000

    with gateway.client("bulky-key") as client, _answering(redis_url, Lane.BULK):
        answer = client.post("/v1/ingest", content=documents, headers=NDJSON)

        # As many groups as the limit holds are answered, and then it is said why there are no more
        lines = [orjson.loads(line) for line in answer.content.splitlines() if line]
        *vectors, last = lines
        assert answer.status_code == 200
        assert last["object"] == "error"
        assert last["error"]["code"] == "rate_limit_exceeded"
        assert limit // (group * ESTIMATE) * group <= len(vectors) <= limit // REAL
        assert last["documents"] == len(vectors)
        assert last["tokens"] == len(vectors) * REAL

        # What is left is what was not used
        left = f"{limit - len(vectors) * REAL} are left"
        wait_until(lambda: left in _embed(client, 50).json()["error"], what="the real numbers")


def test_who_has_used_all_up_cannot_begin_to_ingest(gateway: GatewayProcess) -> None:
    with gateway.client("hasty-key") as client:
        assert _embed(client, 20, timeout_s=0.1).status_code == 504  # more than a whole limit takes a whole one

        answer = client.post("/v1/ingest", content=b'{"text": "a mill"}\n', headers=NDJSON)

        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert answer.headers["x-ratelimit-remaining-tokens"] == "0"
