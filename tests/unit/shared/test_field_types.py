"""Fields of messages: what is of the declared type passes, and nothing else."""

from dataclasses import fields
from typing import Any

import pytest

from shared.field_types import checks_of, wrong_field
from shared.jobs import (
    ClassifyRequest,
    ContractMismatch,
    DecodeRequest,
    EmbedRequest,
    RerankRequest,
    Task,
    TokenizeRequest,
)
from shared.queues import Lane, Operation

REQUESTS = {
    Operation.EMBED: EmbedRequest(request_id="r", deadline=1, texts=["a"], images=[None, b"x"], token_ids=[[1], []]),
    Operation.RERANK: RerankRequest(request_id="r", deadline=1.5, query="q", documents=["a"]),
    Operation.CLASSIFY: ClassifyRequest(request_id="r", deadline=1.5, texts=["a"], seconds=[None, "b"]),
    Operation.TOKENIZE: TokenizeRequest(request_id="r", deadline=1.5, texts=["a"]),
    Operation.DECODE: DecodeRequest(request_id="r", deadline=1.5, ids=[[1, 2]]),
}


@pytest.mark.parametrize("operation", Operation)
def test_a_request_as_it_is_made_passes(operation: Operation) -> None:
    request = REQUESTS[operation]

    assert wrong_field(request, checks_of(type(request))) is None


@pytest.mark.parametrize("operation", Operation)
def test_a_value_of_a_type_that_no_field_has_is_refused_in_every_field(operation: Operation) -> None:
    task = Task(model="m", lane=Lane.INTERACTIVE, operation=operation, requests=[REQUESTS[operation]])
    for field in fields(REQUESTS[operation]):
        wire = task.to_wire()
        wire["requests"][0][field.name] = {"of": "another type"}

        with pytest.raises(ContractMismatch, match=f"`{field.name}` of a request"):
            Task.from_wire(wire)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("texts", "a"),
        ("texts", ["a", None]),
        ("texts", ["a", b"b"]),
        ("deadline", True),
        ("dimensions", 1.5),
        ("truncate", 1),
        ("images", ["a"]),
        ("token_ids", [[1], "2"]),
        ("token_ids", [[1, None]]),
    ],
)
def test_what_is_nearly_right_is_refused_too(name: str, value: Any) -> None:
    task = Task(model="m", lane=Lane.BULK, operation=Operation.EMBED, requests=[REQUESTS[Operation.EMBED]])
    wire = task.to_wire()
    wire["requests"][0][name] = value

    with pytest.raises(ContractMismatch):
        Task.from_wire(wire)
