"""`millrace serve` starts with a sentence or not at all, and stops without leaving anything behind."""

import asyncio
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.load import embed_all
from tests.helpers.service import Service
from tests.helpers.tiny_models import cross_encoder
from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until


def refused(service: Service) -> str:
    """Launch a service that must not start; its last words."""
    service.launch()
    assert service.process is not None
    status = service.process.wait(90)
    assert status == 1, service.log()
    return service.log()


def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path) -> None:
    service = Service(tmp_path)
    with socket.create_server(("127.0.0.1", service.port)):
        log = refused(service)

    assert log == f"millrace: port {service.port} on 127.0.0.1 is in use; choose another with MILLRACE_PORT\n"


def test_a_redis_that_refuses_is_one_clear_sentence(tmp_path: Path) -> None:
    port = free_port()
    log = refused(Service(tmp_path, {"MILLRACE_REDIS_URL": f"redis://:secret@127.0.0.1:{port}/0"}))

    assert f"millrace: Redis at 127.0.0.1:{port} (MILLRACE_REDIS_URL) cannot be used" in log
    assert "secret" not in log


@pytest.mark.parametrize("model", ["/nowhere/at/all", "nobody/has-this-model"])
def test_a_missing_model_ends_the_service_with_its_name(tmp_path: Path, model: str) -> None:
    log = refused(Service(tmp_path, {"MILLRACE_MODEL": model}))

    assert model in log
    assert "Traceback" not in log
    assert "millrace: worker cannot start" in log


def test_a_missing_sinks_file_is_the_last_thing_that_is_said(tmp_path: Path) -> None:
    log = refused(Service(tmp_path, {"MILLRACE_SINKS_FILE": "/nowhere/sinks.yaml"}))

    assert "/nowhere/sinks.yaml (MILLRACE_SINKS_FILE) cannot be read" in log
    assert "cannot start; its last line above says why" in log.splitlines()[-1]
    assert "Traceback" not in log


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    log = refused(Service(tmp_path, {"MILLRACE_DRAIN_S": "soon"}))

    assert "MILLRACE_DRAIN_S" in log
    assert "Traceback" not in log


def test_two_services_do_not_share_a_state_folder(service: Service, tmp_path: Path) -> None:
    second = Service(tmp_path, {"MILLRACE_STATE_DIR": service.environment["MILLRACE_STATE_DIR"]})

    assert "is used by another `millrace serve`" in refused(second)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_finishes_accepted_work_and_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    # Given a service with work under way
    service = Service(tmp_path)
    service.start()
    processes = service.processes()
    assert len(processes) >= 4  # redis, gateway, worker, engine

    async def stop_in_the_middle() -> None:
        await asyncio.sleep(0.5)
        assert service.process is not None
        service.process.send_signal(number)

    async def load() -> list[int]:
        import httpx

        async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
            bodies = [{"inputs": [f"text {n} of many words about water mills"] * 16} for n in range(24)]
            requests = [asyncio.ensure_future(client.post("/embed", json=body)) for body in bodies]
            await stop_in_the_middle()
            return [response.status_code for response in await asyncio.gather(*requests)]

    # When it is told to stop
    statuses = asyncio.run(load())

    # Then everything it had accepted is answered, it ends cleanly, and nobody is left
    assert statuses == [200] * 24
    assert service.stop() == 0
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert not alive


def test_a_killed_supervisor_leaves_no_orphans(tmp_path: Path) -> None:
    service = Service(tmp_path)
    service.start()
    processes = service.processes()

    assert service.process is not None
    # Given a request that a gateway which drains would wait for
    with socket.create_connection(("127.0.0.1", service.port)) as half:
        half.sendall(
            b"POST /embed HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
        )
        service.process.kill()
        service.process.wait()

        # Then nothing is left long before a drain would be over, and the next start finds its ports free
        _, alive = psutil.wait_procs(processes, timeout=5)
        assert not alive
        service.start()
        service.stop()


def test_what_was_queued_survives_a_restart_of_everything(tmp_path: Path) -> None:
    """The embedded server writes each task to its append-only file."""
    service = Service(tmp_path)
    service.start()
    service.stop()

    assert list((tmp_path / "state").rglob("*.aof"))

    started = time.monotonic()
    service.log_file.unlink()
    service.start()
    try:
        assert time.monotonic() - started < 60  # 15 s when nothing else runs; bench says how long really
    finally:
        service.stop()


def test_a_cross_encoder_folder_reranks_and_its_embed_is_refused(tmp_path: Path) -> None:
    # Given the default model beside a cross-encoder from a folder
    folder = cross_encoder(tmp_path / "tiny-reranker", "bert")
    service = Service(tmp_path, {"MILLRACE_MODEL": f"all-MiniLM-L6-v2,{folder}"})
    service.start()
    try:
        with service.client() as client:
            body = {"query": "water", "texts": ["a mill", "a stadium"]}
            # Then reranking without a model uses the reranker, whose scores are sigmoids
            default = client.post("/rerank", json=body).json()
            named = client.post("/rerank", json={**body, "model": "tiny-reranker"}).json()
            raw = client.post("/rerank", json={**body, "raw_scores": True}).json()
            assert default == named
            assert all(0 < rank["score"] < 1 for rank in default)
            assert [rank["index"] for rank in raw] == [rank["index"] for rank in default]
            # and embedding still works, on the model that can
            assert client.post("/embed", json={"inputs": "x"}).status_code == 200
            refused = client.post("/embed", json={"inputs": "x", "model": "tiny-reranker"})
            assert refused.status_code == 424
            assert "does not embed" in refused.json()["error"]
    finally:
        service.stop()


def test_load_is_answered_while_the_service_is_ready(service: Service) -> None:
    answers = asyncio.run(embed_all(service.url, [f"text {n}" for n in range(200)], concurrency=32, timeout_s=60))

    assert [answer.status for answer in answers] == [200] * 200
    with service.client() as client:
        wait_until(lambda: client.get("/ready").status_code == 200, timeout_s=5, what="readiness")
