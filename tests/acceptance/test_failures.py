"""Things break: nothing accepted is lost, nothing hangs, nothing is answered wrongly."""

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from redis import Redis

from shared import keys
from shared.celery_message import Progress, as_suspect, decode_result, encode_task
from shared.dead_letters import DeadLetter
from shared.errors import DeadlineExceeded, InferenceFailed, UnsupportedByModel
from shared.jobs import EmbedRequest, Task, TokenizeRequest
from shared.model_config import DEFAULT_MODEL
from shared.queues import Lane, Operation, queue_name
from shared.results import Output
from tests.helpers.load import Answer, embed_all
from tests.helpers.service import Service
from tests.helpers.valkey import ValkeyServer, running_valkey
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.alone

TEXTS = [f"The {n}th mill stands by {'fast ' * (n % 7)}water." for n in range(50)]


@pytest.fixture(scope="module")
def valkey_that_fails(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module")
def battered(tmp_path_factory: pytest.TempPathFactory, valkey_that_fails: ValkeyServer) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("fragile"), {"MILLRACE_REDIS_URL": valkey_that_fails.url()})
    service.start()
    yield service
    service.stop()


@pytest.fixture
def fragile(battered: Service) -> Service:
    """A service that has got over what was done to it before."""
    with battered.client() as client:
        wait_until(lambda: client.get("/ready").status_code == 200, timeout_s=30, what="the service to be ready again")
    return battered


def expected(service: Service) -> dict[str, np.ndarray]:
    """What each text's vector is when nothing is wrong."""
    with service.client() as client:
        return dict(zip(TEXTS, np.array(client.post("/embed", json={"inputs": TEXTS}).json()), strict=True))


def assert_right(answers: list[Answer], vectors: dict[str, np.ndarray]) -> None:
    for answer in answers:
        if answer.status == 200:
            np.testing.assert_allclose(np.array(answer.body)[0], vectors[answer.text], atol=1e-5)


def test_ten_thousand_requests_survive_a_worker_killed_in_the_middle(fragile: Service) -> None:
    # Given ten thousand requests on their way
    vectors = expected(fragile)
    texts = [TEXTS[n % len(TEXTS)] for n in range(10_000)]

    async def kill_the_worker() -> None:
        await asyncio.sleep(8)
        worker = fragile.part("workers")
        os.kill(worker.pid, signal.SIGKILL)

    # When the worker is killed with no chance to clean up
    answers = asyncio.run(embed_all(fragile.url, texts, concurrency=128, timeout_s=60, during=kill_the_worker))

    # Then each is answered once, correctly, within its deadline
    assert len(answers) == len(texts)
    assert Counter(answer.status for answer in answers) == {200: 10_000}
    assert_right(answers, vectors)
    assert max(answer.seconds for answer in answers) < 60
    assert "part_died" in fragile.log()


def test_a_killed_engine_process_is_replaced_and_its_batch_is_run_again(fragile: Service) -> None:
    vectors = expected(fragile)

    async def kill_the_engine() -> None:
        await asyncio.sleep(1.5)
        os.kill(fragile.part("workers.engine").pid, signal.SIGKILL)

    answers = asyncio.run(
        embed_all(
            fragile.url, [TEXTS[n % 50] for n in range(1500)], concurrency=64, timeout_s=60, during=kill_the_engine
        )
    )

    assert Counter(answer.status for answer in answers) == {200: 1500}
    assert_right(answers, vectors)
    assert "engine_replaced" in fragile.log()


def test_redis_restarted_in_mid_flight_is_survived_within_ten_seconds(
    fragile: Service, valkey_that_fails: ValkeyServer
) -> None:
    # Given work under way
    vectors = expected(fragile)
    worker, gateway = fragile.part("workers").pid, fragile.part("api").pid
    returned_at = 0.0

    async def restart_redis() -> None:
        nonlocal returned_at
        await asyncio.sleep(2)
        await asyncio.to_thread(valkey_that_fails.stop)
        await asyncio.sleep(3)
        await asyncio.to_thread(valkey_that_fails.start)
        returned_at = time.monotonic()

    # When Redis goes away for three seconds and comes back
    async def load() -> list[Answer]:
        return await embed_all(
            fragile.url, [TEXTS[n % 50] for n in range(4000)], concurrency=64, timeout_s=60, during=restart_redis
        )

    answers = asyncio.run(load())

    # Then nothing hung and nothing is wrong, with the same processes as before
    assert Counter(answer.status for answer in answers) == {200: 4000}
    assert_right(answers, vectors)
    assert fragile.part("workers").pid == worker
    assert fragile.part("api").pid == gateway


