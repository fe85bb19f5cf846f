"""The job runner beside everything else that goes on: kills, priorities, full stores, models that are gone, time that is up.

The engine is the null engine, so that what is waited for is the runner and not the model.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis import Redis

from shared import keys
from tests.helpers.ingest import ndjson, submit
from tests.helpers.service import Service
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until

ENVIRONMENT = {
    "MILLRACE_ENGINE": "bench.null_engine",
    # About 2,000 documents a second. At full speed 30,000 end a second after their upload, and what a test does to a job
    # under way may come too late.
    "BENCH_TOKENS_PER_S": "20000",
    "MILLRACE_JOB_SEGMENT_DOCUMENTS": "50",
    "MILLRACE_RETURN_DOCUMENTS": "true",
}


@pytest.fixture(scope="module")
def null_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("null"), ENVIRONMENT)
    service.start()
    yield service
    service.stop()


def test_a_line_of_a_batch_is_answered_as_the_deployment_answers_a_request(null_service: Service) -> None:
    # Given a deployment that returns documents with their scores
    body = {"query": "Where is the mill?", "documents": ["By the river.", "Uphill."]}
    request = {"requests": [{"custom_id": "a", "body": body}], "endpoint": "/v1/rerank"}

    with null_service.client() as client:
        # When
        batch = client.post("/v1/batches", json=request).json()["id"]
        path = f"/v1/batches/{batch}"
        wait_until(lambda: client.get(path).json()["status"] == "completed", timeout_s=30, what="the batch to end")
        line = client.get(f"/v1/files/{client.get(path).json()['output_file_id']}/content").json()

        # Then
        told = {result["document"]["text"] for result in line["response"]["body"]["results"]}
        assert told == {"By the river.", "Uphill."}


def _service(folder: Path, **environment: str) -> Service:
    service = Service(folder, {**ENVIRONMENT, **environment})
    service.start()
    return service


def _job(service: Service, job: str) -> dict[str, Any]:
    with service.client() as client:
        found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        return found


def _wait(service: Service, job: str, status: str = "completed", timeout_s: float = 60) -> dict[str, Any]:
    wait_until(lambda: _job(service, job)["status"] == status, timeout_s=timeout_s, what=f"{job} to be {status}")
    return _job(service, job)


def test_a_killed_runner_is_replaced_and_its_segments_are_run_again(null_service: Service) -> None:
    # Given a job under way
    job = submit(null_service, 20_000)
    wait_until(lambda: _job(null_service, job)["counts"]["completed"] > 500, timeout_s=30)
    # When its runner dies in the middle
    null_service.part("api.bulk").kill()
    # Then it is finished all the same, each document once
    done = _wait(null_service, job)
    assert done["counts"] == {"received": 20_000, "completed": 20_000, "failed": 0}
    with null_service.client() as client:
        lines = client.get(f"/v1/jobs/{job}/results", params={"encoding": "base64"}).content.splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == list(range(20_000))


def test_what_redis_forgets_of_a_job_is_done_again(tmp_path: Path, own_valkey: ValkeyServer) -> None:
    # Given a job under way
    service = _service(tmp_path, MILLRACE_REDIS_URL=own_valkey.url())
    try:
        job = submit(service, 10_000)
        of_job = [of(job) for of in (keys.job, keys.job_done, keys.job_sizes, keys.job_claims)]
        wait_until(lambda: _job(service, job)["counts"]["completed"] > 500, timeout_s=30)
        with Redis.from_url(own_valkey.url()) as redis:
            # When Redis is as it was some segments before, which is what a failover makes of it
            with redis.pipeline(transaction=True) as pipe:
                for key in of_job:
                    pipe.dump(key)
                before = pipe.execute()
            counted = _job(service, job)["counts"]["completed"]
            wait_until(lambda: _job(service, job)["counts"]["completed"] > counted + 500, timeout_s=30)
            with redis.pipeline(transaction=True) as pipe:
                for key, dumped in zip(of_job, before, strict=True):
                    pipe.restore(key, 0, dumped, replace=True)
                pipe.execute()
        # Then the job is finished all the same, each document once
        done = _wait(service, job)
        assert done["counts"] == {"received": 10_000, "completed": 10_000, "failed": 0}
        with service.client() as client:
            lines = client.get(f"/v1/jobs/{job}/results", params={"encoding": "base64"}).content.splitlines()
        assert [orjson.loads(line)["id"] for line in lines] == list(range(10_000))
    finally:
        service.stop()


def test_an_urgent_job_overtakes_one_that_is_under_way(null_service: Service) -> None:
    slow = submit(null_service, 30_000)
    wait_until(lambda: _job(null_service, slow)["counts"]["completed"] > 0, timeout_s=30)
    urgent = submit(null_service, 500, priority=10)
    _wait(null_service, urgent)
    assert _job(null_service, slow)["status"] == "in_progress"
    with null_service.client() as client:
        client.post(f"/v1/jobs/{slow}/cancel")
    _wait(null_service, slow, "cancelled")


def test_jobs_of_one_priority_take_turns(null_service: Service) -> None:
    long = submit(null_service, 30_000)
    short = submit(null_service, 200)
    _wait(null_service, short)
    assert _job(null_service, long)["status"] == "in_progress"
    with null_service.client() as client:
        client.post(f"/v1/jobs/{long}/cancel")
    cancelled = _wait(null_service, long, "cancelled")
    # What was done can be read, once each and in order: without a gap as far as `available`, and also behind one.
    completed, available = cancelled["counts"]["completed"], cancelled["available"]
    assert 0 < completed < 30_000
    assert available <= completed
    with null_service.client() as client:
        lines = client.get(f"/v1/jobs/{long}/results").content.splitlines()
    indices = [orjson.loads(line)["index"] for line in lines]
    assert len(indices) == completed
    assert indices == sorted(set(indices))
    assert indices[:available] == list(range(available))


def test_a_cancelled_job_is_resumed_where_it_stood(null_service: Service) -> None:
    job = submit(null_service, 20_000)
    wait_until(lambda: _job(null_service, job)["counts"]["completed"] > 0, timeout_s=30)
    with null_service.client() as client:
        client.post(f"/v1/jobs/{job}/cancel")
        before = _wait(null_service, job, "cancelled")["counts"]["completed"]
        assert client.post(f"/v1/jobs/{job}/resume").status_code == 200
    done = _wait(null_service, job)
    assert before < 20_000
    assert done["counts"] == {"received": 20_000, "completed": 20_000, "failed": 0}


def test_many_jobs_at_once_are_all_finished(null_service: Service) -> None:
    jobs = [submit(null_service, 120) for _ in range(25)]
    for job in jobs:
        assert _wait(null_service, job)["counts"]["completed"] == 120


def test_a_store_that_is_full_fails_the_job_with_a_sentence(tmp_path: Path) -> None:
    # Given room for the input, but not for the vectors, of which there are few before all of the input is there
    service = _service(tmp_path, MILLRACE_STORE_LIMIT_BYTES="1000000", BENCH_TOKENS_PER_S="2000")
    try:
        job = submit(service, 2_000)
        # Then the job says so, and what was done can be read
        failed = _wait(service, job, "failed")
        assert failed["errors"][0]["code"] == "storage_full"
        assert "1,000,000" in failed["errors"][0]["message"]
        assert 0 < failed["available"] < 2_000
        # And more input is refused with the same sentence
        with service.client() as client:
            refused = client.post("/v1/ingest", content=ndjson(2_000))
        assert refused.status_code == 507
        assert "1,000,000" in refused.json()["error"]["message"]
    finally:
        service.stop()


@pytest.mark.parametrize("left", [0, 700], ids=["empty", "some of it"])
def test_an_input_that_the_disk_has_not_kept_fails_its_job_with_a_sentence(null_service: Service, left: int) -> None:
    # Given a job whose second segment has not all its documents any more, as after a power cut
    store = Path(null_service.environment["MILLRACE_STATE_DIR"], "store", "jobs")
    runner = null_service.part("api.bulk")
    runner.suspend()
    try:
        job = submit(null_service, 100)
        second = sorted((store / job / "input").rglob("*.ndjson"))[1]
        os.truncate(second, left)
    finally:
        runner.resume()
    # Then it says so, instead of being done with less
    failed = _wait(null_service, job, "failed")
    assert failed["errors"][0]["code"] == "input_lost"
    assert "documents 32 to " in failed["errors"][0]["message"]
    assert "are damaged in the store" in failed["errors"][0]["message"]


def test_an_upload_that_stops_and_a_job_whose_time_is_up_say_so(tmp_path: Path) -> None:
    service = _service(
        tmp_path, MILLRACE_JOB_UPLOAD_IDLE_S="2", MILLRACE_JOB_TIMEOUT_S="6", MILLRACE_JOB_RESULTS_TTL_S="5"
    )
    try:
        stopped = submit(service, 100, more="true")
        failed = _wait(service, stopped, "failed")
        assert failed["errors"][0]["code"] == "upload_incomplete"
        assert "100 documents" in failed["errors"][0]["message"]
        # Without its worker nothing is run.
        service.part("workers").suspend()
        try:
            expired = submit(service, 100)
            _wait(service, expired, "expired", timeout_s=20)
        finally:
            service.part("workers").resume()

        # Both are removed when their results' time is up.
        def gone() -> bool:
            with service.client() as client:
                return all(client.get(f"/v1/jobs/{job}").status_code == 404 for job in (stopped, expired))

        wait_until(gone, timeout_s=40)
        left = [path for path in Path(service.environment["MILLRACE_STATE_DIR"], "store").rglob("*") if path.is_file()]
        assert left == []
    finally:
        service.stop()


def test_jobs_outlive_a_restart_of_everything(tmp_path: Path) -> None:
    service = _service(tmp_path)
    job = submit(service, 20_000)
    wait_until(lambda: _job(service, job)["counts"]["completed"] > 0, timeout_s=30)
    assert service.stop() == 0
    service.log_file.unlink()  # it says that the service has started
    started = time.monotonic()
    service.start()
    try:
        done = _wait(service, job)
        assert done["counts"] == {"received": 20_000, "completed": 20_000, "failed": 0}
        assert time.monotonic() - started < 60
    finally:
        service.stop()
