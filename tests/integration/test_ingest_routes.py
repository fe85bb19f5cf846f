"""Ingest over HTTP: real server, real Valkey, a store in a folder; no worker."""

import base64
import contextlib
import gzip
import random
import resource
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgpack
import orjson
import psutil
import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from api.bulk import job_events, result_stream, streaming
from api.bulk.pump import CallbackPump
from shared import keys
from shared.bulk.jobs import State
from shared.bulk.table import JobTable
from tests.helpers.gateways import MODEL, BulkGateway
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until

Make = Callable[..., BulkGateway]


@pytest.fixture
def make(redis_url: str, tmp_path: Path) -> Iterator[Make]:
    """Gateways with settings of the test's own."""
    started: list[BulkGateway] = []

    def start(**settings: Any) -> BulkGateway:
        gateway = BulkGateway(redis_url, tmp_path / "store", **settings)
        gateway.start()
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture
def gateway(make: Make) -> BulkGateway:
    """A gateway with short segments."""
    return make(job_segment_documents=10)


@pytest.fixture
def client(gateway: BulkGateway) -> Iterator[httpx.Client]:
    """A client of it."""
    with gateway.client() as client:
        yield client


def docs(count: int, first: int = 0) -> bytes:
    """Lines of documents whose ids say where they are."""
    return b"".join(orjson.dumps({"id": f"d{i}", "text": f"text {i}"}) + b"\n" for i in range(first, first + count))


def post(client: httpx.Client, body: bytes, /, path: str = "/v1/ingest", **params: Any) -> dict[str, Any]:
    """Send documents; the job."""
    answer = client.post(path, content=body, params=params, headers={"content-type": "application/x-ndjson"})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def ended(client: httpx.Client, gateway: BulkGateway, count: int) -> str:
    """Id of a completed job with so many documents."""
    job_id: str = post(client, docs(count))["id"]
    for number in range((count + 9) // 10):
        gateway.run_segment(job_id, number)
    gateway.enter(job_id, State.COMPLETED)
    return job_id


def entries(answer: httpx.Response) -> list[dict[str, Any]]:
    """The lines of an answer."""
    assert answer.status_code == 200, answer.text
    return [orjson.loads(line) for line in answer.content.splitlines()]


def test_documents_become_a_job(client: httpx.Client, gateway: BulkGateway) -> None:
    answer = client.post("/v1/ingest", content=docs(25), params={"metadata": '{"team":"search"}', "priority": 3})

    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["kind"], job["status"], job["model"]) == ("job", "ingest", "in_progress", MODEL)
    assert job["counts"] == {"received": 25, "completed": 0, "failed": 0}
    assert (job["available"], job["input_complete"], job["metadata"]) == (0, True, {"team": "search"})
    assert (job["eta_s"], job["errors"], job["finished_at"]) == (None, [], None)
    assert job["results_url"] == f"/v1/jobs/{job['id']}/results"
    assert client.get(answer.headers["location"]).json() == job
    assert gateway.lines(job["id"]) == docs(25).splitlines()
    assert len(gateway.table(lambda table: table.segments(job["id"]))) == 3


def test_a_body_without_documents_is_a_job_without_documents(client: httpx.Client) -> None:
    assert post(client, b"\n\n")["counts"]["received"] == 0


@pytest.mark.parametrize("path", ["/v1/ingest", "/v1/ingest/"])
def test_gzip_and_forms_are_read(client: httpx.Client, gateway: BulkGateway, path: str) -> None:
    packed = gzip.compress(docs(15))
    encoded = client.post(path, content=packed, headers={"content-encoding": "gzip"})
    form = client.post(path, data={"metadata": '{"a":1}'}, files={"file": ("docs.ndjson.gz", packed)})
    for answer in (encoded, form):
        assert answer.status_code == 202, answer.text
        assert gateway.lines(answer.json()["id"]) == docs(15).splitlines()
    assert form.json()["metadata"] == {"a": 1}


@pytest.mark.parametrize(("name", "value"), [("dimensions", "3"), ("truncate", "true"), ("kinds", "dense")])
def test_a_query_has_texts_and_json_has_the_documented_types(client: httpx.Client, name: str, value: str) -> None:
    assert client.post("/v1/ingest", content=docs(1), params={name: value}).status_code == 202
    refused = client.post("/v1/jobs", json={name: value})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)