def test_service_is_back_within_ten_seconds_of_redis(fragile: Service, valkey_that_fails: ValkeyServer) -> None:
    valkey_that_fails.stop()
    with fragile.client(timeout_s=20) as client:
        wait_until(lambda: client.get("/ready").status_code == 503, timeout_s=10, what="readiness to tell the outage")
        refused = client.post("/embed", json={"inputs": "x"}, headers={"x-request-timeout": "1"})
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        time.sleep(5)  # the length of the outage itself
        valkey_that_fails.start()

        started = time.monotonic()
        wait_until(
            lambda: client.post("/embed", json={"inputs": "x"}).status_code == 200, timeout_s=10, what="an answer"
        )
        assert time.monotonic() - started < 10


def test_a_full_disk_is_survived_by_the_same_processes(fragile: Service, valkey_that_fails: ValkeyServer) -> None:
    # Given work under way
    vectors = expected(fragile)
    modules = ("api", "workers", "workers.callbacks", "api.bulk")
    before = fragile.pids(modules)

    async def fill_the_disk() -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(valkey_that_fails.fill_disk)
        await asyncio.sleep(5)
        await asyncio.to_thread(valkey_that_fails.free_disk)

    # When Redis cannot write to its append-only file for five seconds, and refuses every command that writes
    answers = asyncio.run(
        embed_all(fragile.url, [TEXTS[n % 50] for n in range(2000)], concurrency=32, timeout_s=60, during=fill_the_disk)
    )

    # Then what was accepted is answered when it can, by the processes that accepted it
    assert Counter(answer.status for answer in answers) == {200: 2000}
    assert_right(answers, vectors)
    assert max(answer.seconds for answer in answers) > 4, "nothing was refused"
    assert fragile.pids(modules) == before


