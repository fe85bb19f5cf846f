"""A request's trace, from the caller's span through gateway and queue to the worker's batch, at a real OTLP receiver."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.helpers.otlp import Collector, ReceivedSpan, running_collector
from tests.helpers.service import Service
from tests.helpers.waiting import wait_until

#: Of a caller who traces, and of one who has decided that this one is not kept.
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"  # pragma: allowlist secret
STAGES = {"queue", "batch", "reply"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    service = Service(
        tmp_path_factory.mktemp("tracing"),
        # Spans leave after a fifth of a second instead of five.
        {"MILLRACE_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200", "MILLRACE_LOG_FORMAT": "json"},
    )
    service.start()
    yield service
    service.stop()


def _embed(service: Service, text: str, traceparent: str | None = None) -> httpx.Response:
    headers = {} if traceparent is None else {"traceparent": traceparent}
    with service.client() as client:
        return client.post("/embed", json={"inputs": text}, headers={"x-request-id": text, **headers})


def _spans_of(collector: Collector, request_id: str) -> dict[str, ReceivedSpan]:
    """All spans in the trace of a request, once they are there."""

    def found() -> dict[str, ReceivedSpan]:
        own = [span for span in collector.spans if span.attributes.get("millrace.request_id") == request_id]
        return {span.name: span for span in own}

    wait_until(lambda: {"POST /embed", *STAGES} <= set(found()), timeout_s=20, what=f"the spans of {request_id}")
    return found()


def test_the_trace_of_a_request_shows_gateway_queue_batch_and_reply_across_two_processes(
    service: Service, collector: Collector
) -> None:
    # When a caller who traces asks
    assert _embed(service, "traced", f"00-{TRACE}-{SPAN}-01").status_code == 200

    # Then everything is in the caller's trace, one after the other, below the gateway's span
    spans = _spans_of(collector, "traced")
    gateway, queue, batch, reply = (spans[name] for name in ("POST /embed", "queue", "batch", "reply"))
    assert {span.trace_id for span in spans.values()} == {TRACE}
    assert gateway.parent_id == SPAN
    assert {span.parent_id for span in (queue, batch, reply)} == {gateway.span_id}
    assert gateway.service == "millrace-gateway"
    assert {span.service for span in (queue, batch, reply)} == {"millrace-worker"}
    assert gateway.start_ns <= queue.start_ns <= queue.end_ns == batch.start_ns
    assert batch.start_ns < batch.end_ns == reply.start_ns <= reply.end_ns

    # And it says what it was, and never the text
    assert gateway.attributes["http.response.status_code"] == 200
    assert gateway.attributes["http.route"] == "/embed"
    assert batch.attributes["millrace.model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert batch.attributes["millrace.items"] == 1
    assert batch.attributes["millrace.tokens"] > 0

    # And the forward pass and the batch lead to each other
    ((trace_id, span_id),) = batch.links
    wait_until(lambda: trace_id in {span.trace_id for span in collector.spans}, what="the forward pass")
    (forward,) = (span for span in collector.spans if span.span_id == span_id)
    assert forward.name == "forward pass"
    assert (TRACE, gateway.span_id) in forward.links


def test_a_request_without_a_trace_begins_one_that_its_log_line_names(service: Service, collector: Collector) -> None:
    assert _embed(service, "begins").status_code == 200

    spans = _spans_of(collector, "begins")
    gateway = spans["POST /embed"]
    assert gateway.parent_id == ""
    (line,) = (line for line in service.log().splitlines() if '"request_answered"' in line and '"begins"' in line)
    assert json.loads(line)["trace_id"] == gateway.trace_id


def test_requests_that_share_a_batch_are_all_linked_to_it(service: Service, collector: Collector) -> None:
    # When many ask at once
    names = [f"together-{number}" for number in range(24)]
    with ThreadPoolExecutor(24) as pool:
        assert {answer.status_code for answer in pool.map(lambda name: _embed(service, name), names)} == {200}

    # Then each has its own trace, and some forward pass belonged to several of them
    spans = {name: _spans_of(collector, name) for name in names}
    gateways = {(one["POST /embed"].trace_id, one["POST /embed"].span_id) for one in spans.values()}
    assert len({trace_id for trace_id, _ in gateways}) == len(names)

    def linked() -> list[set[tuple[str, str]]]:
        passes = [span for span in collector.spans if span.name == "forward pass"]
        return [set(span.links) & gateways for span in passes]

    wait_until(lambda: set().union(*linked()) == gateways, timeout_s=20, what="all forward passes")
    assert max(map(len, linked())) > 1


def test_a_trace_that_its_caller_does_not_keep_is_not_kept(service: Service, collector: Collector) -> None:
    unkept = "5" * 32
    assert _embed(service, "unkept", f"00-{unkept}-{SPAN}-00").status_code == 200

    # Then one that was sent later has come, and this one has not
    assert _embed(service, "later").status_code == 200
    _spans_of(collector, "later")
    assert collector.of(unkept) == {}


def test_a_failure_is_marked(service: Service, collector: Collector) -> None:
    with service.client() as client:
        answer = client.post(
            "/embed", json={"inputs": "late"}, headers={"x-request-timeout": "0.0001", "x-request-id": "late"}
        )
    assert answer.status_code == 504

    def found() -> list[ReceivedSpan]:
        return [span for span in collector.spans if span.attributes.get("millrace.request_id") == "late"]

    wait_until(lambda: any(span.name == "POST /embed" for span in found()), timeout_s=20, what="the span")
    (gateway,) = (span for span in found() if span.name == "POST /embed")
    assert gateway.is_error
    assert gateway.attributes["http.response.status_code"] == 504
    assert "batch" not in {span.name for span in found()}


def test_what_is_not_a_trace_is_ignored(service: Service, collector: Collector) -> None:
    for wrong in ("00-zz-11-01", "x" * 300, f"00-{'0' * 32}-{SPAN}-01"):
        assert _embed(service, "wrong", wrong).status_code == 200
