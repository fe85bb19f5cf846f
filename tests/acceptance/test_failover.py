"""Redis with sentinels: the primary dies in the middle of everything, and the replica takes its place."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.helpers.ingest import submit
from tests.helpers.load import Answer, embed_all
from tests.helpers.receivers import Receiver, running_receiver
from tests.helpers.sentinels import Watched, watched_servers
from tests.helpers.service import Service
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.alone

DEADLINE_S = 12.0
DOCUMENTS = 8_000


@dataclass(frozen=True)
class Failover:
    """What became of a service whose primary died under load."""

    service: Service
    receiver: Receiver
    answers: list[Answer]
    job: str
    #: By module, before it.
    processes: dict[str, int]
    #: From the promotion to the first answer of a request that was sent after it, in seconds.
    back_after_s: float


@pytest.fixture(scope="module")
def failover(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failover]:
    folder = tmp_path_factory.mktemp("failover")
    with watched_servers(folder) as watched, running_receiver() as receiver:
        service = Service(
            tmp_path_factory.mktemp("service"),
            {
                "MILLRACE_REDIS_URL": watched.url(),
                "MILLRACE_ENGINE": "bench.null_engine",
                "MILLRACE_WEBHOOK_HOSTS": f"127.0.0.1:{receiver.port}",
                "MILLRACE_JOB_SEGMENT_DOCUMENTS": "50",
                "FLOWER_UNAUTHENTICATED_API": "true",
            },
        )
        service.environment["MILLRACE_FLOWER_PORT"] = str(service.flower_port)
        service.start()
        try:
            yield asyncio.run(_fail_over(service, watched, receiver))
        finally:
            service.stop()


async def _fail_over(service: Service, watched: Watched, receiver: Receiver) -> Failover:
    job = submit(service, DOCUMENTS, webhook=receiver.url)
    processes = service.pids(("api", "workers", "api.bulk", "workers.callbacks"))
    back_after_s = 0.0

    async def kill_the_primary() -> None:
        nonlocal back_after_s
        await asyncio.sleep(1)
        watched.primary.kill()
        await asyncio.to_thread(watched.wait_for_promotion)
        promoted = time.monotonic()
        await asyncio.to_thread(_wait_for_an_answer, service)
        back_after_s = time.monotonic() - promoted

    texts = [f"number {number}" for number in range(3000)]
    answers = await embed_all(service.url, texts, concurrency=16, timeout_s=DEADLINE_S, during=kill_the_primary)
    return Failover(service, receiver, answers, job, processes, back_after_s)


def _wait_for_an_answer(service: Service) -> None:
    def has_answered() -> bool:
        return client.post("/embed", json={"inputs": "x"}, headers={"x-request-timeout": "1"}).status_code == 200

    with service.client() as client:
        wait_until(has_answered, timeout_s=30, what="an answer")


def test_new_requests_are_answered_within_ten_seconds_of_the_promotion(failover: Failover) -> None:
    assert 0 < failover.back_after_s < 10


def test_requests_that_waited_are_answered_or_fail_at_their_deadline(failover: Failover) -> None:
    statuses = Counter(answer.status for answer in failover.answers)
    assert len(failover.answers) == 3000
    assert statuses.keys() <= {200, 503, 504}
    assert statuses[200] > 2900
    assert max(answer.seconds for answer in failover.answers) < DEADLINE_S + 1


def test_every_part_lives_on_without_a_restart(failover: Failover) -> None:
    assert failover.service.pids(failover.processes) == failover.processes


def test_the_job_goes_on_and_its_callback_is_sent(failover: Failover) -> None:
    def job() -> dict[str, Any]:
        with failover.service.client() as client:
            found: dict[str, Any] = client.get(f"/v1/jobs/{failover.job}").json()
            return found

    wait_until(lambda: job()["status"] == "completed", timeout_s=40, what="the job to end")
    assert job()["counts"] == {"received": DOCUMENTS, "completed": DOCUMENTS, "failed": 0}
    wait_until(lambda: failover.receiver.of(failover.job), timeout_s=30, what="the callback")


def test_flower_sees_the_new_primary(failover: Failover) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{failover.service.flower_port}", trust_env=False) as flower:
        wait_until(lambda: flower.get("/api/tasks").json(), timeout_s=20, what="Flower to see a task")
        assert flower.get("/broker").status_code == 200