def test_a_gateway_that_dies_is_restarted(fragile: Service) -> None:
    before = fragile.part("api").pid
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        try:
            return httpx.get(f"{fragile.url}/ready", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(back, timeout_s=30, what="the gateway to be back")
    assert fragile.part("api").pid != before


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose engine fails on planted words."""
    service = Service(tmp_path_factory.mktemp("poisoned"), {"MILLRACE_ENGINE": "tests.helpers.faulty_engine"})
    service.start()
    yield service
    service.stop()


@pytest.mark.parametrize(("word", "kills"), [("explosion", 0), ("murder", 1), ("sleep", 1), ("infinity", 0)])
def test_one_bad_input_fails_alone(poisoned: Service, word: str, kills: int) -> None:
    """It raises, kills its process, wedges the device, or gives NaN: the neighbours in its batch are answered."""
    before = _dead_letters(poisoned)

    async def send() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=poisoned.url, timeout=130, trust_env=False) as client:
            texts = [f"an innocent sentence, number {n}" for n in range(40)]
            texts.insert(20, f"a text with {word} in it")
            # With all settings as they are by default, but for a deadline that a slow machine keeps too.
            requests = [
                client.post(
                    "/embed", json={"inputs": text}, headers={"x-request-timeout": "90", "x-request-id": f"{word}-{n}"}
                )
                for n, text in enumerate(texts)
            ]
            return list(await asyncio.gather(*requests))

    responses = asyncio.run(send())

    statuses = [response.status_code for response in responses]
    assert statuses == [200] * 20 + [424] + [200] * 20, Counter(statuses)
    assert responses[20].json()["error_type"] == "Backend"

    # And what the engine process died of, or hung on, is kept with its hash; what only failed is not.
    letters = _dead_letters(poisoned)[len(before) :]
    assert len(letters) == kills
    for letter in letters:
        (inputs,) = letter.requests
        assert inputs.sha256 == [sha256(f"a text with {word} in it".encode()).hexdigest()]
        assert (inputs.request_id, inputs.inputs, inputs.input) == (f"{word}-20", 1, 0)
        assert (letter.model, letter.lane) == (DEFAULT_MODEL.name, "interactive")
        assert letter.reason.startswith("the engine process died on it: ")


@pytest.mark.parametrize("word", ["murder", "sleep"])
def test_the_innocent_ones_of_a_task_do_not_wait_for_its_culprit(poisoned: Service, word: str) -> None:
    # Given a task with four requests, of which the longest comes last where they are run one by one
    texts = ["one", f"{word} and a good deal more", "two", "three"]
    requests = [EmbedRequest(request_id=text[:5], deadline=time.time() + 90, texts=[text]) for text in texts]
    task = Task(model=DEFAULT_MODEL.name, lane=Lane.INTERACTIVE, operation=Operation.EMBED, requests=requests)
    heard: list[object] = []
    with (
        Redis.from_url(poisoned.part("api").environ()["MILLRACE_REDIS_URL"]) as redis,
        redis.pubsub(ignore_subscribe_messages=True) as subscription,
    ):
        subscription.subscribe(keys.result("nobody-1"))

        # When
        redis.lpush(queue_name(task.model, task.lane), encode_task("nobody-1", task, origin="nobody"))
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and not isinstance(heard[-1] if heard else None, list):
            message = subscription.get_message(timeout=1)
            if message is not None:
                heard.append(decode_result(message["data"]))

    # Then what is done is told before the culprit, each time with all that was told already, and the outcome has everything
    *progress, outcome = heard
    assert isinstance(outcome, list)
    told = [dict(one.replies) for one in progress if isinstance(one, Progress)]
    assert len(told) == len(progress) > 0
    assert 1 not in told[0]
    for before, after in itertools.pairwise(told):
        assert set(before) < set(after)
    assert [isinstance(reply, InferenceFailed) for reply in outcome] == [False, True, False, False]
    for position, reply in told[0].items():
        assert isinstance(reply, Output)
        assert reply.data == outcome[position].data


def test_clients_of_a_culprits_neighbours_have_their_answers_while_it_hangs(poisoned: Service) -> None:
    # Given forty requests at a time, which share tasks, and the last and longest one, which hangs
    texts = [f"an innocent sentence, number {n}" for n in range(40)]
    culprit = "a text with sleep in it, and with so much more that it is the longest of all, by far"

    async def send(client: httpx.AsyncClient, text: str) -> tuple[int, float]:
        response = await client.post("/embed", json={"inputs": text}, headers={"x-request-timeout": "90"})
        return response.status_code, time.monotonic()

    async def send_all() -> list[tuple[int, float]]:
        async with httpx.AsyncClient(base_url=poisoned.url, timeout=130, trust_env=False) as client:
            return await asyncio.gather(*[send(client, text) for text in [*texts, culprit]])

    # When
    answers = asyncio.run(send_all())

    # Then the culprit was given its second chance when they, but for a few that came after it, had long been answered
    *innocent, (status, culprit_at) = answers
    assert status == 424
    assert {status for status, _ in innocent} == {200}
    assert sum(at < culprit_at - 3 for _, at in innocent) > 30


def test_what_a_worker_has_died_with_is_told_request_by_request_and_the_suspected_one_last(fragile: Service) -> None:
    # Given a task whose first request a worker died of, with one that is refused and one that has expired
    requests = [
        EmbedRequest(request_id=f"r{n}", deadline=time.time() + 60, texts=[TEXTS[n], TEXTS[9]]) for n in range(5)
    ]
    requests[1] = replace(requests[1], prompt_name="there is none of this name")
    requests[2] = replace(requests[2], deadline=time.time() - 1)
    task = Task(model=DEFAULT_MODEL.name, lane=Lane.INTERACTIVE, operation=Operation.EMBED, requests=requests)
    message = b'{"suspect":0,' + encode_task("nobody-2", task, origin="nobody")[1:]

    # When
    heard = _outcomes(fragile, "nobody-2", queue_name(task.model, task.lane), message)

    # Then each is told before the next, and all that are done before the first of them, which may be the end of the worker
    *told, outcome = heard
    assert [sorted(one.replies) for one in told if isinstance(one, Progress)] == [[1], [2], [3], [1, 2, 3, 4]]
    assert len(told) == 4
    assert isinstance(outcome, list)
    assert [type(reply) for reply in outcome] == [Output, UnsupportedByModel, DeadlineExceeded, Output, Output]
    vectors = expected(fragile)
    for position in (0, 3, 4):
        found = np.frombuffer(outcome[position].data, "<f4").reshape(2, -1)
        np.testing.assert_allclose(found, [vectors[TEXTS[position]], vectors[TEXTS[9]]], atol=1e-5)

    # And nothing of it counts as held any more
    with fragile.client() as client:
        metrics = client.get(f"http://127.0.0.1:{fragile.metrics_port}/metrics").text
    held = [line.split()[-1] for line in metrics.splitlines() if line.startswith("millrace_held_tokens{")]
    assert set(held) == {"0.0"}


def test_what_has_expired_in_the_queue_is_told_with_all_other_answers(fragile: Service) -> None:
    """By stock Celery's hand its consumer would write each of them by itself, and take nothing meanwhile."""
    # Given
    requests = [EmbedRequest(request_id=f"r{n}", deadline=time.time() - 1, texts=[TEXTS[n]]) for n in range(2)]
    task = Task(model=DEFAULT_MODEL.name, lane=Lane.INTERACTIVE, operation=Operation.EMBED, requests=requests)
    before = _expired(fragile)

    # When
    heard = _outcomes(
        fragile, "nobody-4", queue_name(task.model, task.lane), encode_task("nobody-4", task, origin="no")
    )

    # Then
    (outcome,) = heard
    assert [type(reply) for reply in outcome] == [DeadlineExceeded] * 2
    assert "expired in the queue" in str(outcome[0])
    assert _expired(fragile) == before + 2


def _expired(service: Service) -> float:
    with service.client() as client:
        metrics = client.get(f"http://127.0.0.1:{service.metrics_port}/metrics").text
    lines = (line for line in metrics.splitlines() if line.startswith("millrace_expired_requests_total{"))
    return sum(float(line.split()[-1]) for line in lines)


def test_requests_for_the_tokenizer_alone_are_told_one_by_one_too(fragile: Service) -> None:
    requests = [TokenizeRequest(request_id=f"r{n}", deadline=time.time() + 60, texts=[TEXTS[n]]) for n in range(3)]
    task = Task(model=DEFAULT_MODEL.name, lane=Lane.INTERACTIVE, operation=Operation.TOKENIZE, requests=requests)
    message = as_suspect(encode_task("nobody-3", task, origin="nobody"))

    heard = _outcomes(fragile, "nobody-3", queue_name(task.model, task.lane), message)

    *told, outcome = heard
    assert [sorted(one.replies) for one in told if isinstance(one, Progress)] == [[0], [0, 1]]
    assert isinstance(outcome, list)
    assert all(isinstance(reply, Output) and reply.token_lists for reply in outcome)
    assert len(outcome) == 3


def _outcomes(service: Service, task_id: str, queue: str, message: bytes) -> list[Any]:
    """What is told of a task that is put on a queue, until its outcome."""
    heard: list[Any] = []
    with Redis.from_url(service.part("api").environ()["MILLRACE_REDIS_URL"]) as redis, redis.pubsub() as results:
        results.subscribe(keys.result(task_id))
        assert results.get_message(timeout=5) is not None
        redis.lpush(queue, message)
        until = time.monotonic() + 30
        while not (heard and isinstance(heard[-1], list)):
            assert time.monotonic() < until, heard
            published = results.get_message(ignore_subscribe_messages=True, timeout=1)
            if published is not None:
                heard.append(decode_result(published["data"]))
    return heard


def _dead_letters(service: Service) -> list[DeadLetter]:
    """Those that are kept, the oldest first."""
    with Redis.from_url(service.part("api").environ()["MILLRACE_REDIS_URL"]) as redis:
        kept = redis.lrange(keys.DEAD_LETTERS, 0, -1)
        assert len(kept) == int(redis.get(keys.DEAD_LETTERS_EVER) or 0)
    return [DeadLetter.model_validate_json(entry) for entry in reversed(kept)]


def test_a_batch_that_does_not_fit_into_memory_is_run_in_parts_and_later_ones_are_smaller(poisoned: Service) -> None:
    # Given a device with room for 100 tokens, a request of some 700, and an input that does not fit alone
    texts = [f"memory number {number} of the mill race" for number in range(64)]
    texts[20] = "memory " * 150

    # When
    with poisoned.client(timeout_s=130) as client:
        before = client.get(f"http://127.0.0.1:{poisoned.metrics_port}/metrics").text
        whole = client.post("/embed", json={"inputs": [text for text in texts if len(text) < 100]})
        too_long = client.post("/embed", json={"inputs": texts[20]})
        after = client.get(f"http://127.0.0.1:{poisoned.metrics_port}/metrics").text

    # Then
    assert whole.status_code == 200, whole.text
    assert len(whole.json()) == 63
    assert too_long.status_code == 413
    assert "does not fit into the memory" in too_long.json()["error"]
    assert _budget(after) == 256 < _budget(before)


def test_a_real_lack_of_memory_answers_every_request_and_lowers_the_budget(tmp_path: Path) -> None:
    # Given an engine whose batches may be far larger than the memory that it has left
    service = Service(
        tmp_path,
        {
            "MILLRACE_ENGINE": "tests.helpers.capped_engine",
            "MILLRACE_MAX_BATCH_TOKENS": "65536",
            "MILLRACE_BULK_BATCH_S": "100",
            "MILLRACE_BATCHES_IN_FLIGHT": "1",
        },
    )
    service.start()
    texts = [f"{number} " + "river " * 250 for number in range(200)]

    # When
    try:
        with service.client(timeout_s=300) as client:
            headers = {"x-request-timeout": "280"}
            response = client.post("/embed", json={"inputs": texts}, headers=headers)
            small = client.post("/embed", json={"inputs": texts[:1]}, headers=headers)
            metrics = client.get(f"http://127.0.0.1:{service.metrics_port}/metrics").text
    finally:
        service.stop()

    # Then
    assert response.status_code == small.status_code == 200, response.text[:300]
    vectors = np.array(response.json())
    assert vectors.shape == (200, 384)
    np.testing.assert_allclose(vectors[0], small.json()[0], atol=1e-5)
    assert _budget(metrics) < 65536
    assert "millrace_out_of_memory_total" in metrics


def _budget(metrics: str) -> float:
    line = next(line for line in metrics.splitlines() if line.startswith("millrace_max_batch_tokens{"))
    return float(line.rsplit(" ", 1)[1])
