"""The error tree: every class has what a dialect needs, and keeps its meaning on the wire."""

import importlib
import pkgutil

import pytest

import shared
from shared.errors import InputTooLong, MillraceError, WorkerLost, from_wire
from shared.places import QUERY, called

for _module in pkgutil.iter_modules(shared.__path__):
    importlib.import_module(f"shared.{_module.name}")  # so that errors defined beside their subject are in the tree


def _tree(root: type[MillraceError]) -> list[type[MillraceError]]:
    return [root, *(found for child in root.__subclasses__() for found in _tree(child))]


ALL = _tree(MillraceError)
each_error = pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)


def test_every_code_belongs_to_one_class() -> None:
    codes = [error.code for error in ALL]

    assert len(set(codes)) == len(codes)


@each_error
def test_an_error_has_a_snake_case_code_an_http_status_and_a_sentence(error: type[MillraceError]) -> None:
    assert error.code.replace("_", "").isalpha()
    assert error.code == error.code.lower()
    assert 400 <= error.status < 600
    assert error().message.endswith(".")
    assert "\n" not in error().message


@each_error
def test_a_client_error_is_retryable_only_when_the_service_is_to_blame(error: type[MillraceError]) -> None:
    if error.retryable:
        # 409: what was sent before is still under way.
        assert error.status in {409, 429, 503, 504}


@each_error
def test_an_error_survives_the_wire_with_its_class_message_and_param(error: type[MillraceError]) -> None:
    # Given
    sent = error("the sentence, with ünïcode", param="query")

    # When
    received = from_wire(sent.to_wire())

    # Then
    assert type(received) is error
    assert (received.message, received.param) == (sent.message, "query")
    assert str(received) == sent.message


@each_error
def test_an_error_without_a_message_says_its_own_sentence(error: type[MillraceError]) -> None:
    assert from_wire({"code": error.code}).message == (error.__doc__ or "").strip()


def test_an_unknown_code_of_a_newer_worker_becomes_a_plain_error_that_keeps_the_message() -> None:
    # When
    received = from_wire({"code": "flux_capacitor_empty", "message": "refuel", "param": None})

    # Then
    assert type(received) is MillraceError
    assert (received.code, received.status, received.message) == ("internal_error", 500, "refuel")


def test_fields_of_a_newer_worker_are_ignored() -> None:
    received = from_wire({"code": "worker_lost", "message": "gone", "param": None, "hint": "buy a second worker"})

    assert type(received) is WorkerLost


def test_an_error_about_one_of_a_parts_inputs_is_about_one_of_the_whole() -> None:
    # Given a part of a request that begins with its eighty-ninth input
    received = from_wire(InputTooLong(f"{called(10)} has 302 tokens", index=10).to_wire())

    # When
    whole = received.moved(89)

    # Then its sender reads his own word for it
    assert (whole.message, whole.index) == ("input 99 has 302 tokens", 99)
    named = whole.named("`documents[99]`", "documents")
    assert (named.message, named.param) == ("`documents[99]` has 302 tokens", "documents")


def test_every_part_has_the_same_query() -> None:
    error = InputTooLong(f"{called(QUERY)} alone fills the model", index=QUERY)

    assert error.moved(89).named("`query`", "query").message == "`query` alone fills the model"


def test_an_error_that_is_about_no_input_stays_as_it_is() -> None:
    error = WorkerLost("gone", param="input")

    assert error.moved(89) is error
    assert error.named("`input[3]`") is error
