"""Thousands of hostile requests, with searches beside them: nothing breaks, and whoever means well is answered rightly."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

import httpx
import numpy as np
import pytest

from tests.fuzz.models import models
from tests.helpers.hostile import Hostile, hostile_requests
from tests.helpers.hostile_http import UNFINISHED
from tests.helpers.load import Answer
from tests.helpers.raw_http import Exchange, exchange, leave
from tests.helpers.service import Service

pytestmark = pytest.mark.alone

SEED = 6
COUNT = 5000
#: Hostile requests under way at a time.
IN_FLIGHT = 24
#: Longest that any of them may take to be answered: far beyond what is measured, so that only a hang is found.
PATIENCE_S = 90.0
TEXTS = [f"The {n}th mill stands by {'fast ' * (n % 7)}water." for n in range(20)]
#: Between two searches, in seconds.
EVERY_S = 0.1


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the default model, and a tiny one of every other kind, so that no route refuses all it gets."""
    folder = tmp_path_factory.mktemp("hostile")
    service = Service(folder, {"MILLRACE_MODEL": ",".join(models(folder / "models"))})
    service.start()
    yield service
    service.stop()


@dataclass(slots=True)
class Found:
    """What came of it all."""

    exchanges: list[tuple[Hostile, Exchange]] = field(default_factory=list)
    unfinished: list[Exchange] = field(default_factory=list)
    quiet: list[Answer] = field(default_factory=list)
    beside: list[Answer] = field(default_factory=list)


async def search(url: str, ended: asyncio.Event) -> list[Answer]:
    """Search at an even rate, whether or not the last one has been answered, until the end."""
    answers: list[Answer] = []

    async def one(client: httpx.AsyncClient, text: str) -> None:
        started = time.perf_counter()
        response = await client.post("/embed", json={"inputs": text})
        answers.append(Answer(text, response.status_code, response.json(), time.perf_counter() - started))

    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client, asyncio.TaskGroup() as group:
        number = 0
        while not ended.is_set():
            group.create_task(one(client, TEXTS[number % len(TEXTS)]))
            number += 1
            await asyncio.sleep(EVERY_S)
    return answers


async def attack(service: Service) -> Found:
    """All of them, with searches before and beside."""
    found, port = Found(), service.port
    with service.client() as client:
        openapi = client.get("/openapi.json").json()
    quiet_ended, ended = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().call_later(5, quiet_ended.set)
    found.quiet = await search(service.url, quiet_ended)

    waiting = hostile_requests(openapi, seed=SEED, count=COUNT)

    async def send() -> None:
        for request in waiting:
            if request.stays:
                found.exchanges.append((request, await exchange(port, request.pieces, patience_s=PATIENCE_S)))
            else:
                await leave(port, request.pieces)

    searching = asyncio.create_task(search(service.url, ended))
    async with asyncio.TaskGroup() as group:
        idle = [
            group.create_task(exchange(port, (beginning,), patience_s=PATIENCE_S))
            for beginning in UNFINISHED
            for _ in range(50)
        ]
        for _ in range(IN_FLIGHT):
            group.create_task(send())
    found.unfinished = [task.result() for task in idle]
    ended.set()
    found.beside = await searching
    return found


@pytest.fixture(scope="module")
def parts(service: Service) -> dict[str, int]:
    """The processes before it begins."""
    return service.pids(("api", "workers", "workers.engine", "api.bulk"))


@pytest.fixture(scope="module")
def vectors(service: Service) -> np.ndarray:
    """Of the searches' texts, while nothing else happens."""
    with service.client() as client:
        return np.array(client.post("/embed", json={"inputs": TEXTS}).json())


@pytest.fixture(scope="module")
def found(service: Service, parts: dict[str, int], vectors: np.ndarray) -> Found:
    """What came of it; that it takes long or short is told and not judged."""
    started = time.perf_counter()
    found = asyncio.run(attack(service))
    quiet, beside = ([1000 * answer.seconds for answer in answers] for answers in (found.quiet, found.beside))
    statuses = Counter(status for _, answer in found.exchanges for status in answer.statuses)
    print(  # noqa: T201 (a report; pytest shows it with -rP)
        f"{COUNT} hostile requests in {time.perf_counter() - started:.0f} s: {dict(sorted(statuses.items()))}; "
        f"{len(beside)} searches beside them: median {median(beside):.0f} ms, most {max(beside):.0f} ms; "
        f"before them: median {median(quiet):.0f} ms, most {max(quiet):.0f} ms"
    )
    return found


def test_every_hostile_request_is_answered_and_none_with_a_failure_of_the_server(found: Found) -> None:
    faults: list[str] = []
    for request, answer in found.exchanges:
        what = f"{request.family}: {b''.join(request.pieces)[:700]!r}"
        if not (answer.closed and answer.responses):
            faults.append(f"closed: {answer.closed}, {len(answer.responses)} answers to {what}")
        # 504 is what a deadline in the past gets.
        faults += [
            f"{response.status} {response.body[:300]!r} to {what}"
            for response in answer.responses
            if (response.status >= 500 and response.status != 504) or b"Traceback" in response.body
        ]

    assert not faults, f"{len(faults)}:\n" + "\n".join(faults[:20])


def test_every_refusal_is_a_sentence(found: Found) -> None:
    for request, answer in found.exchanges:
        for response in answer.responses:
            if response.status >= 400:
                problem = json.loads(response.body)
                sentence = (
                    problem.get("message") or problem.get("error") or problem.get("detail") or problem.get("errors")
                )
                assert sentence, (request.family, response.body[:300])


def test_nothing_that_hides_behind_a_request_in_doubt_is_answered(found: Found) -> None:
    smuggling = [answer for request, answer in found.exchanges if request.family.startswith("smuggling")]

    assert len(smuggling) > 100
    assert {tuple(answer.statuses) for answer in smuggling} == {(400,)}


def test_whoever_does_not_finish_a_request_is_not_waited_for(found: Found) -> None:
    assert all(answer.closed for answer in found.unfinished)
    assert {tuple(answer.statuses) for answer in found.unfinished} == {(), (408,)}


def test_searches_beside_them_are_all_answered_rightly(found: Found, vectors: np.ndarray) -> None:
    right = dict(zip(TEXTS, vectors, strict=True))

    assert {answer.status for answer in found.beside} == {200}
    assert {answer.text for answer in found.beside} == set(TEXTS)
    for answer in found.beside:
        np.testing.assert_allclose(np.array(answer.body)[0], right[answer.text], atol=1e-5)


def test_no_process_died_and_nothing_crashed(found: Found, service: Service, parts: dict[str, int]) -> None:
    assert service.pids(parts) == parts
    for event in (
        "part_died",
        "engine_replaced",
        "request_crashed",
        "segment_crashed",
        "Traceback",
        "ASGI application",
    ):
        assert event not in service.log()
