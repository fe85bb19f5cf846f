"""Files and batches as OpenAI has them: the gateway's routes on a real server and a real store, asked by OpenAI's client."""

import asyncio
import base64
import gc
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import openai
import psutil
import pytest
import uvicorn
from fastapi import FastAPI
from openai import OpenAI
from pydantic import SecretStr
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

import api.dialects
from api.bulk.batch_routes import add_batch_routes
from api.bulk.files import FileTable, finish_files
from api.bulk.validation import MOST_ERRORS, validate
from api.middleware import RequestId
from api.routing import contenders_by_path
from api.settings import ApiSettings
from shared import keys
from shared.bulk.jobs import FileRecord, Job, State, WebhookEndpoint
from shared.bulk.store import Store, errors_path, input_path, output_path
from shared.bulk.table import JobTable
from shared.errors import Conflict, StorageUnavailable
from shared.plugins import discover
from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until

ENDPOINT = "/v1/embeddings"
MB = 1024 * 1024

ResultT = TypeVar("ResultT")


class Gateway:
    """The routes of files and batches, served from a thread."""

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self.url = f"http://127.0.0.1:{free_port()}"
        self.store = Store(settings.store_url())
        self.client = OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=30)
        redis = AsyncRedis.from_url(settings.redis_url.get_secret_value())
        app = FastAPI(redirect_slashes=False)
        app.add_middleware(RequestId, access_log=False)
        add_batch_routes(
            app,
            redis=redis,
            table=JobTable(redis),
            store=self.store,
            contenders=contenders_by_path(discover(api.dialects), settings),
            settings=settings,
        )
        self._redis = redis
        config = uvicorn.Config(app, port=int(self.url.rpartition(":")[2]), log_config=None, loop="asyncio")
        self._server = uvicorn.Server(config)

    @contextmanager
    def running(self) -> Iterator["Gateway"]:
        async def serve() -> None:
            async with self._redis:
                await self._server.serve()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            wait_until(lambda: self._server.started, what="the server")
            yield self
        finally:
            self.client.close()
            self.http.close()
            self._server.should_exit = True
            thread.join(10)

    def ask(self, question: Callable[[JobTable, FileTable], Awaitable[ResultT]]) -> ResultT:
        """Do something with the tables, beside the gateway."""

        async def answer() -> ResultT:
            async with AsyncRedis.from_url(self.settings.redis_url.get_secret_value()) as redis:
                return await question(JobTable(redis), FileTable(redis))

        return asyncio.run(answer())

    def upload(self, *lines: Any, name: str = "lines.jsonl") -> str:
        """A file of lines, objects or bytes; its id."""
        data = b"\n".join(entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in lines)
        return self.client.files.create(file=(name, data), purpose="batch").id

    def batch(self, *lines: Any, **options: Any) -> openai.types.Batch:
        """A batch of lines."""
        return self.client.batches.create(
            input_file_id=self.upload(*lines), endpoint=ENDPOINT, completion_window="24h", **options
        )

    def validate(self, batch_id: str, **changes: Any) -> Job:
        """Validate a batch as the job runner does; how it stands then."""
        settings = self.settings.model_copy(update=changes)

        async def run(table: JobTable, _: FileTable) -> Job:
            await validate(await table.get(batch_id), table, self.store, settings)
            return await table.get(batch_id)

        return self.ask(run)

    def stored_lines(self, batch_id: str) -> list[list[bytes]]:
        """The input lines of each segment."""

        async def read(table: JobTable, _: FileTable) -> list[list[bytes]]:
            segments = await table.segments(batch_id)
            paths = [input_path(batch_id, number, segments[number].writer) for number in range(len(segments))]
            return [self.store.read(path).splitlines() for path in paths]

        return self.ask(read)


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> ApiSettings:
    return ApiSettings(redis_url=SecretStr(redis_url), store=str(tmp_path / "store"), job_segment_documents=4)


@pytest.fixture
def gateway(settings: ApiSettings) -> Iterator[Gateway]:
    with Gateway(settings).running() as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> OpenAI:
    return gateway.client


def line(number: int, **changes: Any) -> dict[str, Any]:
    """A good line."""
    return {
        "custom_id": f"c{number}",
        "method": "POST",
        "url": ENDPOINT,
        "body": {"model": "m", "input": f"text {number}"},
        **changes,
    }


def lines(count: int) -> list[dict[str, Any]]:
    """Good lines."""
    return [line(number) for number in range(count)]


