"""Suspects run one by one, each named in Redis before it begins."""

from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from shared import keys
from shared.jobs import EmbedRequest, Task
from shared.queues import Lane, Operation
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until
from workers.suspects import Suspects
from workers.work import TaskWork

WORKER = "w1"


def _task(name: str, requests: int = 1) -> TaskWork:
    request = EmbedRequest(request_id=name, deadline=2e9, texts=["a"])
    task = Task(model="m", lane=Lane.INTERACTIVE, operation=Operation.EMBED, requests=[request] * requests)
    return TaskWork.of(name, name, task)


class _Pipeline:
    """What has begun, and what was named in Redis just then."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.begun: list[tuple[TaskWork, int, bytes | None]] = []

    def begin(self, task: TaskWork, position: int) -> None:
        self.begun.append((task, position, self._redis.get(keys.running(WORKER))))

    def has(self, count: int) -> Callable[[], bool]:
        return lambda: len(self.begun) >= count


@pytest.fixture
def pipeline(own_valkey: ValkeyServer) -> Iterator[_Pipeline]:
    with Redis.from_url(own_valkey.url()) as client:
        yield _Pipeline(client)


@pytest.fixture
def suspects(own_valkey: ValkeyServer, pipeline: _Pipeline) -> Iterator[Suspects]:
    with Redis.from_url(own_valkey.url()) as client:
        suspects = Suspects(client, WORKER, pipeline.begin)
        suspects.start()
        yield suspects
        suspects.stop()


def test_each_begins_when_the_one_before_has_been_delivered(suspects: Suspects, pipeline: _Pipeline) -> None:
    # Given
    first, second, fresh = _task("gw-1"), _task("gw-2"), _task("gw-3")
    suspects.add(first)
    suspects.add(second)
    wait_until(pipeline.has(1), what="the first to begin")

    # When something else is delivered, then nothing changes
    suspects.delivered([fresh])
    with pytest.raises(TimeoutError):
        wait_until(pipeline.has(2), timeout_s=0.3, what="the second to begin")

    # When it is
    suspects.delivered([fresh, first])
    wait_until(pipeline.has(2), what="the second to begin")

    # Then each was named before it began
    assert pipeline.begun == [(first, 0, b"gw-1 0"), (second, 0, b"gw-2 0")]


@pytest.mark.parametrize(
    ("suspected", "order"), [(None, [0, 1, 2, 3]), (0, [1, 2, 3, 0]), (2, [0, 1, 3, 2]), (3, [0, 1, 2, 3])]
)
def test_the_requests_of_a_task_begin_one_by_one_and_the_one_that_a_worker_died_of_last(
    suspects: Suspects, pipeline: _Pipeline, suspected: int | None, order: list[int]
) -> None:
    # Given
    task, other = _task("gw-1", requests=4), _task("gw-2")
    suspects.add(task, suspected)
    suspects.add(other)

    # When one after the other is delivered
    for count in range(1, 5):
        wait_until(pipeline.has(count), what="the next to begin")
        assert len(pipeline.begun) == count
        suspects.delivered([task])
    wait_until(pipeline.has(5), what="the other task to begin")

    # Then
    expected = [(task, position, b"gw-1 %d" % position) for position in order]
    assert pipeline.begun == [*expected, (other, 0, b"gw-2 0")]


def test_none_begins_that_redis_does_not_know_of(
    suspects: Suspects, pipeline: _Pipeline, own_valkey: ValkeyServer
) -> None:
    # Given
    own_valkey.stop()
    suspects.add(_task("gw-1"))
    with pytest.raises(TimeoutError):
        wait_until(pipeline.has(1), timeout_s=1, what="it to begin")

    # When
    own_valkey.start()

    # Then
    wait_until(pipeline.has(1), what="it to begin")
    assert pipeline.begun[0][2] == b"gw-1 0"


def test_a_worker_that_stops_while_redis_is_away_does_not_wait_for_it(
    suspects: Suspects, pipeline: _Pipeline, own_valkey: ValkeyServer
) -> None:
    own_valkey.stop()
    suspects.add(_task("gw-1"))

    suspects.stop()

    assert pipeline.begun == []
    own_valkey.start()


@pytest.mark.parametrize("requests", [1, 2])
def test_a_worker_that_stops_begins_with_no_other(suspects: Suspects, pipeline: _Pipeline, requests: int) -> None:
    suspects.add(_task("gw-1", requests))
    suspects.add(_task("gw-2"))
    wait_until(pipeline.has(1), what="the first to begin")

    suspects.stop()

    assert len(pipeline.begun) == 1