@pytest.mark.parametrize(
    ("params", "status", "code", "param"),
    [
        ({"model": "org/other"}, 404, "model_not_found", "model"),
        ({"modle": MODEL}, 400, "invalid_request", "modle"),
        ({"kinds": "dence"}, 400, "invalid_request", "kinds"),
        ({"webhook": "ftp://example.org"}, 400, "invalid_request", "webhook"),
        ({"webhook": "https://xn--/"}, 400, "invalid_request", "webhook"),
        ({"webhook": "https://exa mple.com/"}, 400, "invalid_request", "webhook"),
        ({"webhook": "https://10.0.0.1/hook"}, 400, "invalid_request", "webhook"),
        ({"webhook_endpoint": "we_1"}, 404, "not_found", None),
        ({"sink": "nowhere"}, 400, "unknown_sink", "sink"),
        ({"more": "perhaps"}, 400, "invalid_request", "more"),
    ],
)
def test_a_wrong_option_is_refused_at_once(
    client: httpx.Client, params: dict[str, str], status: int, code: str, param: str | None
) -> None:
    answer = client.post("/v1/ingest", content=docs(1), params=params)
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]) == (
        status,
        code,
        param,
    )
    assert client.get("/v1/jobs").json()["data"] == []


def test_a_broken_body_fails_its_job(client: httpx.Client) -> None:
    answer = client.post("/v1/ingest", content=gzip.compress(docs(1000))[:-500], headers={"content-encoding": "gzip"})
    assert answer.status_code == 400
    (job,) = client.get("/v1/jobs").json()["data"]
    assert (job["status"], job["errors"]) == (
        "failed",
        [{"code": "invalid_request", "message": "the gzip data of the body end too early"}],
    )


def test_a_webhooks_secret_is_told_once_and_never_shown(client: httpx.Client, redis: Redis) -> None:
    made = client.post("/v1/ingest", content=docs(1), params={"webhook": "https://example.org/hook"})
    secret = made.headers["x-webhook-secret"]
    endpoint_id = made.json()["callbacks"]["endpoint"]
    record = orjson.loads(redis.get(keys.webhook(endpoint_id)))
    assert (record["url"], record["secrets"], record["inline"]) == ("https://example.org/hook", [[secret, None]], True)
    assert secret not in made.text
    assert secret not in client.get(f"/v1/jobs/{made.json()['id']}").text

    own = "whsec_" + base64.b64encode(b"k" * 32).decode()
    given = client.post("/v1/jobs", json={"webhook": {"url": "https://example.org"}}, headers={"x-webhook-secret": own})
    assert "x-webhook-secret" not in given.headers
    assert given.status_code == 201
    again = client.post(
        "/v1/ingest", content=docs(1), params={"webhook_endpoint": given.json()["callbacks"]["endpoint"]}
    )
    assert again.json()["callbacks"]["endpoint"] == given.json()["callbacks"]["endpoint"]


def test_a_job_takes_documents_in_several_bodies(client: httpx.Client, gateway: BulkGateway) -> None:
    made = client.post("/v1/jobs", json={"kinds": ["dense"], "dimensions": 8})
    assert (made.status_code, made.json()["status"]) == (201, "receiving")
    path = f"/v1/jobs/{made.json()['id']}/documents"

    assert post(client, docs(15), path, offset=0, more=True)["counts"]["received"] == 15
    # Five of these are known.
    job = post(client, docs(20, 10), path, offset=10, more=True)
    assert (job["counts"]["received"], job["input_complete"]) == (30, False)
    job = post(client, docs(5, 30), path)
    assert (job["counts"]["received"], job["input_complete"], job["status"]) == (35, True, "in_progress")
    assert gateway.lines(job["id"]) == docs(35).splitlines()

    # The last body once more, because its answer was lost.
    assert post(client, docs(5, 30), path, offset=30) == job
    too_many = client.post(path, content=docs(6, 30), params={"offset": 30})
    assert too_many.status_code == 409
    assert client.post(path, content=docs(1, 35)).status_code == 409


def test_a_gap_is_refused_with_the_place_to_go_on(client: httpx.Client) -> None:
    job_id = post(client, docs(7), more=True)["id"]
    answer = client.post(f"/v1/jobs/{job_id}/documents", content=docs(1), params={"offset": 9})
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "the job has 7 documents, so the next is 7, not 9"
    assert answer.json()["received"] == answer.json()["error"]["received"] == 7
    assert answer.headers["x-should-retry"] == "false"

    short = client.post(f"/v1/jobs/{job_id}/documents", content=docs(3), params={"offset": 0})
    assert (short.status_code, short.json()["received"]) == (409, 7)