def test_a_file_is_uploaded_shown_downloaded_and_deleted(client: OpenAI, gateway: Gateway, tmp_path: Path) -> None:
    # Given
    data = b'{"a": 1}\n' * 1000

    # When
    file = client.files.create(file=("naïve.jsonl", data), purpose="batch")

    # Then
    assert (file.bytes, file.filename, file.purpose, file.status) == (len(data), "naïve.jsonl", "batch", "processed")
    assert file.expires_at == pytest.approx(file.created_at + gateway.settings.file_ttl_s, abs=1)
    assert client.files.wait_for_processing(file.id).id == file.id
    assert client.files.retrieve(file.id) == file
    content = client.files.content(file.id)
    assert content.read() == data
    assert content.response.headers["content-length"] == str(len(data))

    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_files_are_served_under_the_other_prefixes_too(gateway: Gateway) -> None:
    file_id = gateway.upload(b"{}")

    for path in (f"/files/{file_id}", f"/openai/v1/files/{file_id}", f"/v1/files/{file_id}/"):
        assert gateway.http.get(path).json()["id"] == file_id


def test_a_file_may_come_before_its_fields(gateway: Gateway) -> None:
    answer = gateway.http.post(
        "/v1/files",
        headers={"content-type": "multipart/form-data; boundary=b"},
        content=b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n{}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n',
    )

    assert (answer.status_code, answer.json()["bytes"]) == (200, 2)


def test_an_upload_says_when_it_goes(client: OpenAI) -> None:
    file = client.files.create(file=b"{}", purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600})

    assert file.expires_at == pytest.approx(file.created_at + 3600, abs=1)


