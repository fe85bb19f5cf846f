"""Warnings about inputs that were cut."""

from api.dialect import Answer
from api.truncation_warnings import TruncationWarning, truncation_warnings
from shared.places import QUERY
from shared.results import Truncation
from tests.helpers.outputs import hybrid_output


def _answer(*truncations: Truncation) -> Answer:
    return Answer("req-1", "m", [hybrid_output(dense=[[0.5], [1.0]], truncations=truncations)], 0.5, ["m"])


def test_a_warning_names_the_input_and_how_much_of_it_was_not_read() -> None:
    (warning,) = truncation_warnings(_answer(Truncation(1, 300, 256)), "input", side="left")

    TruncationWarning.model_validate(warning)
    assert warning == {
        "code": "input_truncated",
        "severity": "warning",
        "message": "input[1] has 300 tokens and m read 256 of them",
        "target": {"field": "input", "index": 1, "pointer": "/input/1"},
        "details": {
            "model": "m",
            "max_tokens": 256,
            "original_tokens": 300,
            "truncated_tokens": 44,
            "truncation_side": "left",
        },
    }


def test_a_query_that_was_cut_is_no_input() -> None:
    (warning,) = truncation_warnings(_answer(Truncation(QUERY, 300, 256)), "passages")

    assert warning["target"] == {"field": "query", "index": None, "pointer": "/query"}
    assert warning["message"] == "query has 300 tokens and m read 256 of them"
    assert warning["details"]["truncation_side"] == "right"


def test_what_was_read_whole_is_not_warned_of() -> None:
    assert truncation_warnings(_answer(), "input") == []


def test_each_model_warns_for_itself() -> None:
    outputs = [hybrid_output(dense=[[0.5]], truncations=[Truncation(0, n + 9, n)]) for n in (256, 512)]

    warnings = truncation_warnings(Answer("r", "a", outputs, 0.5, ["a", "b"]), "input")

    assert [(warning["details"]["model"], warning["details"]["max_tokens"]) for warning in warnings] == [
        ("a", 256),
        ("b", 512),
    ]