def test_a_broken_upload_is_continued_where_it_broke(client: httpx.Client, gateway: BulkGateway) -> None:
    job_id = client.post("/v1/jobs", json={}).json()["id"]
    head = f"POST /v1/jobs/{job_id}/documents?offset=0 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        body = docs(34)[:-5]  # the last line is broken in the middle
        connection.sendall(head.encode() + f"{len(body):x}\r\n".encode() + body + b"\r\n")
        wait_until(lambda: client.get(f"/v1/jobs/{job_id}").json()["counts"]["received"] >= 20)
        # Gone without a word, as a machine that is switched off.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    received = client.get(f"/v1/jobs/{job_id}").json()["counts"]["received"]
    assert received in (20, 30)

    job = post(client, docs(50 - received, received), f"/v1/jobs/{job_id}/documents", offset=received)
    assert (job["counts"]["received"], job["input_complete"]) == (50, True)
    assert gateway.lines(job_id) == docs(50).splitlines()


def test_of_two_uploads_at_once_one_is_refused_and_nothing_is_doubled(
    client: httpx.Client, gateway: BulkGateway
) -> None:
    job_id = client.post("/v1/jobs", json={}).json()["id"]
    answers: list[httpx.Response] = []

    def send() -> None:
        def slowly() -> Iterator[bytes]:
            for first in range(0, 100, 10):
                yield docs(10, first)
                time.sleep(0.01)

        with gateway.client() as own:
            answers.append(own.post(f"/v1/jobs/{job_id}/documents", content=slowly(), params={"offset": 0}))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer.status_code for answer in answers) in ([202, 409], [202, 202], [409, 409])
    received = client.get(f"/v1/jobs/{job_id}").json()["counts"]["received"]
    post(client, docs(100 - received, received), f"/v1/jobs/{job_id}/documents", offset=received)
    assert gateway.lines(job_id) == docs(100).splitlines()
    stored = [path for path in gateway.folder.rglob("*") if path.is_file()]
    assert len(stored) == len(gateway.table(lambda table: table.segments(job_id)))


def test_a_slow_upload_is_stored_before_a_segment_is_full(client: httpx.Client, gateway: BulkGateway) -> None:
    job_id = client.post("/v1/jobs", json={}).json()["id"]
    finish = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield docs(3)
        finish.wait(20)
        yield docs(1, 3)

    def send() -> None:
        with gateway.client() as own:
            own.post(f"/v1/jobs/{job_id}/documents", content=slowly())

    thread = threading.Thread(target=send)
    thread.start()
    wait_until(lambda: client.get(f"/v1/jobs/{job_id}").json()["counts"]["received"] == 3)
    finish.set()
    thread.join()
    assert gateway.lines(job_id) == docs(4).splitlines()


def test_a_too_long_line_is_an_error_of_its_own(make: Make) -> None:
    gateway = make(job_document_bytes=1024)
    long = orjson.dumps({"id": "long", "text": "x" * 5000})
    with gateway.client() as client:
        job_id = post(client, docs(1) + long + b"\n" + docs(1, 1))["id"]
        assert gateway.lines(job_id)[1] == b'{"$too_long":%d}' % len(long)
        gateway.run_segment(job_id, 0)
        found = entries(client.get(f"/v1/jobs/{job_id}/results"))
    assert [entry["id"] for entry in found] == ["d0", None, "d1"]
    assert found[1]["error"] == {
        "code": "body_too_large",
        "message": f"the line of {len(long)} bytes is too long for a document",
    }


def test_a_used_up_quota_fails_the_job_with_507(make: Make) -> None:
    gateway = make(store_limit_bytes=2000, job_segment_documents=10)
    with gateway.client() as client:
        answer = client.post("/v1/ingest", content=docs(1000))
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
        assert answer.headers["x-should-retry"] == "false"
        (job,) = client.get("/v1/jobs").json()["data"]
        assert job["status"] == "failed"
        assert job["errors"][0]["code"] == "storage_full"
        assert "quota of 2,000 bytes" in job["errors"][0]["message"]

        # What did not fit is not left lying about, and what did makes room.
        segments = gateway.table(lambda table: table.segments(job["id"]))
        assert len([path for path in gateway.folder.rglob("*") if path.is_file()]) == len(segments)
        assert client.delete(f"/v1/jobs/{job['id']}").json() == {"id": job["id"], "object": "job", "deleted": True}
        assert post(client, docs(10))["status"] == "in_progress"


