"""Tasks on the wire: what a gateway packs is what a worker reads."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import CONTRACT_VERSION
from shared.jobs import (
    ClassifyRequest,
    ContractMismatch,
    DecodeRequest,
    EmbedRequest,
    RerankRequest,
    Task,
    TokenizeRequest,
    operation_of,
)
from shared.queues import Lane, Operation

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
DEADLINES = st.floats(min_value=0, max_value=4e9)

EMBEDS = st.builds(
    EmbedRequest,
    request_id=st.text("abcdef0123456789-", min_size=1, max_size=32),
    deadline=DEADLINES,
    texts=st.lists(TEXTS, max_size=5),
    truncate=st.booleans(),
    truncation_side=st.sampled_from(["right", "left"]),
    normalize=st.booleans(),
    dimensions=st.none() | st.integers(1, 4096),
    prompt_names=st.lists(TEXTS, max_size=2),
)
RERANKS = st.builds(
    RerankRequest,
    request_id=st.text("abcdef0123456789-", min_size=1, max_size=32),
    deadline=DEADLINES,
    query=TEXTS,
    documents=st.lists(TEXTS, max_size=5),
    truncate=st.booleans(),
    raw_scores=st.booleans(),
)
CLASSIFIES = st.builds(
    ClassifyRequest,
    request_id=st.text("abcdef0123456789-", min_size=1, max_size=32),
    deadline=DEADLINES,
    texts=st.lists(TEXTS, max_size=5),
    seconds=st.none() | st.lists(TEXTS, max_size=5),
    truncate=st.booleans(),
    raw_scores=st.booleans(),
)


TOKENIZES = st.builds(
    TokenizeRequest,
    request_id=st.text("abcdef0123456789-", min_size=1, max_size=32),
    deadline=DEADLINES,
    texts=st.lists(TEXTS, max_size=5),
    add_special_tokens=st.booleans(),
    prompt_name=st.none() | TEXTS,
)
DECODES = st.builds(
    DecodeRequest,
    request_id=st.text("abcdef0123456789-", min_size=1, max_size=32),
    deadline=DEADLINES,
    ids=st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=5), max_size=3),
    skip_special_tokens=st.booleans(),
)


def _tasks(operation: Operation) -> st.SearchStrategy[Task]:
    strategies = {
        Operation.EMBED: EMBEDS,
        Operation.RERANK: RERANKS,
        Operation.CLASSIFY: CLASSIFIES,
        Operation.TOKENIZE: TOKENIZES,
        Operation.DECODE: DECODES,
    }
    requests: st.SearchStrategy[Any] = strategies[operation]
    return st.builds(
        Task,
        model=st.sampled_from(["m", "org/model-v1.5", "a:b@c+d"]),
        lane=st.sampled_from(Lane),
        operation=st.just(operation),
        requests=st.lists(requests, min_size=1, max_size=4),
    )


def _over_the_wire(wire: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = msgpack.unpackb(msgpack.packb(wire, use_bin_type=True), raw=False)
    return data


@given(st.sampled_from(Operation).flatmap(_tasks))
def test_a_task_survives_the_wire_whatever_its_texts_hold(task: Task) -> None:
    # When it travels as the message's body does
    received = Task.from_wire(_over_the_wire(task.to_wire()))

    # Then nothing has changed
    assert received == task


def test_fields_of_a_newer_gateway_are_ignored() -> None:
    # Given a request with a field that this version does not know
    task = _example_task()
    wire = _over_the_wire(task.to_wire())
    wire["requests"][0]["colour"] = "green"
    wire["priority"] = 3

    # Then it is read all the same
    assert Task.from_wire(wire) == task


def test_fields_that_an_older_gateway_does_not_send_take_their_defaults() -> None:
    # Given a request that holds only what the first version had to send
    wire = _example_task().to_wire()
    wire["requests"] = [{"request_id": "r", "deadline": 1.0, "texts": ["a"]}]

    # When
    request = Task.from_wire(wire).requests[0]

    # Then
    assert request == EmbedRequest(request_id="r", deadline=1.0, texts=["a"])


def test_traces_of_requests_travel_and_cost_nothing_where_there_are_none() -> None:
    # Given a task of two requests, of which one is traced
    plain = _example_task()
    task = replace(plain, requests=[*plain.requests] * 2, traceparents=["", "00-1-2-01"], published_at=1.5)

    # Then
    assert Task.from_wire(_over_the_wire(task.to_wire())) == task
    assert not {"traceparents", "published_at"} & plain.to_wire().keys()


@pytest.mark.parametrize("parents", ["00-1-2-01", [], ["a", "b"], [7], [None], {"a": 1}])
@pytest.mark.parametrize("published_at", [1.5, None, "now"])
def test_traces_that_are_none_are_ignored_and_the_task_is_run(parents: object, published_at: object) -> None:
    task = _example_task()
    wire = {**_over_the_wire(task.to_wire()), "traceparents": parents, "published_at": published_at}

    assert Task.from_wire(wire) == task


@pytest.mark.parametrize("version", [0, CONTRACT_VERSION + 1, "1", None])
def test_a_task_of_another_contract_version_is_refused(version: object) -> None:
    wire = {**_example_task().to_wire(), "v": version}

    with pytest.raises(ContractMismatch, match="upgrade the older side"):
        Task.from_wire(wire)


def test_an_operation_belongs_to_each_kind_of_request() -> None:
    embed = EmbedRequest(request_id="r", deadline=0, texts=["a"])
    rerank = RerankRequest(request_id="r", deadline=0, query="q", documents=["d"])

    assert operation_of(embed) is Operation.EMBED
    assert operation_of(rerank) is Operation.RERANK
    assert operation_of(ClassifyRequest(request_id="r", deadline=0, texts=["a"])) is Operation.CLASSIFY
    assert operation_of(TokenizeRequest(request_id="r", deadline=0, texts=["a"])) is Operation.TOKENIZE
    assert operation_of(DecodeRequest(request_id="r", deadline=0, ids=[[1]])) is Operation.DECODE


def test_sizes_are_counted_in_items_and_characters() -> None:
    embed = EmbedRequest(request_id="r", deadline=0, texts=["ab", "cde"])
    rerank = RerankRequest(request_id="r", deadline=0, query="query", documents=["d", "ee"])

    tokenize = TokenizeRequest(request_id="r", deadline=0, texts=["ab", ""])
    decode = DecodeRequest(request_id="r", deadline=0, ids=[[7, 8], [9]])

    assert (embed.items, embed.characters) == (2, 5)
    assert rerank.items == 2
    assert (tokenize.items, tokenize.characters) == (2, 2)
    assert (decode.items, decode.characters) == (2, 3)


@given(st.sampled_from(Operation).flatmap(_tasks))
def test_the_summary_that_flower_shows_never_holds_a_text(task: Task) -> None:
    summary = task.summary()

    items = sum(request.items for request in task.requests)
    assert summary == f"lane={task.lane} requests={len(task.requests)} items={items} model={task.model}"


def _example_task() -> Task:
    request = EmbedRequest(request_id="r", deadline=1.0, texts=["a"], prompt_names=[])
    return Task(model="m", lane=Lane.BULK, operation=Operation.EMBED, requests=[request])
