"""What stands in a queue and is no task of ours: it is dropped, and the next request is answered."""

import base64
import json
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from redis import Redis

from shared.celery_message import encode_task
from shared.jobs import EmbedRequest, Task
from shared.model_config import DEFAULT_MODEL
from shared.queues import Lane, Operation, queue_name
from tests.helpers.service import Service
from tests.helpers.waiting import wait_until

QUEUE = queue_name(DEFAULT_MODEL.name, Lane.INTERACTIVE)


class _Runs:
    """What a pickle can be: a call of anything."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self._trace,)


@pytest.fixture(scope="module")
def redis(service: Service) -> Iterator[Redis]:
    """The service's own server."""
    with Redis.from_url(service.part("api").environ()["MILLRACE_REDIS_URL"]) as client:
        yield client


def _message(**changes: Any) -> dict[str, Any]:
    """A message as the gateway sends it, of which something is changed."""
    request = EmbedRequest(request_id="r", deadline=2e9, texts=["a"])
    task = Task(model=DEFAULT_MODEL.name, lane=Lane.INTERACTIVE, operation=Operation.EMBED, requests=[request])
    message: dict[str, Any] = json.loads(encode_task("hostile-1", task, origin="nobody"))
    return {**message, **changes}


def _compressed() -> dict[str, Any]:
    """A message that is right but for being compressed, which kombu would undo."""
    message = _message()
    message["body"] = base64.b64encode(zlib.compress(base64.b64decode(message["body"]))).decode()
    message["headers"]["compression"] = "application/x-gzip"
    return message


def _with_arguments(**changes: Any) -> dict[str, Any]:
    """The same with other arguments of the task."""
    message = _message()
    positional, arguments, embed = msgpack.unpackb(base64.b64decode(message["body"]))
    arguments = {**arguments, **changes}
    message["body"] = base64.b64encode(msgpack.packb((positional, arguments, embed))).decode()
    return message


def _with_request(**changes: Any) -> dict[str, Any]:
    request = {"request_id": "r", "deadline": 2e9, "texts": ["a"]}
    return _with_arguments(requests=[{**request, **changes}])


def _messages(trace: Path) -> list[bytes]:
    pickled = base64.b64encode(pickle.dumps(_Runs(trace))).decode()
    of_pickle = _message(body=pickled)
    of_pickle["content-type"] = "application/x-python-serialize"
    return [
        b"no json",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"__type__": "decimal", "__value__": "none"}',
        b'{"__type__": "anything", "__value__": 1}',
        b'{"__type__": [], "__value__": 1}',
        *(
            json.dumps(message).encode()
            for message in (
                of_pickle,
                _message(body="!"),
                _message(body=base64.b64encode(b"\xc1").decode()),
                _message(headers={}),
                _message(headers=7),
                _compressed(),
                _message(properties={}),
                _with_arguments(v=99),
                _with_arguments(requests=7),
                _with_arguments(requests=[{}]),
                _with_arguments(requests=[]),
                _with_arguments(operation="exec"),
                _with_arguments(model="../../etc"),
                _with_request(texts=[1, None]),
                _with_request(texts="text"),
                _with_request(deadline="soon"),
                _with_request(dimensions=-1),
                _with_request(kinds=["gold"]),
                _with_request(images=[b"none"]),
                _with_request(token_ids=[[2**40]]),
            )
        ),
    ]


def test_a_worker_outlives_every_message_that_is_no_task(service: Service, redis: Redis, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    worker = service.part("workers").pid

    with service.client() as client:
        for message in _messages(trace):
            redis.lpush(QUEUE, message)
            wait_until(lambda: not redis.llen(QUEUE), timeout_s=30, what="the message to be taken")
            answer = client.post("/embed", json={"inputs": "still here"}, headers={"x-request-timeout": "20"})
            assert answer.status_code == 200, message

    assert not trace.exists()
    assert service.part("workers").pid == worker