def test_a_full_disk_fails_the_job_with_507_and_it_can_go_on(make: Make) -> None:
    gateway = make(job_segment_documents=10_000, job_segment_bytes=1 << 20)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with gateway.client() as client:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, unlimited[1]))
        try:
            answer = client.post("/v1/ingest", content=docs(20_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
        (job,) = client.get("/v1/jobs").json()["data"]
        assert (job["status"], job["errors"][0]["code"]) == ("failed", "storage_full")
        assert list(gateway.folder.rglob("*.part")) == []

        resumed = client.post(f"/v1/jobs/{job['id']}/resume").json()
        assert (resumed["status"], resumed["errors"]) == ("receiving", [])
        received = resumed["counts"]["received"]
        post(client, docs(20_000 - received, received), f"/v1/jobs/{job['id']}/documents", offset=received)
        assert gateway.lines(job["id"]) == docs(20_000).splitlines()


def test_the_same_key_is_the_same_job(client: httpx.Client, gateway: BulkGateway) -> None:
    headers = {"idempotency-key": "corpus-7"}
    first = client.post("/v1/ingest", content=docs(5), headers=headers)
    again = client.post("/v1/ingest", content=docs(5), headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.json()) == (202, first.json())
    other = client.post("/v1/ingest", content=docs(5), headers=headers, params={"dimensions": 4})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    others = client.post("/v1/ingest", content=docs(6), headers=headers)
    assert (others.status_code, others.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert len(client.get("/v1/jobs").json()["data"]) == 1

    made = [client.post("/v1/jobs", json={"priority": 1}, headers=headers) for _ in range(2)]
    assert made[0].json()["id"] == made[1].json()["id"] != first.json()["id"]


def test_a_key_whose_job_was_deleted_says_so(client: httpx.Client, gateway: BulkGateway) -> None:
    headers = {"idempotency-key": "corpus-8"}
    job_id = client.post("/v1/ingest", content=docs(1), headers=headers).json()["id"]
    gateway.run_segment(job_id, 0)
    gateway.enter(job_id, State.COMPLETED)
    assert client.delete(f"/v1/jobs/{job_id}").json()["deleted"]
    again = client.post("/v1/ingest", content=docs(1), headers=headers)
    assert (again.status_code, again.json()["error"]["type"]) == (409, "invalid_request_error")
    assert f"{job_id}, which this" in again.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["image/png", "text/csv; charset=utf-8", "application/vnd.apache.parquet"])
def test_a_body_that_says_it_is_something_else_is_refused(client: httpx.Client, kind: str) -> None:
    refused = client.post("/v1/ingest", content=docs(1), headers={"content-type": kind})
    assert (refused.status_code, refused.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert kind.partition(";")[0] in refused.json()["error"]["message"]
    assert client.get("/v1/jobs").json()["data"] == []


def break_off(client: httpx.Client, gateway: BulkGateway, body: bytes, key: str) -> str:
    """Leave in the middle of an ingest of which 20 documents or more have been stored; the job's id."""
    head = f"POST /v1/ingest HTTP/1.1\r\nhost: x\r\nidempotency-key: {key}\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(head.encode() + f"{len(body):x}\r\n".encode() + body + b"\r\n")
        wait_until(lambda: any(job["counts"]["received"] >= 20 for job in client.get("/v1/jobs").json()["data"]))
    job_id: str = client.get("/v1/jobs").json()["data"][0]["id"]
    return job_id


def test_with_a_key_a_broken_ingest_is_continued_by_sending_it_again(
    client: httpx.Client, gateway: BulkGateway
) -> None:
    job_id = break_off(client, gateway, docs(34), "k")

    def sent_again() -> httpx.Response:
        return client.post("/v1/ingest", content=docs(40), headers={"idempotency-key": "k"})

    wait_until(lambda: sent_again().status_code == 202)
    assert sent_again().json()["id"] == job_id
    assert gateway.lines(job_id) == docs(40).splitlines()


@pytest.mark.parametrize(
    "others",
    [docs(40, first=1), docs(19) + docs(21, first=20), docs(20).replace(b"text 7", b"TEXT 7") + docs(20, 20), docs(5)],
    ids=["shifted", "one left out", "one changed", "fewer"],
)
def test_with_a_key_a_broken_ingest_is_not_continued_by_other_documents(
    client: httpx.Client, gateway: BulkGateway, others: bytes
) -> None:
    job_id = break_off(client, gateway, docs(34), "k")
    answers: list[httpx.Response] = []

    def sent(body: bytes) -> bool:
        answers.append(client.post("/v1/ingest", content=body, headers={"idempotency-key": "k"}))
        return answers[-1].status_code != 409  # until the gateway knows that the first sender has gone

    wait_until(lambda: sent(others))
    assert (answers[-1].status_code, answers[-1].json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert "take a new key" in answers[-1].json()["error"]["message"]
    job = client.get(f"/v1/jobs/{job_id}").json()
    stored = job["counts"]["received"]
    assert (job["status"], gateway.lines(job_id)) == ("receiving", docs(stored).splitlines())

    assert sent(docs(40))
    assert answers[-1].json()["id"] == job_id
    assert gateway.lines(job_id) == docs(40).splitlines()


def test_jobs_are_listed_newest_first_in_pages(client: httpx.Client) -> None:
    ids = [post(client, docs(1))["id"] for _ in range(5)][::-1]
    first = client.get("/v1/jobs", params={"limit": 3}).json()
    assert ([job["id"] for job in first["data"]], first["has_more"]) == (ids[:3], True)
    rest = client.get("/v1/jobs", params={"limit": 3, "after": first["last_id"]}).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == (ids[3:], False)
    assert client.get("/v1/jobs", params={"after": "job_none"}).status_code == 404
    assert client.get("/v1/jobs/job_none").status_code == 404


def test_results_are_read_from_any_document_on(client: httpx.Client, gateway: BulkGateway) -> None:
    job_id = post(client, docs(35))["id"]
    url = f"/v1/jobs/{job_id}/results"
    nothing = client.get(url)
    assert (nothing.content, nothing.headers["x-next-offset"]) == (b"", "0")

    gateway.run_segment(job_id, 0)
    gateway.run_segment(job_id, 2)
    beginning = client.get(url)
    assert beginning.headers["content-type"] == "application/x-ndjson"
    assert beginning.headers["x-next-offset"] == "10"
    assert entries(beginning) == [{"index": i, "id": f"d{i}", "embedding": [float(i), 1.0]} for i in range(10)]
    assert client.get(f"/v1/jobs/{job_id}").json()["available"] == 10

    gateway.run_segment(job_id, 1)
    gateway.run_segment(job_id, 3)
    page = client.get(url, params={"offset": 7, "limit": 20})
    assert [entry["index"] for entry in entries(page)] == list(range(7, 27))
    assert page.headers["x-next-offset"] == "27"
    rest = client.get(url, params={"offset": 27})
    assert [entry["index"] for entry in entries(rest)] == list(range(27, 35))
    assert rest.headers["x-next-offset"] == "35"
    for beyond in (35, 1000):
        answer = client.get(url, params={"offset": beyond})
        assert (answer.content, answer.headers["x-next-offset"]) == (b"", "35")
    assert entries(client.get(url, params={"limit": 0})) == []
    assert client.get(url, params={"offset": -1}).status_code == 400


def test_results_are_written_down_as_the_reader_asks(client: httpx.Client, gateway: BulkGateway) -> None:
    job_id = ended(client, gateway, 12)
    url = f"/v1/jobs/{job_id}/results"
    plain = client.get(url, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = client.get(url)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content

    in_base64 = entries(client.get(url, params={"encoding": "base64"}))
    assert base64.b64decode(in_base64[3]["embedding"]) == struct.pack("<2f", 3, 1)

    binary = client.get(url, params={"encoding": "binary"})
    assert binary.headers["content-type"] == "application/msgpack"
    unpacker = msgpack.Unpacker()
    unpacker.feed(binary.content)
    found = list(unpacker)
    assert found[11] == {"index": 11, "id": "d11", "embedding": struct.pack("<2f", 11, 1)}
    assert len(found) == 12


def test_callbacks_of_an_ended_job_are_pending_until_the_last_has_been_made(
    client: httpx.Client, gateway: BulkGateway, redis_url: str
) -> None:
    def pumped() -> None:
        async def step(table: JobTable) -> None:
            async with AsyncRedis.from_url(redis_url) as redis:
                await CallbackPump(redis, table, gateway.settings).step()

        gateway.table(step)

    def pending(job_id: str) -> list[int]:
        shown = client.get(f"/v1/jobs/{job_id}").json()["callbacks"]["pending"]
        return [shown, gateway.table(lambda table: table.get(job_id)).callbacks_pending]

    without = ended(client, gateway, 5)
    quiet, told = (
        client.post("/v1/jobs", json={"webhook": {"url": "https://example.org", "events": [event]}}).json()["id"]
        for event in ("job.failed", "job.completed")
    )
    for job_id in (quiet, told):
        assert pending(job_id) == [0, 0]
        gateway.enter(job_id, State.COMPLETED)
        assert pending(job_id) == [1, 0]
    pumped()
    assert (pending(without), pending(quiet), pending(told)) == ([0, 0], [0, 0], [1, 1])


def test_results_of_a_cancelled_job_are_those_that_there_are(client: httpx.Client, gateway: BulkGateway) -> None:
    job_id = post(client, docs(30))["id"]
    gateway.run_segment(job_id, 0)
    gateway.run_segment(job_id, 2)
    gateway.enter(job_id, State.CANCELLED)
    answer = client.get(f"/v1/jobs/{job_id}/results", params={"offset": 5})
    assert [entry["index"] for entry in entries(answer)] == [*range(5, 10), *range(20, 30)]
    assert answer.headers["x-next-offset"] == "30"


def test_results_can_be_followed_until_the_job_ends(client: httpx.Client, gateway: BulkGateway) -> None:
    job_id = post(client, docs(20), more=True)["id"]
    gateway.run_segment(job_id, 0)
    seen: list[int] = []
    following = threading.Event()

    def follow() -> None:
        with gateway.client() as own, own.stream("GET", f"/v1/jobs/{job_id}/results?follow=true&offset=3") as answer:
            assert "x-next-offset" not in answer.headers
            following.set()
            seen.extend(orjson.loads(line)["index"] for line in answer.iter_lines())

    thread = threading.Thread(target=follow)
    thread.start()
    # The answer has begun, and goes on as the job does.
    assert following.wait(10)
    gateway.run_segment(job_id, 1)
    post(client, docs(5, 20), f"/v1/jobs/{job_id}/documents")
    gateway.run_segment(job_id, 2)
    gateway.enter(job_id, State.COMPLETED)
    thread.join(10)
    assert seen == list(range(3, 25))


@pytest.mark.parametrize("accept_encoding", ["identity", "gzip"])
def test_results_that_are_followed_show_signs_of_life(
    client: httpx.Client, gateway: BulkGateway, monkeypatch: pytest.MonkeyPatch, accept_encoding: str
) -> None:
    monkeypatch.setattr(result_stream, "_HEARTBEAT_S", 0.05)
    monkeypatch.setattr(result_stream, "_POLL_S", 0.05)
    job_id = post(client, docs(10), more=True)["id"]
    gateway.run_segment(job_id, 0)
    path, headers = f"/v1/jobs/{job_id}/results?follow=true", {"accept-encoding": accept_encoding}

    with client.stream("GET", path, headers=headers) as answer:
        lines = answer.iter_lines()
        assert [orjson.loads(next(lines))["index"] for _ in range(10)] == list(range(10))
        assert [next(lines) for _ in range(3)] == [""] * 3

    with client.stream("GET", f"{path}&encoding=binary", headers=headers) as answer:
        unpacker = msgpack.Unpacker()
        found: list[Any] = []
        for piece in answer.iter_bytes():
            unpacker.feed(piece)
            found.extend(unpacker)
            if len(found) >= 12:
                break
    assert [entry["index"] for entry in found[:10]] == list(range(10))
    assert found[10:12] == [None, None]


def test_progress_comes_as_events_until_the_end(
    client: httpx.Client, gateway: BulkGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_events, "_POLL_S", 0.05)
    monkeypatch.setattr(job_events, "_HEARTBEAT_S", 0.2)
    job_id = post(client, docs(20))["id"]
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = _blocks(answer)
        assert next(blocks) == {"retry": "2000"}
        first = next(blocks)
        assert (first["event"], orjson.loads(first["data"])["counts"]["completed"]) == ("progress", 0)
        assert next(blocks) == {"": "still here"}
        gateway.run_segment(job_id, 0)
        second = next(block for block in blocks if "event" in block)
        assert orjson.loads(second["data"])["counts"]["completed"] == 10
        assert second["id"] != first["id"]
        gateway.enter(job_id, State.COMPLETED)
        end = next(block for block in blocks if "event" in block)
        assert (end["event"], orjson.loads(end["data"])) == ("end", client.get(f"/v1/jobs/{job_id}").json())
        assert list(blocks) == []

    again = client.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": second["id"]})
    assert again.text.count("event: end") == 1
    assert client.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": end["id"]}).status_code == 204


def _blocks(answer: httpx.Response) -> Iterator[dict[str, str]]:
    block: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(":")
            block[name] = value.strip()
        elif block:
            yield block
            block = {}


def test_progress_goes_on_when_redis_is_back(
    own_valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_events, "_POLL_S", 0.05)
    gateway = BulkGateway(own_valkey.url(), tmp_path)
    gateway.start()
    try:
        with gateway.client() as client:
            job_id = post(client, docs(20), more=True)["id"]
            with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
                blocks = _blocks(answer)
                assert [next(blocks).get("event") for _ in range(2)] == [None, "progress"]
                own_valkey.restart(crash=True)
                gateway.enter(job_id, State.COMPLETED)
                assert next(blocks)["event"] == "end"
    finally:
        gateway.stop()


def test_the_time_that_is_left_is_told_when_all_documents_are_there(client: httpx.Client, gateway: BulkGateway) -> None:
    job_id = post(client, docs(20), more=True)["id"]
    gateway.run_segment(job_id, 0)
    gateway.table(lambda table: table.set(job_id, rate=2.5))
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["rate"], job["eta_s"]) == (2.5, None)
    job = post(client, docs(0), f"/v1/jobs/{job_id}/documents")
    assert (job["rate"], job["eta_s"]) == (2.5, 4)


def test_a_running_job_is_cancelled_and_one_that_has_ended_deleted(client: httpx.Client, gateway: BulkGateway) -> None:
    job_id = post(client, docs(20))["id"]
    assert client.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "cancelling"
    assert client.delete(f"/v1/jobs/{job_id}").json()["status"] == "cancelling"
    refused = client.post(f"/v1/jobs/{job_id}/documents", content=docs(1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert client.post(f"/v1/jobs/{job_id}/resume").status_code == 409
    gateway.enter(job_id, State.CANCELLED)
    assert client.post(f"/v1/jobs/{job_id}/cancel").json()["status"] == "cancelled"

    assert client.delete(f"/v1/jobs/{job_id}").json()["deleted"] is True
    assert client.get(f"/v1/jobs/{job_id}").status_code == 404
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert [path for path in gateway.folder.rglob("*") if path.is_file()] == []


def test_a_job_that_ended_early_is_resumed(client: httpx.Client, gateway: BulkGateway, redis: Redis) -> None:
    job_id = post(client, docs(20))["id"]
    for state in (State.FAILED, State.CANCELLED, State.EXPIRED):
        gateway.enter(job_id, state)
        gateway.table(lambda table: table.set(job_id, rate=2.5))
        redis.delete(keys.ACTIVE_JOBS)
        before = client.get(f"/v1/jobs/{job_id}").json()
        assert before["finished_at"] is not None
        resumed = client.post(f"/v1/jobs/{job_id}/resume").json()
        assert (resumed["status"], resumed["finished_at"]) == ("in_progress", None)
        assert (before["rate"], resumed["rate"]) == (2.5, 0)
        assert redis.zrange(keys.ACTIVE_JOBS, 0, -1) == [job_id.encode()]
    gateway.enter(job_id, State.COMPLETED)
    assert client.post(f"/v1/jobs/{job_id}/resume").status_code == 409


def test_an_upload_of_a_cancelled_job_is_refused_in_its_middle(client: httpx.Client, gateway: BulkGateway) -> None:
    job_id = client.post("/v1/jobs", json={}).json()["id"]

    def endless() -> Iterator[bytes]:
        for first in range(0, 100_000, 10):
            yield docs(10, first)
            if first == 100:
                client.post(f"/v1/jobs/{job_id}/cancel")
            time.sleep(0.001)
            if first > 2000:
                return

    with gateway.client() as own:
        answer = own.post(f"/v1/jobs/{job_id}/documents", content=endless())
    assert answer.status_code == 409
    assert answer.json()["error"]["message"] == "the job is cancelling and takes no more documents"


def test_without_redis_the_answer_is_503(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    gateway = BulkGateway(own_valkey.url(), tmp_path)
    gateway.start()
    try:
        own_valkey.stop()
        with gateway.client() as client:
            answer = client.post("/v1/ingest", content=docs(5))
            assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "true")
    finally:
        gateway.stop()


def test_results_on_the_same_connection_show_signs_of_life(
    client: httpx.Client, gateway: BulkGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_HEARTBEAT_S", 0.1)
    bad = b'{"id":"a"}\nnot json\n{"$too_long":7}\n'
    with client.stream(
        "POST", "/v1/ingest", content=bad + docs(1), headers={"accept": "application/x-ndjson"}
    ) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        # There is no worker: nothing but empty lines comes.
        beats = answer.iter_raw()
        assert [next(beats) for _ in range(3)] == [b"\n"] * 3


def test_a_client_that_leaves_takes_its_documents_along(gateway: BulkGateway) -> None:
    admission = gateway.core.admission
    with (
        gateway.client() as own,
        own.stream("POST", "/v1/ingest", content=docs(2000), headers={"accept": "application/x-ndjson"}),
    ):
        # There is no worker; some groups wait for one, the others for them.
        wait_until(lambda: admission.pending_items > 500)
    wait_until(lambda: admission.pending_items == 0)


def test_who_gets_no_results_is_not_read_from(gateway: BulkGateway) -> None:
    head = "POST /v1/ingest HTTP/1.1\r\nhost: x\r\naccept: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(head.encode())
        connection.settimeout(1.0)
        body = docs(1000)
        chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n"
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                sent += connection.send(chunk)
    assert sent < 32 << 20


def test_what_has_no_text_needs_no_worker(client: httpx.Client) -> None:
    bad = b'{"id":"a"}\nnot json\n'
    answer = client.post("/v1/ingest", content=bad, headers={"accept": "application/x-ndjson"})
    first, second, summary = entries(answer)
    assert first == {
        "index": 0,
        "id": "a",
        "error": {"code": "invalid_request", "message": "the document has no `text`"},
    }
    assert (second["index"], second["id"], second["error"]["code"]) == (1, None, "invalid_json")
    assert summary == {"object": "summary", "documents": 2, "failed": 2, "tokens": 0}


def test_results_of_a_body_that_is_not_whole_end_in_an_error_and_not_in_a_summary(client: httpx.Client) -> None:
    packed = gzip.compress(b"not json\n" * 1000 + random.Random(1).randbytes(1000).hex().encode())
    headers = {"accept": "application/x-ndjson", "content-encoding": "gzip"}
    *results, last = entries(client.post("/v1/ingest", content=packed[:-100], headers=headers))
    assert len(results) == 1000
    assert last == {
        "object": "error",
        "error": {"code": "invalid_request", "message": "the gzip data of the body end too early"},
        "documents": 1000,
        "failed": 1000,
        "tokens": 0,
    }


def _silent(gateway: BulkGateway, path: str, *headers: str) -> tuple[str, float]:
    """Begin an upload and say no more; all that comes back until the server closes, and how long that took."""
    line = b'{"id": "a"}\n'  # without a text, so that no worker is wanted
    head = "\r\n".join([f"POST {path} HTTP/1.1", "host: x", "transfer-encoding: chunked", *headers, "", ""])
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(line), line))
        started, received = time.monotonic(), b""
        while chunk := connection.recv(1 << 16):
            received += chunk
        return received.decode(), time.monotonic() - started


def test_an_upload_that_falls_silent_is_not_kept_open_for_ever(make: Make) -> None:
    gateway = make(job_upload_idle_s=0.5, jobs=True)

    answer, took_s = _silent(gateway, "/v1/ingest")

    assert answer.startswith("HTTP/1.1 408 ")
    assert '"code":"body_too_slow"' in answer
    assert "nothing more of the body has come for 0.5 s" in answer
    assert took_s < 20


def test_on_the_same_connection_that_is_the_last_line(make: Make) -> None:
    gateway = make(job_upload_idle_s=0.5)

    answer, took_s = _silent(gateway, "/v1/ingest", "accept: application/x-ndjson")

    assert answer.startswith("HTTP/1.1 200 ")
    assert '"code":"body_too_slow"' in answer
    assert "summary" not in answer
    assert took_s < 20


@pytest.mark.parametrize("params", [{"webhook": "https://a"}, {"more": "true"}, {"encoding": "binary"}])
def test_what_only_jobs_have_is_refused_on_the_same_connection(client: httpx.Client, params: dict[str, str]) -> None:
    answer = client.post("/v1/ingest", content=docs(1), params=params, headers={"accept": "application/x-ndjson"})
    assert answer.status_code == 400


def _grown_bytes(before: int) -> int:
    return psutil.Process().memory_info().rss - before


def test_two_hundred_thousand_documents_take_no_memory(make: Make) -> None:
    gateway = make()

    def many(count: int) -> Iterator[bytes]:
        for first in range(0, count, 200):
            yield b"".join(b'{"id":%d,"text":"%b"}\n' % (i, b"word " * 40) for i in range(first, first + 200))

    with gateway.client(120) as client:
        assert client.post("/v1/ingest", content=many(20_000)).status_code == 202
        before = psutil.Process().memory_info().rss
        job = client.post("/v1/ingest", content=many(200_000)).json()
    assert job["counts"]["received"] == 200_000
    assert _grown_bytes(before) < 50 << 20


def test_a_zip_bomb_takes_no_memory(make: Make) -> None:
    gateway = make()
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = b"x" * (1 << 20)
    bomb = b"".join(compressor.compress(piece) for _ in range(200)) + compressor.flush()
    with gateway.client(120) as client:
        post(client, docs(1000))
        before = psutil.Process().memory_info().rss
        answer = client.post("/v1/ingest", content=bomb, headers={"content-encoding": "gzip"})
    assert gateway.lines(answer.json()["id"]) == [b'{"$too_long":%d}' % (200 << 20)]
    assert _grown_bytes(before) < 50 << 20


def test_the_routes_are_in_the_documentation(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    ingest = paths["/v1/ingest"]["post"]
    assert {"model", "kinds", "webhook", "more"} <= {parameter["name"] for parameter in ingest["parameters"]}
    assert set(ingest["requestBody"]["content"]) == {"application/x-ndjson", "multipart/form-data"}
    assert {"200", "202", "400", "507"} <= set(ingest["responses"])
    assert set(paths["/v1/jobs"]) == {"get", "post"}
    for path in ("", "/documents", "/cancel", "/resume", "/events", "/results"):
        assert f"/v1/jobs/{{job_id}}{path}" in paths