def test_an_object_in_a_form_may_be_json(gateway: Gateway) -> None:
    fields = {"purpose": "batch", "expires_after": '{"anchor": "created_at", "seconds": 7200}'}

    file = gateway.http.post("/v1/files", files={"file": ("f", b"{}")}, data=fields).json()

    assert file["expires_at"] == pytest.approx(file["created_at"] + 7200, abs=1)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "purpose"),
        ({"purpose": "fine-tune"}, "purpose"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "60"}, "expires_after"),
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, "expires_after"),
        ({"purpose": "batch", "expires_after": "soon"}, "expires_after"),
        ({"purpose": "batch", "expires_after": "[1]"}, "expires_after"),
        ({"purpose": "x" * 5000}, "purpose"),
    ],
    ids=str,
)
def test_a_wrong_form_is_refused_and_leaves_nothing(
    gateway: Gateway, tmp_path: Path, fields: dict[str, str], param: str
) -> None:
    answer = gateway.http.post("/v1/files", files={"file": ("f", b"{}")}, data=fields)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=b", b"something else"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n{',
        ),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n',
        ),
        ("multipart/form-data; boundary=b", 2 * b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n'),
    ],
    ids=str,
)
def test_what_is_no_form_with_a_file_is_refused(gateway: Gateway, content_type: str, body: bytes) -> None:
    answer = gateway.http.post("/v1/files", headers={"content-type": content_type}, content=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_an_upload_that_breaks_off_leaves_nothing(gateway: Gateway, tmp_path: Path) -> None:
    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        yield b"x" * 3 * MB
        wait_until(lambda: list((tmp_path / "store" / "files").glob("*.part")), what="the file to be begun")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gateway.http.post("/v1/files", headers={"content-type": "multipart/form-data; boundary=b"}, content=body())

    wait_until(lambda: not list((tmp_path / "store" / "files").glob("*")), what="the rest to be removed")
    assert not list(gateway.client.files.list())


def test_a_file_larger_than_the_limit_is_refused(settings: ApiSettings) -> None:
    limited = Gateway(settings.model_copy(update={"file_limit_bytes": 1 * MB}))

    with limited.running() as gateway, pytest.raises(openai.APIStatusError) as caught:
        gateway.upload(b"x" * 40 * MB)

    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")


def test_a_store_that_is_full_says_so_until_something_is_deleted(settings: ApiSettings) -> None:
    with Gateway(settings.model_copy(update={"store_limit_bytes": 3 * MB})).running() as gateway:
        first = gateway.upload(b"x" * 2 * MB)
        with pytest.raises(openai.InternalServerError) as caught:
            gateway.upload(b"x" * 2 * MB)
        assert (caught.value.status_code, caught.value.code) == (507, "storage_full")
        assert caught.value.response.headers["x-should-retry"] == "false"

        gateway.client.files.delete(first)

        assert gateway.upload(b"x" * 2 * MB)


def test_a_store_that_cannot_be_written_is_an_error_that_may_pass(gateway: Gateway, tmp_path: Path) -> None:
    gateway.upload(b"{}")
    (tmp_path / "store" / "files").rename(tmp_path / "away")
    (tmp_path / "store" / "files").write_text("in the way")

    with pytest.raises(openai.InternalServerError) as caught:
        gateway.upload(b"{}")

    assert (caught.value.status_code, caught.value.code) == (StorageUnavailable.status, StorageUnavailable.code)


def test_a_file_whose_bytes_are_gone_is_not_found(gateway: Gateway) -> None:
    file_id = gateway.upload(b"{}")
    gateway.store.remove(f"files/{file_id}")

    with pytest.raises(openai.NotFoundError):
        gateway.client.files.content(file_id)


def test_files_are_listed_page_by_page(client: OpenAI, gateway: Gateway, redis: Redis) -> None:
    # Given five uploads and another's output
    ids = [gateway.upload(b"{}", name=f"{number}.jsonl") for number in range(5)]
    other = FileRecord(
        id="file-o", filename="o", purpose="batch_output", bytes=1, created_at=time.time(), job="batch_x"
    )
    gateway.ask(lambda _, files: files.add(other))

    # Then each page has one file and says whether there are more
    page = client.files.list(limit=1, purpose="batch")
    assert ([file.id for file in page.data], page.has_more) == (ids[-1:], True)
    assert [file.id for file in client.files.list(limit=1, purpose="batch")] == ids[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == [*ids, "file-o"]
    assert [file.id for file in client.files.list(purpose="batch_output")] == ["file-o"]
    assert not client.files.list(limit=5, purpose="batch").has_more
    assert not client.files.list(purpose="fine-tune").data
    with pytest.raises(openai.NotFoundError):
        client.files.list(after="file-unknown")
    for query in ("limit=0", "limit=10001", "order=up", "limit=many"):
        assert gateway.http.get(f"/v1/files?{query}").status_code == 400


def test_a_file_whose_time_has_run_out_is_gone_and_is_cleaned_up(
    gateway: Gateway, redis: Redis, tmp_path: Path
) -> None:
    # Given
    kept, gone = gateway.upload(b"{}"), gateway.upload(b"{}")
    record = json.loads(redis.get(keys.file(gone)))
    redis.set(keys.file(gone), json.dumps({**record, "expires_at": time.time() - 1}))

    # Then it is not shown
    assert [file.id for file in gateway.client.files.list()] == [kept]
    with pytest.raises(openai.NotFoundError):
        gateway.client.files.content(gone)

    # When it is cleaned up
    gateway.ask(lambda _, files: files.remove_expired(gateway.store, time.time()))

    # Then nothing of it is left
    assert [path.name for path in (tmp_path / "store" / "files").iterdir()] == [kept]
    assert redis.zrange(keys.FILES, 0, -1) == [kept.encode()]
    assert int(redis.get(keys.STORED_BYTES)) == 2


def test_a_file_that_is_added_and_a_job_that_is_deleted_once_more_change_nothing(
    gateway: Gateway, redis: Redis
) -> None:
    """As after an answer of Redis that was lost on its way."""
    # Given
    file_id = gateway.upload(b"{}")
    record = FileRecord.model_validate_json(redis.get(keys.file(file_id)))
    batch = gateway.batch(*lines(3))
    stored = int(redis.get(keys.STORED_BYTES))

    # When
    gateway.ask(lambda _, files: files.add(record))

    # Then
    assert int(redis.get(keys.STORED_BYTES)) == stored

    # When
    gateway.validate(batch.id)
    _complete(gateway, batch.id, 0, b"a\nb\n", b"")

    async def delete_twice(table: JobTable, _: FileTable) -> None:
        job = await table.get(batch.id)
        await table.delete(job)
        await table.delete(job)

    gateway.ask(delete_twice)

    # Then
    assert int(redis.get(keys.STORED_BYTES)) == stored


def test_a_large_upload_takes_no_memory(gateway: Gateway, tmp_path: Path) -> None:
    # Given 200 MB on disk, and a first upload and download behind us
    source = tmp_path / "large.jsonl"
    block = (json.dumps(line(0)) + "\n").encode() * 10_000
    with source.open("wb") as file:
        while file.tell() < 200_000_000:
            file.write(block)
    with source.open("rb") as file:
        gateway.client.files.delete(gateway.client.files.create(file=("small", file.read(5 * MB)), purpose="batch").id)
    gc.collect()
    process = psutil.Process()
    before, most = process.memory_info().rss, 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.02):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()

    # When it is uploaded and downloaded by the same process
    with source.open("rb") as file:
        uploaded = gateway.client.files.create(file=file, purpose="batch")
    size = 0
    with gateway.client.files.with_streaming_response.content(uploaded.id) as answer:
        for chunk in answer.iter_bytes(MB):
            size += len(chunk)
    ended.set()
    watcher.join()

    # Then
    assert uploaded.bytes == size == source.stat().st_size
    assert (most - before) / MB < 50


def test_a_batch_is_created_shown_and_listed(client: OpenAI, gateway: Gateway) -> None:
    # When
    batch = gateway.batch(*lines(3), metadata={"team": "search"})

    # Then
    assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", ENDPOINT)
    assert batch.metadata == {"team": "search"}
    assert batch.expires_at == pytest.approx(batch.created_at + 86_400, abs=1)
    assert batch.request_counts is not None
    assert batch.request_counts.total == 0
    assert batch.usage is not None
    assert batch.usage.total_tokens == 0
    assert (batch.output_file_id, batch.error_file_id, batch.errors) == (None, None, None)
    assert client.batches.retrieve(batch.id) == batch

    # And of three batches each is on a page of its own
    ids = [batch.id, gateway.batch(line(0)).id, gateway.batch(line(0)).id]
    page = client.batches.list(limit=1)
    assert ([entry.id for entry in page.data], page.has_more) == (ids[-1:], True)
    assert [entry.id for entry in client.batches.list(limit=1)] == ids[::-1]
    raw = gateway.http.get("/v1/batches?limit=2").json()
    assert (raw["object"], raw["first_id"], raw["last_id"], raw["has_more"]) == ("list", ids[2], ids[1], True)
    assert gateway.http.get("/v1/batches?limit=101").status_code == 400


def test_an_empty_list_has_no_first_and_no_last(gateway: Gateway) -> None:
    empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}

    assert gateway.http.get("/v1/batches").json() == empty
    assert gateway.http.get("/v1/files").json() == empty


