"""Lines of a batch: what they ask for, how they are answered, and what can be wrong with a file of them."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bulk import batch_lines
from api.bulk.validation import checked_lines, faults
from shared.bulk.jobs import JobError

ENDPOINT = "/v1/embeddings"


def line(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A good line; a change to None takes a field away."""
    whole = {"custom_id": f"c{number}", "method": "POST", "url": ENDPOINT, "body": {"input": "a"}, **changes}
    return {name: value for name, value in whole.items() if value is not None}


def found(*lines: Any, most_lines: int = 100, most_line_bytes: int = 1000) -> list[JobError]:
    """What is wrong with a file of these lines, objects or bytes."""
    data = b"\n".join(entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in lines)
    return list(faults([data], ENDPOINT, most_lines=most_lines, most_line_bytes=most_line_bytes))


def test_a_body_wins_over_the_batch_s_request_params() -> None:
    stored = batch_lines.numbered(json.dumps(line(body={"input": "a", "model": "own"})).encode(), 12)

    parsed = batch_lines.parse(stored, {"model": "default", "dimensions": 8})

    assert stored.endswith(b"}\n")
    assert (parsed.custom_id, parsed.line) == ("c0", 12)
    assert parsed.body == {"input": "a", "model": "own", "dimensions": 8}


def test_an_answer_is_a_response_without_an_error() -> None:
    rendered = batch_lines.render(batch_lines.BatchLine("c0", {}, 7), 200, "abc", b'{"data":[0.5]}')

    assert rendered.endswith(b"}\n")
    assert rendered.count(b"\n") == 1
    assert json.loads(rendered) == {
        "id": "batch_req_abc",
        "custom_id": "c0",
        "response": {"status_code": 200, "request_id": "abc", "body": {"data": [0.5]}},
        "error": None,
    }


def test_a_line_that_failed_with_a_status_has_a_response_too() -> None:
    request = batch_lines.BatchLine("c0", {}, 7)
    rendered = json.loads(batch_lines.render(request, 404, "abc", b'{"error":{"code":"model_not_found"}}'))

    assert rendered["line"] == 7
    assert rendered["response"]["status_code"] == 404
    assert rendered["response"]["body"]["error"]["code"] == "model_not_found"
    assert rendered["error"] is None


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled", "batch_failed"])
def test_lines_that_were_never_run_have_an_error_and_no_response(code: batch_lines.NeverRun) -> None:
    segment = b"".join(batch_lines.numbered(json.dumps(line(number)).encode(), number + 5) for number in range(3))

    rendered = [json.loads(entry) for entry in batch_lines.render_never_run(segment, code)]

    assert [(entry["custom_id"], entry["line"]) for entry in rendered] == [("c0", 5), ("c1", 6), ("c2", 7)]
    assert all(entry["response"] is None and entry["error"]["code"] == code for entry in rendered)
    assert all(entry["error"]["message"] for entry in rendered)
    assert len({entry["id"] for entry in rendered}) == 3


def test_a_good_file_has_no_faults() -> None:
    assert not found(line(0), b"", line(1), b"  \t\r", {"custom_id": "voyage", "body": {}})


@pytest.mark.parametrize(
    ("second", "code", "param"),
    [
        (b'{"custom_id": "c1", ', "invalid_json_line", None),
        (b"[1, 2]", "invalid_json_line", None),
        (b'{"custom_id": "c1", "body": ' + b"[" * 300 + b"]" * 300 + b"}", "invalid_json_line", None),
        (b'{"custom_id": "\xff"}', "invalid_json_line", None),
        (line(1, custom_id=None), "missing_required_parameter", "custom_id"),
        (line(1, method=None), "missing_required_parameter", "method"),
        (line(1, url=None), "missing_required_parameter", "url"),
        (line(1, body=None), "missing_required_parameter", "body"),
        (line(1, custom_id=7), "invalid_custom_id", "custom_id"),
        (line(1, custom_id=""), "invalid_custom_id", "custom_id"),
        (line(1, custom_id="c0"), "duplicate_custom_id", "custom_id"),
        (line(1, method="GET"), "invalid_method", "method"),
        (line(1, url="/v1/rerank"), "invalid_url", "url"),
        (line(1, url=5), "invalid_url", "url"),
        (line(1, body=["a"]), "invalid_body", "body"),
        (b'{"custom_id": "' + b"x" * 1000 + b'"}', "invalid_json_line", None),
    ],
    ids=str,
)
def test_a_fault_is_told_with_its_code_its_field_and_its_line(second: Any, code: str, param: str | None) -> None:
    (error,) = found(line(0), b"", second)

    assert (error.code, error.param, error.line) == (code, param, 3)
    assert error.message


def test_a_line_may_have_several_faults() -> None:
    errors = found(line(0, method="PUT", url="/elsewhere", body=5))

    assert [(error.code, error.line) for error in errors] == [
        ("invalid_method", 1),
        ("invalid_url", 1),
        ("invalid_body", 1),
    ]


@pytest.mark.parametrize("file", [b"", b"\n\n", b"\xef\xbb\xbf \r\n"])
def test_a_file_without_lines_is_empty(file: bytes) -> None:
    (error,) = found(file)

    assert (error.code, error.line) == ("empty_file", None)


def test_a_file_may_have_as_many_lines_as_are_allowed_and_no_more() -> None:
    assert not found(*map(line, range(3)), most_lines=3)

    (error,) = found(*map(line, range(5)), most_lines=3)
    assert (error.code, error.line) == ("too_many_tasks", 4)


def test_a_line_without_an_end_is_not_read_to_the_end() -> None:
    blocks = 0

    def endless() -> Iterator[bytes]:
        nonlocal blocks
        while True:
            blocks += 1
            yield b"x" * 1000

    (error,) = faults(endless(), ENDPOINT, most_lines=10, most_line_bytes=5000)

    assert (error.code, error.line) == ("invalid_json_line", 1)
    assert blocks < 10


@given(st.lists(st.binary(max_size=12).map(lambda data: data.translate(None, b"\n\xef"))), st.integers(1, 7))
def test_a_file_is_cut_into_the_same_lines_however_it_is_read(lines: list[bytes], block_bytes: int) -> None:
    data = b"\n".join(lines)

    cut = list(checked_lines(data[at : at + block_bytes] for at in range(0, len(data), block_bytes)))

    assert cut == list(checked_lines([data]))
    assert cut == [(number, entry.strip()) for number, entry in enumerate(lines, 1) if entry.strip()]
