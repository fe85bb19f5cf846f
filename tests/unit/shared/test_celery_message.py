"""Result entries: what a gateway makes of each state that Celery writes."""

import base64
from typing import Any

import msgpack
import orjson
import pytest

from shared.celery_message import (
    Progress,
    decode_result,
    encode_failure,
    encode_progress,
    encode_result,
    encode_task,
)
from shared.errors import DeadlineExceeded, InferenceFailed, Unavailable, WorkerLost
from shared.jobs import EmbedRequest, Task
from shared.queues import Lane, Operation
from shared.results import Output, Reply


def test_replies_survive_a_result_entry() -> None:
    replies: list[Reply] = [Output(shape=(1, 2), data=b"\0\0\x80?\0\0\0\0", tokens=4)]

    assert decode_result(encode_result("gw-1", replies)) == replies


def test_an_error_survives_a_failure_entry() -> None:
    outcome = decode_result(encode_failure("gw-1", WorkerLost("three workers died")))

    assert isinstance(outcome, WorkerLost)
    assert outcome.message == "three workers died"


def test_what_is_done_of_a_task_survives_a_result_entry_with_its_positions() -> None:
    replies: dict[int, Reply] = {
        3: Output(shape=(1, 2), data=b"\0\0\x80?\0\0\0\0", tokens=4),
        1: WorkerLost("three workers died"),
    }

    progress = decode_result(encode_progress("gw-1", replies))

    assert isinstance(progress, Progress)
    assert list(progress.replies) == [3, 1]
    assert progress.replies[3] == replies[3]
    assert isinstance(progress.replies[1], WorkerLost)


@pytest.mark.parametrize("status", ["PENDING", "RECEIVED", "STARTED", "RETRY", "PROGRESS"])
def test_a_task_that_still_runs_has_no_outcome(status: str) -> None:
    assert decode_result(_entry(status, None)) is None


@pytest.mark.parametrize("result", [{"exc_type": "TaskRevokedError", "exc_message": ["expired"]}, "expired"])
def test_a_task_that_celery_found_expired_exceeded_its_deadline(result: object) -> None:
    assert isinstance(decode_result(_entry("REVOKED", result)), DeadlineExceeded)


@pytest.mark.parametrize("result", [{"exc_type": "TaskRevokedError", "exc_message": ["revoked"]}, "terminated", None])
def test_a_revoked_task_may_be_tried_again(result: object) -> None:
    outcome = decode_result(_entry("REVOKED", result))

    assert isinstance(outcome, Unavailable)
    assert outcome.retryable


def test_a_failure_that_is_not_ours_names_its_exception_and_shows_no_text_of_it() -> None:
    # Given what Celery writes when a task could not be run
    result = {"exc_type": "ContractMismatch", "exc_message": ["secret text"], "exc_module": "shared.jobs"}

    # When
    outcome = decode_result(_entry("FAILURE", result))

    # Then
    assert isinstance(outcome, InferenceFailed)
    assert "ContractMismatch" in outcome.message
    assert "secret" not in outcome.message


def test_a_message_shows_no_text_outside_its_body() -> None:
    # Given
    request = EmbedRequest(request_id="r", deadline=1e9, texts=["a very private text"])
    task = Task(model="m", lane=Lane.INTERACTIVE, operation=Operation.EMBED, requests=[request])

    # When
    message = orjson.loads(encode_task("gw-1", task, origin="gw"))
    body = base64.b64decode(message.pop("body"))

    # Then the body holds it, and nothing that Flower or a log would show does
    assert b"private" in body
    assert b"private" not in orjson.dumps(message)


def test_a_task_expires_with_the_last_of_its_requests() -> None:
    # Given two requests, the first of which gives up earlier
    requests = [EmbedRequest(request_id=str(deadline), deadline=deadline, texts=["a"]) for deadline in (1e9, 2e9)]
    task = Task(model="m", lane=Lane.INTERACTIVE, operation=Operation.EMBED, requests=requests)

    # When
    headers = orjson.loads(encode_task("gw-1", task, origin="gw"))["headers"]

    # Then
    assert headers["expires"] == "2033-05-18T03:33:20+00:00"


def _entry(status: str, result: Any) -> bytes:
    meta = {"status": status, "result": result, "traceback": None, "children": [], "task_id": "gw-1"}
    packed: bytes = msgpack.packb(meta)
    return packed
