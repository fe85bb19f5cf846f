"""Callbacks end to end: a real callback worker process sends to real receivers, and what goes wrong on the way is mended."""

import base64
import gzip
import hashlib
import hmac
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from standardwebhooks.webhooks import Webhook

from shared.bulk.jobs import EmbedOptions, Kind, State
from shared.bulk.webhooks import signing_secrets
from tests.helpers.bulk_jobs import vectors
from tests.helpers.callbacks import Callbacks
from tests.helpers.receivers import Received, Receiver, running_receiver
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until

Start = Callable[..., Callbacks]


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts callbacks with the settings of a test."""
    running: list[Callbacks] = []

    def run(*, workers: int = 1, **settings: Any) -> Callbacks:
        callbacks = Callbacks(redis_url, tmp_path, **settings)
        running.append(callbacks)
        callbacks.start(workers=workers)
        return callbacks

    yield run
    for callbacks in running:
        callbacks.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def other_receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def verified(request: Received, secret: str) -> dict[str, Any]:
    """A request's body, after both clients have verified it."""
    OpenAI(api_key="unused").webhooks.unwrap(request.body, request.headers, secret=secret)
    body: dict[str, Any] = Webhook(secret).verify(request.body, request.headers)
    return body


def test_a_job_sends_every_segment_and_then_how_it_ended(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start(public_url="https://millrace.example")
    endpoint = callbacks.endpoint(receiver.url)
    secret = signing_secrets(endpoint)[0]

    # When
    callbacks.job(segments=5, endpoint=endpoint.id, metadata={"corpus": "a"})
    job = callbacks.wait_until_sent()

    # Then
    assert (job.callbacks_delivered, job.callbacks_dead) == (6, 0)
    bodies = [verified(request, secret) for request in receiver.received]
    assert [body["type"] for body in bodies] == ["job.results"] * 5 + ["job.completed"]
    results = sorted((body["data"] for body in bodies[:-1]), key=lambda data: data["segment"])
    assert [data["offset"] for data in results] == [0, 4, 8, 12, 16]
    assert all((data["job_id"], data["count"], data["encoding"]) == ("job_1", 4, "float") for data in results)
    documents = [document for data in results for document in data["results"]]
    assert [document["index"] for document in documents] == list(range(20))
    assert np.array_equal(np.array(documents[4]["embedding"], "<f4"), vectors(4, 1)[0])
    assert documents[0]["metadata"] == {"lang": "en", "page": 0}
    assert documents[3]["error"] == {"code": "invalid_request", "message": "the text is empty"}
    final = bodies[-1]["data"]
    assert final["counts"] == {"received": 20, "completed": 15, "failed": 5}
    assert final["metadata"] == {"corpus": "a"}
    assert final["callbacks"] == {"delivered": 5, "dead": 0}
    assert final["results_url"] == "https://millrace.example/v1/jobs/job_1/results"
    assert isinstance(bodies[-1]["created_at"], int)
    assert bodies[-1]["timestamp"].endswith("Z")


def test_a_batch_sends_openais_thin_event(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start()
    endpoint = callbacks.endpoint(receiver.url)

    # When
    callbacks.job("batch_1", segments=2, kind=Kind.BATCH, endpoint=endpoint.id)
    callbacks.wait_until_sent("batch_1")

    # Then
    (request,) = receiver.received
    client = OpenAI(api_key="unused", webhook_secret=signing_secrets(endpoint)[0])
    event = client.webhooks.unwrap(request.body, request.headers)
    assert (event.type, event.data.id, event.object) == ("batch.completed", "batch_1", "event")
    assert event.id == request.event_id
    assert json.loads(request.body)["data"] == {"id": "batch_1"}


def test_an_endpoint_that_no_job_names_hears_how_each_batch_of_its_tenant_ended(
    start: Start, receiver: Receiver, other_receiver: Receiver
) -> None:
    # Given endpoints of two tenants, one that asks for something else, and a batch that names nobody
    callbacks = start()
    endpoint = callbacks.endpoint(receiver.url, events=["batch.completed"], tenant="mine")
    callbacks.endpoint(receiver.url, events=["batch.failed", "job.results"], tenant="mine")
    callbacks.endpoint(receiver.url, events=["batch.completed"], tenant="yours")

    # When batches end, of which one has a receiver of its own, too
    own = callbacks.endpoint(other_receiver.url, inline=True, tenant="mine")
    callbacks.job("batch_1", kind=Kind.BATCH, tenant="mine", gzip=True, state=None)
    callbacks.call(callbacks.table.enter("batch_1", State.COMPLETED, since=[State.IN_PROGRESS, State.RECEIVING]))
    callbacks.job("batch_2", kind=Kind.BATCH, tenant="mine", endpoint=own.id)
    callbacks.job("job_3", tenant="mine", endpoint=own.id)
    for job in ("batch_1", "batch_2", "job_3"):
        callbacks.wait_until_sent(job)
    wait_until(lambda: len(receiver.received) == 2, what="both batches")

    # Then each is told once, as OpenAI does it, and the jobs count what they named only
    secret = signing_secrets(endpoint)[0]
    assert sorted(verified(request, secret)["data"]["id"] for request in receiver.received) == ["batch_1", "batch_2"]
    assert [callbacks.find(job).callbacks_delivered for job in ("batch_1", "batch_2", "job_3")] == [0, 1, 3]


def test_an_endpoint_for_all_batches_that_is_gone_stops_no_job(
    start: Start, receiver: Receiver, other_receiver: Receiver
) -> None:
    # Given
    callbacks = start()
    receiver.default = (410, {})
    endpoint = callbacks.endpoint(receiver.url, events=["job.completed"])

    # When
    callbacks.job(segments=2, endpoint=callbacks.endpoint(other_receiver.url).id)
    job = callbacks.wait_until_sent()

    # Then
    wait_until(lambda: callbacks.call(callbacks.registry.get(endpoint.id)).disabled != "")
    assert (callbacks.find().callbacks_stopped, job.callbacks_delivered, job.callbacks_dead) == ("", 3, 0)
    assert len(receiver.received) == 1


def test_what_is_answered_500_is_tried_again_under_the_same_id(start: Start, receiver: Receiver) -> None:
    # Given a receiver that fails twice
    callbacks = start()
    receiver.answers = [(500, {}), (503, {})]

    # When
    callbacks.job(segments=1, endpoint=callbacks.endpoint(receiver.url).id)
    job = callbacks.wait_until_sent()

    # Then
    attempts = receiver.of("_0_")
    assert len(attempts) == 3
    assert len({request.event_id for request in attempts}) == 1
    assert len({request.body for request in attempts}) == 1
    assert (job.callbacks_delivered, job.callbacks_dead) == (2, 0)
    with callbacks.client() as client:
        shown = client.get("/v1/jobs/job_1/callbacks").json()
    log = shown["data"][0]["log"]
    assert [attempt.get("status") for attempt in log] == [500, 503, 200]
    assert log[0]["error"] == "the receiver answered 500"


def test_retry_after_is_honoured(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start(webhook_retries_s="0,0,0")
    receiver.answers = [(429, {"retry-after": "2"})]

    # When
    callbacks.job(segments=1, endpoint=callbacks.endpoint(receiver.url, events=["job.results"]).id)
    callbacks.wait_until_sent()

    # Then
    first, second = receiver.received
    assert 1.9 < second.at - first.at < 4


@pytest.mark.parametrize("status", [200, 503])
def test_a_date_that_is_none_is_not_waited_for(start: Start, receiver: Receiver, status: int) -> None:
    # Given
    callbacks = start(webhook_retries_s="0,0,0")
    receiver.answers = [(status, {"retry-after": "1 Jan 99999999999999999999 00:00:00 GMT"})]

    # When
    callbacks.job(segments=1, endpoint=callbacks.endpoint(receiver.url, events=["job.results"]).id)
    callbacks.wait_until_sent()

    # Then it counts as what it says beside that
    assert len(receiver.received) == (1 if status == 200 else 2)


def test_an_event_is_given_up_after_the_last_attempt_and_can_be_sent_again(start: Start, receiver: Receiver) -> None:
    # Given a receiver that fails for long
    callbacks = start(webhook_retries_s="0.05,0.05")
    receiver.default = (500, {})
    callbacks.job(segments=2, endpoint=callbacks.endpoint(receiver.url, events=["job.results"]).id)
    job = callbacks.wait_until_sent()

    # Then
    assert (job.callbacks_delivered, job.callbacks_dead) == (0, 2)
    assert len(receiver.received) == 6
    with callbacks.client() as client:
        dead = client.get("/v1/jobs/job_1/callbacks", params={"state": "dead"}).json()
        assert [(entry["segment"], entry["attempts"]) for entry in dead["data"]] == [(0, 3), (1, 3)]

        # When it works again, and one of them is sent again, then all
        receiver.default = (200, {})
        chosen = dead["data"][1]["id"]
        answer = client.post("/v1/jobs/job_1/callbacks/replay", json={"events": [chosen]})
        assert (answer.status_code, answer.json()["replayed"]) == (202, [chosen])
        wait_until(lambda: callbacks.find().callbacks_delivered == 1)
        rest = client.post("/v1/jobs/job_1/callbacks/replay").json()["replayed"]
        assert rest == [dead["data"][0]["id"]]
        wait_until(lambda: callbacks.find().callbacks_delivered == 2)

    # Then
    assert receiver.ids()[-2:] == [chosen, rest[0]]
    assert callbacks.find().callbacks_dead == 0


def test_410_disables_the_endpoint_and_the_job_says_so(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start()
    receiver.default = (410, {})
    endpoint = callbacks.endpoint(receiver.url)

    # When
    callbacks.job(segments=60, endpoint=endpoint.id)
    job = callbacks.wait_until_sent()

    # Then little was sent, and nothing is tried again
    assert job.callbacks_stopped == f"webhook endpoint {endpoint.id} is disabled: it answered 410"
    assert len(receiver.received) <= 4
    assert job.callbacks_dead >= 1
    assert callbacks.call(callbacks.registry.get(endpoint.id)).disabled == "it answered 410"
    with callbacks.client() as client:
        assert client.get("/v1/jobs/job_1/callbacks").json()["stopped"] == job.callbacks_stopped

        # When it wants them again
        receiver.default = (200, {})
        client.post("/v1/jobs/job_1/callbacks/replay")
    job = callbacks.wait_until_sent(timeout_s=40)

    # Then none is missing
    assert (job.callbacks_delivered, job.callbacks_dead, job.callbacks_stopped) == (61, 0, "")


def test_a_receiver_that_never_answers_delays_no_other_job(
    start: Start, receiver: Receiver, other_receiver: Receiver
) -> None:
    # Given a receiver that does not answer
    callbacks = start(webhook_timeout_s=3)
    receiver.answering.clear()
    callbacks.job("job_stuck", segments=40, endpoint=callbacks.endpoint(receiver.url).id)
    wait_until(lambda: len(receiver.received) == 1, what="a first callback")

    # When
    began = time.monotonic()
    callbacks.job("job_well", segments=40, endpoint=callbacks.endpoint(other_receiver.url).id)
    callbacks.wait_until_sent("job_well")

    # Then
    assert time.monotonic() - began < 10
    assert len(other_receiver.received) == 41
    assert len(receiver.received) <= 16
    wait_until(lambda: "no answer within 3 s" in callbacks.log())
    receiver.answering.set()
    wait_until(lambda: callbacks.find("job_stuck").callbacks_delivered > 0, timeout_s=15)


def test_many_jobs_of_one_receiver_that_never_answers_delay_nobody(
    start: Start, receiver: Receiver, other_receiver: Receiver
) -> None:
    # Given twenty jobs, each with an endpoint of its own, that all lead to a receiver that does not answer
    callbacks = start(webhook_timeout_s=60, callback_threads=8)
    receiver.answering.clear()
    for number in range(20):
        callbacks.job(f"job_{number}", segments=4, endpoint=callbacks.endpoint(receiver.url, inline=True).id)
    wait_until(lambda: len(receiver.received) == 1, what="a first callback")

    # When
    callbacks.job("job_well", segments=10, endpoint=callbacks.endpoint(other_receiver.url).id)

    # Then the other one has all of its own long before the first attempt is given up
    callbacks.wait_until_sent("job_well")
    assert len(other_receiver.received) == 11
    assert len(receiver.received) == 1
    receiver.answering.set()


@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirects_are_not_followed(start: Start, receiver: Receiver, other_receiver: Receiver, status: int) -> None:
    # Given
    callbacks = start(webhook_retries_s="")
    receiver.default = (status, {"location": other_receiver.url})

    # When
    callbacks.job(segments=1, endpoint=callbacks.endpoint(receiver.url, events=["job.results"]).id)
    job = callbacks.wait_until_sent()

    # Then
    assert job.callbacks_dead == 1
    assert other_receiver.received == []
    assert "redirects are not followed" in callbacks.log()


def test_what_leads_to_a_private_address_is_not_connected_to(start: Start, receiver: Receiver) -> None:
    # Given an endpoint from a time when its host was allowed, by address and by name
    callbacks = start(webhook_hosts="10.0.0.1", webhook_retries_s="")
    hosts = (
        f"http://127.0.0.1:{receiver.port}",
        f"https://localhost:{receiver.port}",
        f"https://[::1]:{receiver.port}",
    )
    for number, host in enumerate(hosts):
        endpoint = callbacks.registry.new("https://receiver.example", events=["job.results"])
        callbacks.call(callbacks.registry.keep(endpoint.model_copy(update={"url": f"{host}/hook?token=hunter2"})))

        # When
        callbacks.job(f"job_{number}", segments=1, endpoint=endpoint.id)
        job = callbacks.wait_until_sent(f"job_{number}")

        # Then
        assert job.callbacks_dead == 1
    assert receiver.received == []
    assert callbacks.log().count("leads to an address that is not public") == 3
    assert "hunter2" not in callbacks.log()


def test_a_network_can_be_allowed(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start(webhook_hosts="127.0.0.0/8")

    # When
    callbacks.job(segments=1, endpoint=callbacks.endpoint(receiver.url).id)

    # Then
    assert callbacks.wait_until_sent().callbacks_delivered == 2


def test_https_to_a_port_that_speaks_plain_http_is_told_as_such(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start(webhook_retries_s="")
    url = receiver.url.replace("http://", "https://")

    # When
    callbacks.job(segments=1, endpoint=callbacks.endpoint(url, events=["job.results"]).id)

    # Then
    assert callbacks.wait_until_sent().callbacks_dead == 1
    assert "no TLS connection" in callbacks.log()
    assert "does the receiver speak https on that port?" in callbacks.log()


def test_a_sink_that_can_never_work_is_named_at_the_start(start: Start, tmp_path: Path) -> None:
    # Given
    sinks = tmp_path / "sinks.yaml"
    sinks.write_text(
        "sinks:\n  unsigned: {type: webhook, url: 'https://a.example'}\n  open: {type: qdrant, url: 'http://q'}\n"
    )

    # When
    callbacks = start(sinks_file=sinks)

    # Then
    (said,) = [line for line in callbacks.log().splitlines() if "sink_refused" in line]
    assert "unsigned" in said
    assert "it needs the option `secret`" in said


def test_a_proxy_of_the_environment_is_not_used(
    start: Start, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    callbacks = start()

    # When
    callbacks.job(segments=1, endpoint=callbacks.endpoint(receiver.url).id)

    # Then
    assert callbacks.wait_until_sent().callbacks_delivered == 2


def test_gzip_is_signed_as_it_is_sent(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start()
    endpoint = callbacks.endpoint(receiver.url, events=["job.results"])

    # When
    callbacks.job(segments=1, endpoint=endpoint.id, gzip=True)
    callbacks.wait_until_sent()

    # Then
    (request,) = receiver.received
    assert request.headers["content-encoding"] == "gzip"
    assert _signature(request, signing_secrets(endpoint)[0]) in request.headers["webhook-signature"]
    assert len(json.loads(gzip.decompress(request.body))["data"]["results"]) == 4


def test_vectors_as_base64(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start()
    endpoint = callbacks.endpoint(receiver.url, events=["job.results"])

    # When
    callbacks.job(segments=1, endpoint=endpoint.id, encoding="base64")
    callbacks.wait_until_sent()

    # Then
    data = verified(receiver.received[0], signing_secrets(endpoint)[0])["data"]
    assert data["encoding"] == "base64"
    assert np.array_equal(np.frombuffer(base64.b64decode(data["results"][1]["embedding"]), "<f4"), vectors(1, 1)[0])


def test_binary_is_msgpack_as_a_whole(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start()
    endpoint = callbacks.endpoint(receiver.url)

    # When
    options = EmbedOptions(kinds=["dense", "multivector"])
    kinds = ("dense", "multivector")
    callbacks.job(segments=1, endpoint=endpoint.id, encoding="binary", options=options, kinds=kinds)
    callbacks.wait_until_sent()

    # Then
    first, last = receiver.received
    assert first.headers["content-type"] == last.headers["content-type"] == "application/msgpack"
    assert _signature(first, signing_secrets(endpoint)[0]) in first.headers["webhook-signature"]
    data = msgpack.unpackb(first.body)["data"]
    assert np.array_equal(np.frombuffer(data["results"][0]["embedding"], "<f4"), vectors(0, 1)[0])
    matrix = np.frombuffer(data["results"][0]["multivector"], "<f4").reshape(-1, data["multivector_width"])
    assert matrix.shape == (3, 4)
    assert msgpack.unpackb(last.body)["type"] == "job.completed"


def test_results_that_are_too_large_or_not_wanted_are_sent_as_their_place(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start(webhook_body_bytes=2048, public_url="https://millrace.example/")
    endpoint = callbacks.endpoint(receiver.url, events=["job.results"])

    # When one is small, one large, and one by reference
    callbacks.job("job_small", segments=1, endpoint=endpoint.id)
    callbacks.job("job_large", segments=2, size=100, endpoint=endpoint.id)
    callbacks.job("job_place", segments=1, endpoint=endpoint.id, by_reference=True, encoding="base64")
    for job_id in ("job_small", "job_large", "job_place"):
        callbacks.wait_until_sent(job_id)

    # Then
    secret = signing_secrets(endpoint)[0]
    data = {request.event_id.split("_")[2]: [] for request in receiver.received}
    for request in receiver.received:
        data[request.event_id.split("_")[2]].append(verified(request, secret)["data"])
    assert len(data["small"][0]["results"]) == 4
    urls = sorted(entry["results_url"] for entry in data["large"])
    prefix = "https://millrace.example/v1/jobs/job_large/results"
    assert urls == [f"{prefix}?offset=0&limit=100&encoding=float", f"{prefix}?offset=100&limit=100&encoding=float"]
    assert "results" not in data["large"][0]
    assert data["place"][0]["results_url"].endswith("/v1/jobs/job_place/results?offset=0&limit=4&encoding=base64")


def test_a_killed_workers_events_are_sent_by_another(start: Start, receiver: Receiver) -> None:
    # Given a worker that is killed while it waits for answers
    callbacks = start(webhook_lease_s=2, webhook_timeout_s=30)
    receiver.answering.clear()
    endpoint = callbacks.endpoint(receiver.url)
    callbacks.job(segments=20, endpoint=endpoint.id)
    wait_until(lambda: len(receiver.received) == 1)  # it is new, so it is tried with one
    callbacks.processes[0].send_signal(signal.SIGKILL)
    callbacks.processes[0].wait()

    # When another starts
    receiver.answering.set()
    callbacks.start_worker()
    job = callbacks.wait_until_sent(timeout_s=30)

    # Then every event has arrived, and those that came twice came under the same id
    assert (job.callbacks_delivered, job.callbacks_dead, job.callbacks_pending) == (21, 0, 0)
    assert len(set(receiver.ids())) == 21
    assert len(receiver.ids()) == 22


def test_a_worker_that_is_stopped_finishes_what_it_began(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start()
    receiver.answering.clear()
    callbacks.job(segments=20, endpoint=callbacks.endpoint(receiver.url).id)
    wait_until(lambda: len(receiver.received) == 1)

    # When
    began = time.monotonic()
    callbacks.processes[0].send_signal(signal.SIGTERM)
    time.sleep(0.5)
    receiver.answering.set()

    # Then
    assert callbacks.processes[0].wait(20) == 0
    assert time.monotonic() - began < 10
    assert callbacks.find().callbacks_delivered >= 1

    # When another starts, nothing is sent twice
    callbacks.start_worker()
    callbacks.wait_until_sent()
    assert sorted(receiver.ids()) == sorted(set(receiver.ids()))


def test_a_restart_of_redis_loses_no_callback(own_valkey: ValkeyServer, receiver: Receiver, tmp_path: Path) -> None:
    # Given
    callbacks = Callbacks(own_valkey.url(), tmp_path, webhook_lease_s=3)
    callbacks.start()
    try:
        callbacks.job(segments=200, endpoint=callbacks.endpoint(receiver.url).id)
        wait_until(lambda: len(receiver.received) > 10)

        # When
        own_valkey.restart(crash=True)
        job = callbacks.wait_until_sent(timeout_s=60)
    finally:
        callbacks.stop()

    # Then
    assert (job.callbacks_delivered, job.callbacks_dead, job.callbacks_pending) == (201, 0, 0)
    assert len(set(receiver.ids())) == 201


def test_nothing_secret_is_logged_or_queued(start: Start, receiver: Receiver, redis: Any) -> None:
    # Given a receiver whose URL has a token, and that fails
    callbacks = start(webhook_retries_s="0.05")
    receiver.default = (500, {})
    endpoint = callbacks.endpoint(f"{receiver.url}?token=hunter2")

    # When
    with redis.monitor() as monitor:
        callbacks.job(segments=1, endpoint=endpoint.id)
        callbacks.wait_until_sent()
        redis.set("stop", 1)
        commands: list[str] = []
        for command in monitor.listen():
            commands.append(str(command["command"]))
            if commands[-1].startswith("SET stop"):
                break

    # Then
    secret = signing_secrets(endpoint)[0]
    log = callbacks.log()
    assert "callback_failed" in log
    assert "hunter2" not in log
    assert secret not in log
    pushed = [command for command in commands if command.startswith("LPUSH millrace.callbacks")]
    assert pushed
    assert not any("hunter2" in command or secret in command for command in commands)
    with callbacks.client() as client:
        assert "hunter2" not in client.get("/v1/jobs/job_1/callbacks").text


def test_openais_client_manages_endpoints(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start(workers=0)
    client = OpenAI(base_url=f"http://127.0.0.1:{callbacks.port}/v1", api_key="unused", max_retries=0)

    # When
    created = client.webhooks.create(name="mine", url=receiver.url, event_types=["batch.completed", "batch.failed"])

    # Then
    assert created.signing_secret.startswith("whsec_")
    assert created.signing_secret_hint is not None
    assert created.signing_secret not in created.signing_secret_hint
    shown = client.webhooks.retrieve(created.id)
    assert (shown.name, shown.url, shown.object) == ("mine", receiver.url, "webhook_endpoint")
    assert shown.event_types == ["batch.completed", "batch.failed"]
    assert not hasattr(shown, "signing_secret")

    # When
    others = [
        client.webhooks.create(name=str(number), url=receiver.url, event_types=["job.failed"]) for number in range(3)
    ]
    listed = [endpoint.id for endpoint in client.webhooks.list(limit=2)]

    # Then
    assert listed == [endpoint.id for endpoint in reversed(others)] + [created.id]
    updated = client.webhooks.update(created.id, name="yours", event_types=["batch.expired"])
    assert (updated.name, updated.event_types, updated.url) == ("yours", ["batch.expired"], receiver.url)
    assert set(client.webhooks.event_types.list().data) >= {"batch.completed", "job.results"}

    # When
    tested = client.webhooks.test(created.id, event_type="batch.completed")
    receiver.default = (503, {})
    refused = client.webhooks.test(created.id, event_type="batch.failed")

    # Then
    assert (tested.status_code, tested.success, tested.webhook_endpoint_id) == (200, True, created.id)
    assert refused.status_code == 503
    event = client.webhooks.unwrap(
        receiver.received[0].body, receiver.received[0].headers, secret=created.signing_secret
    )
    assert event.type == "batch.completed"
    deleted = client.webhooks.delete(created.id)
    assert (deleted.deleted, deleted.object) == (True, "webhook_endpoint.deleted")
    with pytest.raises(NotFoundError):
        client.webhooks.retrieve(created.id)


def test_a_secret_is_replaced_at_once_or_within_a_day(start: Start, receiver: Receiver) -> None:
    # Given
    callbacks = start(workers=0)
    client = OpenAI(base_url=f"http://127.0.0.1:{callbacks.port}/v1", api_key="unused", max_retries=0)
    created = client.webhooks.create(name="mine", url=receiver.url, event_types=["batch.completed"])

    # When the old one is kept
    rotated = client.webhooks.rotate_secret(created.id, keep_old_secret_active_for_24_hours=True)
    client.webhooks.test(created.id, event_type="batch.completed")

    # Then both verify
    for secret in (created.signing_secret, rotated.signing_secret):
        Webhook(secret).verify(receiver.received[-1].body, receiver.received[-1].headers)

    # When that goes on, then with the newest five
    for _ in range(8):
        rotated = client.webhooks.rotate_secret(created.id, keep_old_secret_active_for_24_hours=True)
    client.webhooks.test(created.id, event_type="batch.completed")
    assert len(receiver.received[-1].headers["webhook-signature"].split()) == 5
    Webhook(rotated.signing_secret).verify(receiver.received[-1].body, receiver.received[-1].headers)

    # When it is not
    last = client.webhooks.rotate_secret(created.id)
    client.webhooks.test(created.id, event_type="batch.completed")

    # Then
    assert len(receiver.received[-1].headers["webhook-signature"].split()) == 1
    Webhook(last.signing_secret).verify(receiver.received[-1].body, receiver.received[-1].headers)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://receiver.example/hook", "an operator can allow http"),
        ("https://127.0.0.1/hook", "not public"),
        ("https://169.254.169.254/latest", "not public"),
        ("https://[::ffff:10.0.0.1]/", "not public"),
        ("https://localhost/hook", "not public"),
        ("https://user:pass@receiver.example/", "no user name"),
        ("ftp://receiver.example/", "https://"),
        ("nonsense", "https://"),
    ],
)
def test_an_endpoint_that_leads_inside_is_refused_at_once(start: Start, url: str, said: str) -> None:
    # Given
    callbacks = start(workers=0, webhook_hosts="")
    client = OpenAI(base_url=f"http://127.0.0.1:{callbacks.port}/v1", api_key="unused", max_retries=0)

    # When
    with pytest.raises(BadRequestError) as caught:
        client.webhooks.create(name="mine", url=url, event_types=["job.failed"])

    # Then
    assert said in caught.value.message
    assert "pass@" not in caught.value.message


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1", ""])
def test_endpoints_are_where_clients_of_openai_look_for_them(start: Start, prefix: str) -> None:
    callbacks = start(workers=0)
    body = {"name": "a", "url": "https://a.example", "event_types": ["job.failed"]}
    with callbacks.client() as client:
        made = client.post(f"{prefix}/webhook_endpoints", json=body).json()
        # Without a body, as the document says that there need be none
        rotated = client.post(f"{prefix}/webhook_endpoints/{made['id']}/rotate_secret").json()

        assert client.get(f"/v1/webhook_endpoints/{made['id']}").json()["name"] == "a"
        assert rotated["signing_secret"] != made["signing_secret"]
        asked = client.head(f"{prefix}/webhook_endpoints/{made['id']}")
        assert (asked.status_code, asked.content) == (200, b"")


def test_a_types_name_that_is_none_is_refused(start: Start) -> None:
    callbacks = start(workers=0)
    with callbacks.client() as client:
        answer = client.post(
            "/v1/webhook_endpoints", json={"name": "a", "url": "https://a.example", "event_types": ["no.such"]}
        )

    assert answer.status_code == 400
    assert "job.results" in answer.json()["error"]["message"]


def test_a_job_with_a_sink_and_a_webhook_sends_to_both(
    start: Start, receiver: Receiver, other_receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a receiver that an operator declares as a sink, with its secret in the environment
    secret = "whsec_" + base64.b64encode(bytes(32)).decode()
    monkeypatch.setenv("INSIDE_SECRET", secret)
    sinks = tmp_path / "sinks.yaml"
    sinks.write_text(f"sinks:\n  inside:\n    type: webhook\n    url: {receiver.url}\n    secret_env: INSIDE_SECRET\n")
    callbacks = start(sinks_file=sinks)

    # When
    endpoint = callbacks.endpoint(other_receiver.url)
    callbacks.job(segments=3, sink="inside", endpoint=endpoint.id)
    job = callbacks.wait_until_sent()

    # Then
    assert job.callbacks_delivered == 7
    assert {verified(request, secret)["data"]["segment"] for request in receiver.received} == {0, 1, 2}
    assert len(other_receiver.received) == 4


@pytest.mark.parametrize(
    ("sink", "options", "said"),
    [
        ("unknown", {}, "sink unknown: it is not declared in sinks.yaml"),
        ("inside", {"url": "http://elsewhere"}, "takes no option 'url' from callers"),
        ("unset", {}, "names NO_SUCH_VARIABLE, which is not set"),
        ("typo", {}, "there is no type 'webhok'"),
    ],
)
def test_a_sink_that_cannot_be_used_is_given_up_at_once(
    start: Start, tmp_path: Path, sink: str, options: dict[str, str], said: str
) -> None:
    # Given
    sinks = tmp_path / "sinks.yaml"
    sinks.write_text(
        "sinks:\n  inside: {type: webhook, url: 'https://a.example', secret: whsec_AAAA}\n"
        "  unset: {type: webhook, url: 'https://a.example', secret_env: NO_SUCH_VARIABLE}\n  typo: {type: webhok}\n"
    )
    callbacks = start(sinks_file=sinks)

    # When
    callbacks.job(segments=1, sink=sink, sink_options=options)
    job = callbacks.wait_until_sent()

    # Then
    assert job.callbacks_dead == 1
    with callbacks.client() as client:
        (entry,) = client.get("/v1/jobs/job_1/callbacks").json()["data"]
    assert said in entry["log"][-1]["error"]


def _signature(request: Received, secret: str) -> str:
    """What the signature of a request is to be, by the specification's own words."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{request.event_id}.{request.headers['webhook-timestamp']}.".encode() + request.body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"