@pytest.mark.parametrize("endpoint", ["/v1/rerank", "/rerank", "/v1/score", "/embed", "/embed_sparse", "/v1/hybrid"])
def test_every_path_that_runs_a_model_takes_batches(gateway: Gateway, endpoint: str) -> None:
    file_id = gateway.upload({"custom_id": "c", "body": {}})

    batch = gateway.client.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h")  # type: ignore[arg-type]

    assert batch.endpoint == endpoint


def test_what_goes_beyond_openai_s_is_taken(gateway: Gateway) -> None:
    # When
    answer = gateway.http.post(
        "/v1/batches",
        json={
            "requests": [{"custom_id": "c", "body": {"input": "a"}}],
            "endpoint": ENDPOINT,
            "completion_window": "7d",
            "request_params": {"model": "m"},
            "priority": -3,
            "output_expires_after": {"anchor": "created_at", "seconds": 3600},
            "metadata": None,
            "webhook": None,
        },
    )

    # Then
    assert answer.status_code == 200
    batch = answer.json()
    assert (batch["model"], batch["priority"], batch["completion_window"]) == ("m", -3, "7d")
    assert batch["expires_at"] == pytest.approx(batch["created_at"] + 7 * 86_400, abs=1)
    assert gateway.client.files.content(batch["input_file_id"]).read() == b'{"custom_id":"c","body":{"input":"a"}}\n'
    job = gateway.validate(batch["id"])
    assert (job.state, job.received, job.spec.request_params) == (State.IN_PROGRESS, 1, {"model": "m"})
    # and the batch outlives its files
    assert (job.spec.output_ttl_s, job.spec.results_ttl_s) == (3600, gateway.settings.job_results_ttl_s)


