"""What a dead letter says of each kind of request: hashes that an operator can compute, and no text."""

import subprocess
from hashlib import sha256

import pytest

from shared.celery_message import encode_task
from shared.dead_letters import DeadInputs, inputs_of, of_task
from shared.jobs import ClassifyRequest, DecodeRequest, EmbedRequest, Request, RerankRequest, Task, TokenizeRequest
from shared.places import QUERY
from shared.queues import Lane, Operation


def _hashes(*parts: bytes) -> list[str]:
    return [sha256(part).hexdigest() for part in parts]


def _embed(texts: list[str], **fields: object) -> EmbedRequest:
    return EmbedRequest(request_id="r", deadline=2e9, texts=texts, **fields)  # type: ignore[arg-type]


REQUESTS: list[tuple[Request, list[bytes]]] = [
    (_embed(["one", "zwei ✓"]), [b"one", "zwei ✓".encode()]),
    (_embed(["", "two"], images=[b"\x89PNG", None]), [b"\x89PNG", b"two"]),
    (_embed(["", "two"], token_ids=[[101, 2023, 102], None]), [b"[101,2023,102]", b"two"]),
    (RerankRequest(request_id="r", deadline=2e9, query="q", documents=["a", "b"]), [b"q", b"a", b"b"]),
    (
        ClassifyRequest(request_id="r", deadline=2e9, texts=["a", "b"], seconds=["second", None]),
        [b"a", b"second", b"b"],
    ),
    (TokenizeRequest(request_id="r", deadline=2e9, texts=["a"]), [b"a"]),
    (DecodeRequest(request_id="r", deadline=2e9, ids=[[1, 2], [3]]), [b"[1,2]", b"[3]"]),
]


@pytest.mark.parametrize(("request_", "parts"), REQUESTS)
def test_each_kind_of_input_has_its_own_hash(request_: Request, parts: list[bytes]) -> None:
    found = inputs_of(request_)

    assert (found.request_id, found.inputs, found.sha256) == ("r", request_.items, _hashes(*parts))


def test_the_hash_is_the_one_that_sha256sum_prints() -> None:
    printed = subprocess.run(
        "printf %s 'zwei ✓' | sha256sum", shell=True, capture_output=True, check=True, text=True
    ).stdout

    assert inputs_of(_embed(["zwei ✓"])).sha256 == [printed.split()[0]]


def test_of_many_inputs_the_first_sixteen_are_named() -> None:
    texts = [f"text {number}" for number in range(40)]

    found = inputs_of(_embed(texts))

    assert found.inputs == 40
    assert found.sha256 == _hashes(*[text.encode() for text in texts[:16]])


def test_a_single_input_is_named_alone_a_document_with_its_query() -> None:
    rerank = RerankRequest(request_id="r", deadline=2e9, query="q", documents=["a", "b"])

    assert inputs_of(_embed(["one", "two"]), 1) == DeadInputs(request_id="r", inputs=2, input=1, sha256=_hashes(b"two"))
    assert inputs_of(rerank, 1).sha256 == _hashes(b"q", b"b")
    assert inputs_of(rerank, QUERY).sha256 == _hashes(b"q")


def test_a_letter_names_every_request_of_its_task_and_holds_no_text() -> None:
    # Given
    requests = [EmbedRequest(request_id=f"r{number}", deadline=2e9, texts=[f"secret {number}"]) for number in range(3)]
    task = Task(model="m", lane=Lane.BULK, operation=Operation.EMBED, requests=requests)

    # When
    letter = of_task("gw-1", "queue", encode_task("gw-1", task, origin="gw"), worker="w", deaths=3)

    # Then
    assert (letter.model, letter.lane, letter.deaths) == ("m", "bulk", 3)
    assert [request.request_id for request in letter.requests] == ["r0", "r1", "r2"]
    assert "secret" not in letter.model_dump_json()


@pytest.mark.parametrize("message", [b"", b"{}", b'{"body": "x"}', b'{"body": "kA=="}', b'{"body": 1}'])
def test_what_cannot_be_read_has_a_letter_all_the_same(message: bytes) -> None:
    letter = of_task("gw-1", "queue", message, worker="w", deaths=3)

    assert (letter.task, letter.queue, letter.requests) == ("gw-1", "queue", [])
