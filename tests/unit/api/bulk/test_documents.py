"""What a line of input says."""

import msgpack
import orjson
import pytest

from api.bulk.documents import Document, embed_request, parse
from shared.bulk.jobs import EmbedOptions
from shared.results import Precision


def test_a_document_has_id_text_and_metadata() -> None:
    line = orjson.dumps({"id": "a-1", "text": "zwei ✓", "metadata": {"page": [1, 2]}, "title": "not ours"})
    assert parse(line) == Document("a-1", "zwei ✓", {"page": [1, 2]})


@pytest.mark.parametrize("own_id", [7, -(2**63), 2**64 - 1, "", "x", None])
def test_ids_are_texts_and_whole_numbers_and_need_not_be(own_id: object) -> None:
    assert parse(orjson.dumps({"id": own_id, "text": "x"})) == Document(own_id, "x")  # type: ignore[arg-type]


def test_windows_line_ends_and_byte_order_marks_are_read() -> None:
    assert parse(b'\xef\xbb\xbf{"text": "x"}\r') == Document(None, "x")


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        (b"{", "invalid_json", "the line is not JSON: "),
        (b"\xff", "invalid_json", "the line is not JSON: "),
        (b'{"text": "\\ud800"}', "invalid_json", "the line is not JSON: "),
        (b"[1]", "invalid_request", 'the line must be an object: {"id": ..., "text": ...}'),
        (b"{}", "invalid_request", "the document has no `text`"),
        (b'{"text": null}', "invalid_request", "the document has no `text`"),
        (b'{"text": ["x"]}', "invalid_request", "`text` must be a text"),
        (b'{"text": ""}', "empty_input", "`text` cannot be empty"),
        (b'{"id": 1.5, "text": "x"}', "invalid_request", "`id` must be a text, a whole number or absent"),
        (b'{"id": true, "text": "x"}', "invalid_request", "`id` must be a text, a whole number or absent"),
        (b'{"id": [1], "text": "x"}', "invalid_request", "`id` must be a text, a whole number or absent"),
        (b'{"$too_long":2000000}', "body_too_large", "the line of 2000000 bytes is too long for a document"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(line: bytes, code: str, sentence: str) -> None:
    error = parse(line).error
    assert error is not None
    assert error.code == code
    assert error.message.startswith(sentence)
    assert not error.retryable


def test_a_bad_document_keeps_its_id_and_metadata() -> None:
    document = parse(b'{"id": 7, "metadata": "m"}')
    assert (document.id, document.metadata, document.text) == (7, "m", "")
    assert document.error is not None


def test_metadata_that_could_not_be_written_down_again_is_refused() -> None:
    deep = parse(b'{"id": 1, "text": "x", "metadata": ' + b"[" * 900 + b"]" * 900 + b"}")
    assert deep.error is not None
    assert deep.error.message == "`metadata` is nested deeper than 64"
    assert deep.metadata is None

    allowed = parse(b'{"text": "[[[", "metadata": ' + b"[" * 64 + b"]" * 64 + b"}")
    assert allowed.error is None
    assert msgpack.unpackb(msgpack.packb(allowed.metadata)) == orjson.loads(orjson.dumps(allowed.metadata))


def test_the_request_is_what_the_job_wants() -> None:
    options = EmbedOptions(
        kinds=["dense", "sparse"], dimensions=8, normalize=False, truncate=False, precision=Precision.INT8
    )
    request = embed_request(["a", "b"], options, request_id="r", deadline=9.0)
    assert (request.texts, request.kinds, request.dimensions) == (["a", "b"], ["dense", "sparse"], 8)
    assert (request.normalize, request.truncate, request.precisions) == (False, False, [Precision.INT8])
    assert (request.input_type, request.request_id, request.deadline) == ("document", "r", 9.0)


def test_dimensions_are_of_dense_vectors_only() -> None:
    options = EmbedOptions(kinds=["sparse"], dimensions=8)
    assert embed_request(["a"], options, request_id="r", deadline=9.0).dimensions is None