@pytest.mark.parametrize(
    ("changes", "param", "status"),
    [
        ({"endpoint": "/tokenize"}, "endpoint", 400),
        ({"endpoint": "/v1/files"}, "endpoint", 400),
        ({"endpoint": None}, "endpoint", 400),
        ({"completion_window": "24"}, "completion_window", 400),
        ({"completion_window": "0h"}, "completion_window", 400),
        ({"completion_window": "31d"}, "completion_window", 400),
        ({"completion_window": 24}, "completion_window", 400),
        ({"priority": 101}, "priority", 400),
        ({"priority": -101}, "priority", 400),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata", 400),
        ({"metadata": {"k" * 65: ""}}, "metadata", 400),
        ({"metadata": {"k": "v" * 513}}, "metadata", 400),
        ({"metadata": {"k": 5}}, "metadata", 400),
        ({"request_params": ["model"]}, "request_params", 400),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "output_expires_after", 400),
        ({"webhook": {}}, "webhook", 400),
        ({"requests": [{}]}, None, 400),
        ({"input_file_id": None}, None, 400),
        ({"input_file_id": None, "requests": []}, "requests", 400),
        ({"input_file_id": None, "requests": [{}] * 10_001}, "requests", 413),
        ({"input_file_id": "file-unknown"}, "input_file_id", 404),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_wrong_batch_is_refused(gateway: Gateway, changes: dict[str, Any], param: str | None, status: int) -> None:
    body = {"input_file_id": gateway.upload(line(0)), "endpoint": ENDPOINT, "completion_window": "24h", **changes}

    answer = gateway.http.post("/v1/batches", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert not gateway.http.get("/v1/batches").json()["data"]


def test_a_batch_has_a_webhook_of_its_own(gateway: Gateway, redis: Redis) -> None:
    # Given
    secret = f"whsec_{base64.b64encode(b'x' * 24).decode()}"
    body = {"requests": [line(0)], "endpoint": ENDPOINT}

    # When one batch says its secret and another does not
    told = gateway.http.post(
        "/v1/batches", json={**body, "webhook": {"url": "https://example.org/a", "secret": secret}}
    )
    made = gateway.http.post("/v1/batches", json={**body, "webhook": {"url": "https://example.org/b"}})

    # Then
    def endpoint(answer: httpx.Response) -> WebhookEndpoint:
        job = gateway.ask(lambda table, _: table.get(answer.json()["id"]))
        assert redis.sismember(keys.DELIVERING_JOBS, job.id)
        return WebhookEndpoint.model_validate_json(redis.get(keys.webhook(job.spec.delivery.endpoint or "")))

    assert (endpoint(told).url, endpoint(told).secrets, endpoint(told).inline) == (
        "https://example.org/a",
        [(secret, None)],
        True,
    )
    assert "x-webhook-secret" not in told.headers
    assert endpoint(made).secrets == [(made.headers["x-webhook-secret"], None)]
    assert secret not in told.text

    # And a third goes to the endpoint that is there
    known = endpoint(told).id
    other = gateway.http.post("/v1/batches", json={**body, "webhook": {"endpoint": known}})
    assert endpoint(other).id == known


@pytest.mark.parametrize(
    ("webhook", "status"),
    [
        ({"url": "https://127.0.0.1/"}, 400),
        ({"url": "ftp://example.org/"}, 400),
        ({"url": "https://example.org/", "secret": "short"}, 400),
        ({"url": "https://example.org/", "events": ["batch.unknown"]}, 400),
        ({"endpoint": "we_unknown"}, 404),
        ({"url": "https://example.org/", "endpoint": "we_unknown"}, 400),
    ],
    ids=str,
)
def test_a_wrong_webhook_is_refused_and_leaves_nothing(
    gateway: Gateway, redis: Redis, webhook: dict[str, str], status: int
) -> None:
    body = {"requests": [line(0)], "endpoint": ENDPOINT, "webhook": webhook}

    answer = gateway.http.post("/v1/batches", json=body)

    assert answer.status_code == status
    assert not redis.keys("millrace:*")


def test_metadata_may_have_its_limits(gateway: Gateway) -> None:
    metadata = {f"{number:064}": "v" * 512 for number in range(16)}

    assert gateway.batch(line(0), metadata=metadata).metadata == metadata


def test_a_file_of_another_purpose_is_no_input(gateway: Gateway) -> None:
    output = FileRecord(
        id="file-o", filename="o", purpose="batch_output", bytes=1, created_at=time.time(), job="batch_x"
    )
    gateway.ask(lambda _, files: files.add(output))

    with pytest.raises(openai.BadRequestError):
        gateway.client.batches.create(input_file_id="file-o", endpoint=ENDPOINT, completion_window="24h")


def test_a_batch_that_is_not_there_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_unknown")
    with pytest.raises(openai.NotFoundError):
        client.batches.cancel("batch_unknown")


def test_a_batch_is_cancelled_once_and_one_that_has_ended_stays_as_it_is(client: OpenAI, gateway: Gateway) -> None:
    # Given
    batch = gateway.batch(line(0))

    # When
    cancelled = client.batches.cancel(batch.id)

    # Then
    assert cancelled.status == "cancelling"
    assert cancelled.cancelling_at == pytest.approx(time.time(), abs=2)
    assert client.batches.cancel(batch.id) == cancelled
    assert gateway.validate(batch.id).state is State.CANCELLING

    # When it has ended
    gateway.ask(lambda table, _: table.enter(batch.id, State.CANCELLED, since=[State.CANCELLING]))
    ended = client.batches.cancel(batch.id)

    # Then
    assert (ended.status, ended.cancelling_at) == ("cancelled", cancelled.cancelling_at)
    assert ended.cancelled_at is not None
    assert client.batches.cancel(batch.id) == ended


def test_a_good_file_is_cut_into_segments_and_runs(gateway: Gateway) -> None:
    # Given lines of which some are blank
    batch = gateway.batch(*lines(5), b"", *lines(11)[5:], b"\r")

    # When
    job = gateway.validate(batch.id)

    # Then
    assert (job.state, job.received, job.segments, job.input_complete) == (State.IN_PROGRESS, 11, 3, True)
    stored = gateway.stored_lines(batch.id)
    assert [len(segment) for segment in stored] == [4, 4, 3]
    numbers = [1, 2, 3, 4, 5, *range(7, 13)]  # the sixth is blank
    assert [json.loads(entry) for segment in stored for entry in segment] == _stored(lines(11), numbers)
    shown = gateway.client.batches.retrieve(batch.id)
    assert (shown.status, shown.request_counts and shown.request_counts.total) == ("in_progress", 11)
    assert shown.in_progress_at == pytest.approx(time.time(), abs=2)


def test_faults_are_told_with_their_lines_and_leave_nothing(gateway: Gateway, tmp_path: Path) -> None:
    # Given a line of each fault
    wrong = [
        (b"{", "invalid_json_line", None),
        (line(2, custom_id=None), "missing_required_parameter", "custom_id"),
        (line(0), "duplicate_custom_id", "custom_id"),
        (line(4, url="/v1/rerank"), "invalid_url", "url"),
        (line(5, method="GET"), "invalid_method", "method"),
        (line(6, body="text"), "invalid_body", "body"),
        (line(7, custom_id=7), "invalid_custom_id", "custom_id"),
    ]
    batch = gateway.batch(line(0), *(entry for entry, _, _ in wrong), line(9))

    # When
    gateway.validate(batch.id)

    # Then
    shown = gateway.client.batches.retrieve(batch.id)
    assert (shown.status, shown.in_progress_at) == ("failed", None)
    assert shown.failed_at is not None
    assert shown.errors is not None
    assert shown.errors.object == "list"
    errors = [(error.code, error.param, error.line) for error in shown.errors.data or []]
    assert errors == [(code, param, number) for number, (_, code, param) in enumerate(wrong, 2)]
    assert not (tmp_path / "store" / "jobs").exists()


def test_an_empty_file_fails_its_batch(gateway: Gateway) -> None:
    (error,) = gateway.validate(gateway.batch(b"\n\n").id).errors

    assert (error.code, error.line) == ("empty_file", None)


def test_too_many_lines_fail_their_batch(gateway: Gateway) -> None:
    (error,) = gateway.validate(gateway.batch(*lines(6)).id, batch_limit_lines=5).errors

    assert (error.code, error.line) == ("too_many_tasks", 6)


def test_a_line_that_is_too_long_fails_its_batch(gateway: Gateway) -> None:
    long = line(1, body={"input": "x" * 5000})

    (error,) = gateway.validate(gateway.batch(line(0), long).id, body_limit_bytes=4096).errors

    assert (error.code, error.line) == ("invalid_json_line", 2)


def test_no_more_than_a_hundred_faults_are_told(gateway: Gateway) -> None:
    job = gateway.validate(gateway.batch(*[b"?"] * 150).id)

    assert len(job.errors) == MOST_ERRORS


def test_a_file_that_is_gone_fails_its_batch(gateway: Gateway) -> None:
    batch = gateway.batch(line(0))
    gateway.client.files.delete(batch.input_file_id)

    (error,) = gateway.validate(batch.id).errors

    assert error.code == "not_found"


def test_a_full_store_fails_its_batch(gateway: Gateway) -> None:
    (error,) = gateway.validate(gateway.batch(*lines(9)).id, store_limit_bytes=1000).errors

    assert error.code == "storage_full"


def test_validation_goes_on_where_it_was_stopped(gateway: Gateway, redis: Redis) -> None:
    # Given a validation that stops after the first of three segments
    batch = gateway.batch(*lines(10))
    _stop_after_first_segment(gateway, batch.id)
    (first,) = gateway.stored_lines(batch.id)
    assert len(first) == 4

    # When it is begun again
    job = gateway.validate(batch.id)

    # Then no line is lost and none is there twice
    assert (job.state, job.received, job.segments) == (State.IN_PROGRESS, 10, 3)
    stored = gateway.stored_lines(batch.id)
    assert stored[0] == first
    assert [json.loads(entry) for segment in stored for entry in segment] == _stored(lines(10), range(1, 11))


def test_two_that_validate_one_batch_cut_each_line_once(gateway: Gateway) -> None:
    # Given
    batch = gateway.batch(*lines(400))

    async def race(table: JobTable, _: FileTable) -> list[BaseException | None]:
        seen = await table.get(batch.id)
        runs = [validate(seen, table, gateway.store, gateway.settings) for _ in range(3)]
        return await asyncio.gather(*runs, return_exceptions=True)

    # When
    outcomes = gateway.ask(race)

    # Then who was slower says so, or finds it done
    assert all(outcome is None or isinstance(outcome, Conflict) for outcome in outcomes)
    job = (
        gateway.validate(batch.id)
        if Conflict in map(type, outcomes)
        else gateway.ask(lambda table, _: table.get(batch.id))
    )
    assert (job.state, job.received) == (State.IN_PROGRESS, 400)
    stored = [json.loads(entry) for segment in gateway.stored_lines(batch.id) for entry in segment]
    assert stored == _stored(lines(400), range(1, 401))


def test_a_batch_that_is_cancelled_while_it_is_validated_stays_cancelled(gateway: Gateway) -> None:
    # Given
    batch = gateway.batch(*lines(10))
    stale = gateway.ask(lambda table, _: table.get(batch.id))
    gateway.client.batches.cancel(batch.id)

    # When who has seen it before goes on
    gateway.ask(lambda table, _: validate(stale, table, gateway.store, gateway.settings))

    # Then
    assert gateway.client.batches.retrieve(batch.id).status == "cancelling"


def _stored(given: list[dict[str, Any]], numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Lines as they lie in the store: each with its number in the file."""
    return [{**entry, "$line": number} for entry, number in zip(given, numbers, strict=True)]


def _stop_after_first_segment(gateway: Gateway, batch_id: str) -> None:
    """Validate a batch in a store that breaks when the second segment is written."""

    class Breaking(Store):
        written = 0

        def write(self, path: str, data: bytes) -> None:
            self.written += 1
            if self.written == 2:
                raise StorageUnavailable
            super().write(path, data)

    async def run(table: JobTable, _: FileTable) -> None:
        store = Breaking(gateway.settings.store_url())
        with pytest.raises(StorageUnavailable):
            await validate(await table.get(batch_id), table, store, gateway.settings)

    gateway.ask(run)


def test_the_output_of_a_batch_is_downloaded_as_one_file(client: OpenAI, gateway: Gateway, redis: Redis) -> None:
    # Given three segments, of which the second has no errors and the third no results
    batch = gateway.batch(*lines(9))
    gateway.validate(batch.id)
    _complete(gateway, batch.id, 0, b"a\nb\n", b"bad a\n")
    _complete(gateway, batch.id, 1, b"c\n", b"")
    _complete(gateway, batch.id, 2, b"", b"bad b\n")

    # When, twice, as after a crash
    first, second = _finish(gateway, batch.id), _finish(gateway, batch.id)

    # Then
    assert first == second
    output, error = first
    assert output is not None
    assert error is not None
    assert client.files.content(output).read() == b"a\nb\nc\n"
    assert client.files.content(error).read() == b"bad a\nbad b\n"
    shown = client.files.retrieve(output)
    assert (shown.bytes, shown.purpose, shown.filename) == (6, "batch_output", f"{batch.id}_output.jsonl")
    assert shown.expires_at == pytest.approx(shown.created_at + gateway.settings.job_results_ttl_s, abs=1)
    assert client.files.retrieve(error).filename == f"{batch.id}_error.jsonl"

    # When they are deleted
    stored = int(redis.get(keys.STORED_BYTES))
    for file_id in (output, error):
        client.files.delete(file_id)

    # Then their bytes are free, once
    assert int(redis.get(keys.STORED_BYTES)) == stored - 6 - 12
    gateway.ask(_deleted(batch.id))
    client.files.delete(batch.input_file_id)
    assert int(redis.get(keys.STORED_BYTES)) == 0


def test_a_batch_without_results_has_no_files(gateway: Gateway) -> None:
    batch = gateway.batch(line(0))
    gateway.validate(batch.id)

    assert _finish(gateway, batch.id) == (None, None)


def test_an_output_whose_batch_is_gone_is_not_found(client: OpenAI, gateway: Gateway) -> None:
    batch = gateway.batch(line(0))
    gateway.validate(batch.id)
    _complete(gateway, batch.id, 0, b"a\n", b"")
    output, _ = _finish(gateway, batch.id)
    assert output is not None

    gateway.ask(_deleted(batch.id))

    with pytest.raises(openai.NotFoundError):
        client.files.content(output)


def _complete(gateway: Gateway, batch_id: str, number: int, results: bytes, errors: bytes) -> None:
    """What the job runner does with a segment that it has run."""
    if results:
        gateway.store.write(output_path(batch_id, number), results)
    if errors:
        gateway.store.write(errors_path(batch_id, number), errors)

    async def complete(table: JobTable, _: FileTable) -> None:
        segment = (await table.segments(batch_id))[number]
        path = input_path(batch_id, number, segment.writer)
        await table.complete(
            batch_id,
            number,
            completed=len(results.splitlines()),
            failed=len(errors.splitlines()),
            tokens=1,
            input_bytes=len(gateway.store.read(path)),
            result_bytes=len(results),
            error_bytes=len(errors),
        )

    gateway.ask(complete)


def _finish(gateway: Gateway, batch_id: str) -> tuple[str | None, str | None]:
    async def finish(table: JobTable, files: FileTable) -> tuple[str | None, str | None]:
        return await finish_files(await table.get(batch_id), table, files)

    return gateway.ask(finish)


def _deleted(batch_id: str) -> Callable[[JobTable, FileTable], Awaitable[None]]:
    async def delete(table: JobTable, _: FileTable) -> None:
        await table.delete(await table.get(batch_id))

    return delete


def test_a_batch_that_is_sent_again_is_answered_again(gateway: Gateway) -> None:
    # Given
    body = {"input_file_id": gateway.upload(line(0)), "endpoint": ENDPOINT}
    headers = {"idempotency-key": "k1"}
    first = gateway.http.post("/v1/batches", json=body, headers=headers)

    # When it is sent again, its fields in another order
    second = gateway.http.post("/v1/batches", json=dict(reversed(body.items())), headers=headers)

    # Then
    assert (second.status_code, second.json()) == (200, first.json())
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert len(gateway.http.get("/v1/batches").json()["data"]) == 1


def test_a_key_for_another_payload_is_refused(gateway: Gateway) -> None:
    body = {"input_file_id": gateway.upload(line(0)), "endpoint": ENDPOINT}
    headers = {"idempotency-key": "k1"}
    gateway.http.post("/v1/batches", json=body, headers=headers)

    answer = gateway.http.post("/v1/batches", json={**body, "priority": 1}, headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_an_error_is_not_kept(gateway: Gateway) -> None:
    headers = {"idempotency-key": "k1"}
    body = {"input_file_id": "file-unknown", "endpoint": ENDPOINT}
    assert gateway.http.post("/v1/batches", json=body, headers=headers).status_code == 404

    answer = gateway.http.post("/v1/batches", json={**body, "input_file_id": gateway.upload(line(0))}, headers=headers)

    assert answer.status_code == 200


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_has_a_length(gateway: Gateway, key: str) -> None:
    answer = gateway.http.post("/v1/batches", json={}, headers={"idempotency-key": key})

    assert answer.status_code == 400


def test_a_file_that_is_sent_again_is_stored_once(gateway: Gateway, tmp_path: Path) -> None:
    # Given
    headers = {"Idempotency-Key": "k1"}

    def create(data: bytes, name: str = "a.jsonl", seconds: int = 3600) -> openai.types.FileObject:
        return gateway.client.files.create(
            file=(name, data),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": seconds},
            extra_headers=headers,
        )

    first = create(b"x" * 3 * MB)

    # Then the same is answered the same, and nothing else is
    assert create(b"x" * 3 * MB) == first
    for data, name, seconds in (
        (b"y" * 3 * MB, "a.jsonl", 3600),
        (b"x" * 3 * MB, "b", 3600),
        (b"x" * 3 * MB, "a.jsonl", 7200),
    ):
        with pytest.raises(openai.UnprocessableEntityError):
            create(data, name, seconds)
    assert [path.name for path in (tmp_path / "store" / "files").iterdir()] == [first.id]


def test_a_request_that_is_under_way_is_told_to_wait(gateway: Gateway, redis: Redis) -> None:
    # Given an upload that does not end
    begun, end = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n{}'
        begun.set()
        end.wait(10)
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b", "idempotency-key": "k1"}
    whole = b"".join(part for part in (end.set(), *body()) if part)
    begun.clear()
    end.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(gateway.http.post, "/v1/files", headers=headers, content=body())
        wait_until(lambda: redis.exists(keys.idempotency("/v1/files", "k1")), what="the key to be held")

        # When
        with httpx.Client(base_url=gateway.url, trust_env=False) as other:
            second = other.post("/v1/files", headers=headers, content=whole)
        end.set()

        # Then
        assert (second.status_code, second.json()["error"]["code"]) == (409, "idempotency_key_in_use")
        assert second.headers["x-should-retry"] == "true"
        assert first.result().status_code == 200
        again = gateway.http.post("/v1/files", headers=headers, content=whole)
        assert again.json() == first.result().json()


def test_openai_s_client_waits_by_itself_for_a_request_that_is_under_way(gateway: Gateway, redis: Redis) -> None:
    # Given a key that is held, by a gateway that dies
    name = keys.idempotency("/v1/batches", "k1")
    redis.set(name, json.dumps({"holder": "somebody"}), ex=1)

    # When
    batch = gateway.client.with_options(max_retries=4).batches.create(
        input_file_id=gateway.upload(line(0)),
        endpoint=ENDPOINT,
        completion_window="24h",
        extra_headers={"Idempotency-Key": "k1"},
    )

    # Then
    assert batch.status == "validating"
    assert 86_000 < redis.ttl(name) <= 86_400
