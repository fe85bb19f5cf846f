"""Leases on a real server: what a dead worker held comes back, once; what a living one holds stays where it is."""

import json
import os
import signal
import threading
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from shared import dead_letters, keys, leases, lua
from shared.celery_message import as_suspect, decode_result, encode_callback, encode_task
from shared.dead_letters import DeadLetter
from shared.errors import WorkerLost
from shared.jobs import EmbedRequest, Task
from shared.model_card import WorkerCard
from shared.queues import CALLBACK_QUEUE, Lane, Operation, queue_name
from tests.helpers.consumers import Taker
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until
from workers.heartbeat import Heartbeat
from workers.transport import FLOW

MODEL = "org/model"
QUEUE = queue_name(MODEL, Lane.INTERACTIVE)
BULK = queue_name(MODEL, Lane.BULK)


def _text(task_id: str) -> str:
    return f'text {task_id} ✓ {{}}, [] "}}, '


def _message(task_id: str, lane: Lane = Lane.INTERACTIVE) -> bytes:
    request = EmbedRequest(request_id="r", deadline=2e9, texts=[_text(task_id)])
    task = Task(model=MODEL, lane=lane, operation=Operation.EMBED, requests=[request])
    return encode_task(task_id, task, origin="gw")


def _renew(redis: Redis, worker: str) -> None:
    script_keys, arguments = leases.renew_call(worker)
    redis.eval(lua.script("renew"), len(script_keys), *script_keys, *arguments)


def _recover(redis: Redis, worker: str) -> tuple[int, list[bytes]]:
    script_keys, arguments = leases.recover_call(worker)
    restored, given_up = redis.eval(lua.script("recover"), len(script_keys), *script_keys, *arguments)
    with redis.pipeline(transaction=False) as pipe:
        dead_letters.write(pipe, dead_letters.of_recovered(worker, given_up))
        pipe.execute()
    return restored, [tag for tag, *_ in given_up]


def _marked(message: bytes) -> dict[str, Any]:
    return {"suspect": True, **json.loads(message)}


def _deaths(redis: Redis, task_id: str) -> int:
    return int(redis.get(keys.deliveries(task_id)) or 0)


def _end_lease(redis: Redis, worker: str) -> None:
    redis.zadd(keys.LEASES, {worker: 1})


def _died_with_one(redis: Redis, hold: Callable[..., None]) -> None:
    """A worker takes the task `gw-1`, dies, and is recovered."""
    redis.lpush(QUEUE, _message("gw-1"))
    hold("w1", 1)
    _end_lease(redis, "w1")
    _recover(redis, "w1")


@pytest.fixture
def hold(redis_url: str, redis: Redis, flow: None) -> Callable[..., None]:
    """A worker of this name takes so many messages, in the way that kombu does, and dies with them."""

    def take(worker: str, count: int, queues: tuple[str, ...] = (QUEUE, BULK)) -> None:
        with Taker(redis_url, worker, list(queues)) as taker:
            taker.take(count)
        _renew(redis, worker)

    return take


def test_a_renewed_lease_ends_in_the_future_of_the_servers_clock(redis: Redis) -> None:
    # When
    _renew(redis, "w1")

    # Then
    seconds, microseconds = redis.time()
    left_ms = redis.zscore(keys.LEASES, "w1") - (seconds * 1000 + microseconds / 1000)
    assert leases.LEASE_TTL_S * 1000 - 500 < left_ms <= leases.LEASE_TTL_S * 1000


def test_a_dead_workers_messages_return_to_the_queues_that_they_came_from(
    redis: Redis, hold: Callable[..., None]
) -> None:
    # Given a worker that died holding a message of each lane
    redis.lpush(QUEUE, _message("gw-1"))
    redis.lpush(BULK, _message("gw-2", Lane.BULK))
    hold("w1", 2)
    assert redis.exists(QUEUE, BULK) == 0
    _end_lease(redis, "w1")

    # When
    assert _recover(redis, "w1") == (2, [])

    # Then
    assert [json.loads(entry) for entry in redis.lrange(QUEUE, 0, -1)] == [_marked(_message("gw-1"))]
    assert [json.loads(entry) for entry in redis.lrange(BULK, 0, -1)] == [_marked(_message("gw-2", Lane.BULK))]


def test_a_message_returns_byte_by_byte_as_kombu_kept_it_but_for_its_mark(
    redis: Redis, hold: Callable[..., None]
) -> None:
    # Given kombu's entry, a JSON list whose first element is the message
    redis.lpush(QUEUE, _message("gw-1"))
    hold("w1", 1)
    entry = redis.hget(keys.unacked("w1"), "gw-1").decode()
    _end_lease(redis, "w1")

    # When
    _recover(redis, "w1")

    # Then
    (message,) = redis.lrange(QUEUE, 0, -1)
    kept = entry[1 : -len(f', "", "{QUEUE}"]')].encode()
    assert message == as_suspect(kept)


def test_a_message_is_marked_once(redis_url: str, redis: Redis, hold: Callable[..., None]) -> None:
    # Given a task that two workers have died with
    redis.lpush(QUEUE, _message("gw-1"))
    for worker in ("w1", "w2"):
        hold(worker, 1)
        _end_lease(redis, worker)
        _recover(redis, worker)

    # Then
    assert redis.lindex(QUEUE, 0).count(b'"suspect"') == 1
    with Taker(redis_url, "w3", [QUEUE]) as taker:
        (message,) = taker.take()
        assert message.is_suspect


def test_a_suspect_that_a_worker_gives_back_is_still_one(
    redis_url: str, redis: Redis, hold: Callable[..., None]
) -> None:
    # Given
    _died_with_one(redis, hold)

    # When a worker that stops puts it back itself
    FLOW.restore_on_close = True
    with Taker(redis_url, "w2", [QUEUE]) as taker:
        taker.take()
    FLOW.restore_on_close = False

    # Then
    with Taker(redis_url, "w3", [QUEUE]) as taker:
        (message,) = taker.take()
        assert message.is_suspect


def test_what_no_worker_has_died_with_is_no_suspect(redis_url: str, redis: Redis, flow: None) -> None:
    redis.lpush(QUEUE, _message("gw-1"))

    with Taker(redis_url, "w1", [QUEUE]) as taker:
        (message,) = taker.take()
        assert not message.is_suspect


def test_a_message_with_brackets_and_quotes_in_its_headers_returns_whole(
    redis: Redis, hold: Callable[..., None]
) -> None:
    # Given a message of another client, with whatever it thought fit
    message = json.loads(_message("gw-1"))
    message["headers"]["argsrepr"] = '}, "", "other.queue"] [{"a": []}] \\" ünïcode \u2028'
    message["headers"]["stamps"] = {}
    redis.lpush(QUEUE, json.dumps(message))
    hold("w1", 1)
    _end_lease(redis, "w1")

    # When
    assert _recover(redis, "w1") == (1, [])

    # Then it is equal, empty lists and objects included
    assert json.loads(redis.lindex(QUEUE, 0)) == {"suspect": True, **message}


def test_a_recovered_message_can_be_taken_and_read_again(
    redis_url: str, redis: Redis, hold: Callable[..., None]
) -> None:
    # Given
    _died_with_one(redis, hold)

    # When
    with Taker(redis_url, "w2", [QUEUE]) as taker:
        (message,) = taker.take()

        # Then
        assert message.payload[1] == Task.from_wire(message.payload[1]).to_wire()
        assert message.delivery_tag == "gw-1"


def test_recovered_messages_go_before_those_that_wait(redis: Redis, hold: Callable[..., None]) -> None:
    # Given
    redis.lpush(QUEUE, _message("gw-1"))
    hold("w1", 1)
    redis.lpush(QUEUE, _message("gw-2"))
    _end_lease(redis, "w1")

    # When
    _recover(redis, "w1")

    # Then the right end is where workers take from
    assert _tags(redis, QUEUE) == ["gw-1", "gw-2"]


def test_a_living_workers_messages_stay_where_they_are(redis: Redis, hold: Callable[..., None]) -> None:
    # Given
    redis.lpush(QUEUE, _message("gw-1"))
    hold("w1", 1)
    before = redis.hgetall(keys.unacked("w1"))

    # When
    assert _recover(redis, "w1") == (0, [])

    # Then
    assert redis.hgetall(keys.unacked("w1")) == before != {}
    assert redis.llen(QUEUE) == 0
    assert redis.zscore(keys.LEASES, "w1") is not None


def test_another_workers_messages_stay_where_they_are(redis: Redis, hold: Callable[..., None]) -> None:
    # Given two workers, one of them dead
    for name, worker in (("gw-1", "w1"), ("gw-2", "w2")):
        redis.lpush(QUEUE, _message(name))
        hold(worker, 1)
    _end_lease(redis, "w1")

    # When
    assert _recover(redis, "w1") == (1, [])

    # Then
    assert redis.hkeys(keys.unacked("w2")) == [b"gw-2"]
    assert _tags(redis, QUEUE) == ["gw-1"]


def test_a_worker_without_a_lease_is_nobodys_business(redis: Redis) -> None:
    redis.hset(keys.unacked("w1"), "gw-1", json.dumps([{"a": 1}, "", QUEUE]))

    assert _recover(redis, "w1") == (0, [])
    assert redis.hlen(keys.unacked("w1")) == 1


def test_what_says_not_where_it_belongs_is_given_up_and_keeps_nothing_else_from_coming_back(
    redis: Redis, hold: Callable[..., None]
) -> None:
    # Given, among what a dead worker held, entries that are none of ours
    redis.lpush(QUEUE, _message("gw-1"))
    hold("w1", 1)
    for tag, entry in (("a", '[{"suspect":true}, "", null]'), ("b", "nonsense"), ("c", "")):
        redis.hset(keys.unacked("w1"), tag, entry)
    _end_lease(redis, "w1")

    # When
    restored, given_up = _recover(redis, "w1")

    # Then
    assert restored == redis.llen(QUEUE) == 1
    assert sorted(given_up) == [b"a", b"b", b"c"]
    assert redis.llen(keys.DEAD_LETTERS) == 3
    assert _deaths(redis, "gw-1") == 1


def test_nothing_of_a_recovered_worker_is_left(redis: Redis, hold: Callable[..., None]) -> None:
    # Given
    redis.lpush(QUEUE, _message("gw-1"))
    hold("w1", 1)
    redis.set(keys.running("w1"), "gw-0 0")
    _end_lease(redis, "w1")

    # When
    _recover(redis, "w1")

    # Then all keys that are left have a lifetime, but for the queue and the count of such workers
    left = {key: redis.ttl(key) for key in redis.scan_iter() if not key.startswith(b"_kombu")}
    assert left.pop(QUEUE.encode()) == -1
    assert left.pop(keys.LOST_WORKERS.encode()) == -1
    assert set(left) == {f"{keys.DELIVERIES_PREFIX}gw-1".encode()}
    assert all(ttl > 0 for ttl in left.values())


def test_two_that_recover_at_once_move_each_message_once(
    redis_url: str, redis: Redis, hold: Callable[..., None]
) -> None:
    # Given
    for number in range(50):
        redis.lpush(QUEUE, _message(f"gw-{number}"))
    hold("w1", 50)
    _end_lease(redis, "w1")

    # When
    results: list[int] = []
    barrier = threading.Barrier(4)

    def recover() -> None:
        with Redis.from_url(redis_url) as client:
            client.ping()
            barrier.wait(10)
            results.append(_recover(client, "w1")[0])

    threads = [threading.Thread(target=recover) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    # Then
    assert sorted(results) == [0, 0, 0, 50]
    assert sorted(_tags(redis, QUEUE)) == sorted(f"gw-{number}" for number in range(50))


def test_of_suspects_only_the_one_that_was_running_counts(redis: Redis, hold: Callable[..., None]) -> None:
    # Given three that a worker died with
    for number in range(3):
        redis.lpush(QUEUE, _message(f"gw-{number}"))
    hold("w0", 3)
    _end_lease(redis, "w0")
    _recover(redis, "w0")
    assert [_deaths(redis, f"gw-{number}") for number in range(3)] == [1, 1, 1]

    # When others take them together, and die of one
    given_up = []
    for worker in ("w1", "w2"):
        hold(worker, 3)
        redis.set(keys.running(worker), "gw-1 0")
        _end_lease(redis, worker)
        given_up.append(_recover(redis, worker))

    # Then it alone is given up
    assert given_up == [(3, []), (2, [b"gw-1"])]
    assert [_deaths(redis, f"gw-{number}") for number in range(3)] == [1, 3, 1]
    assert sorted(_tags(redis, QUEUE)) == ["gw-0", "gw-2"]


def test_the_request_that_was_running_is_what_is_suspected_then_and_all_that_the_letter_names(
    redis_url: str, redis: Redis, hold: Callable[..., None]
) -> None:
    # Given a task of twelve requests that a worker has died with, and whoever takes it dies of the last but one
    requests = [EmbedRequest(request_id=f"r{number}", deadline=2e9, texts=[f"text {number}"]) for number in range(12)]
    task = Task(model=MODEL, lane=Lane.INTERACTIVE, operation=Operation.EMBED, requests=requests)
    message = encode_task("gw-1", task, origin="gw")
    redis.lpush(QUEUE, message)
    hold("w0", 1)
    _end_lease(redis, "w0")
    _recover(redis, "w0")
    hold("w1", 1)
    redis.set(keys.running("w1"), "gw-1 10")
    _end_lease(redis, "w1")

    # When
    assert _recover(redis, "w1") == (1, [])

    # Then the next one to take it is told
    assert [json.loads(entry) for entry in redis.lrange(QUEUE, 0, -1)] == [{"suspect": 10, **json.loads(message)}]
    with Taker(redis_url, "w2", [QUEUE]) as taker:
        (taken,) = taker.take()
        assert (taken.is_suspect, taken.suspected) == (True, 10)
    _renew(redis, "w2")

    # And when it dies too, of this one or of another
    redis.set(keys.running("w2"), "gw-1 3")
    _end_lease(redis, "w2")
    assert _recover(redis, "w2") == (0, [b"gw-1"])
    letter = DeadLetter.model_validate_json(redis.lindex(keys.DEAD_LETTERS, 0))
    assert [request.request_id for request in letter.requests] == ["r3"]
    assert letter.requests[0].sha256 == [sha256(b"text 3").hexdigest()]


def test_what_was_fresh_beside_a_suspect_counts_once_and_is_one_then(redis: Redis, hold: Callable[..., None]) -> None:
    # Given
    redis.lpush(QUEUE, _message("gw-1"))
    hold("w1", 1)
    _end_lease(redis, "w1")
    _recover(redis, "w1")
    redis.lpush(QUEUE, _message("gw-2"))

    # When
    for worker in ("w2", "w3"):
        hold(worker, 2)
        redis.set(keys.running(worker), "another 0")
        _end_lease(redis, worker)
        _recover(redis, worker)

    # Then
    assert [_deaths(redis, "gw-1"), _deaths(redis, "gw-2")] == [1, 1]


def test_the_events_of_callback_workers_count_all_and_are_not_marked(redis: Redis, hold: Callable[..., None]) -> None:
    # Given
    message = encode_callback("callback-1", "event-1", 1, origin="runner")
    redis.lpush(CALLBACK_QUEUE, message)

    # When
    given_up = []
    for number in range(3):
        worker = f"{leases.CALLBACK_WORKERS}host-{number}"
        hold(worker, 1, (CALLBACK_QUEUE,))
        _end_lease(redis, worker)
        given_up.append(_recover(redis, worker))
        if number == 0:
            assert [json.loads(entry) for entry in redis.lrange(CALLBACK_QUEUE, 0, -1)] == [json.loads(message)]

    # Then
    assert given_up == [(1, []), (1, []), (0, [b"callback-1"])]
    letter = DeadLetter.model_validate_json(redis.lindex(keys.DEAD_LETTERS, 0))
    assert (letter.task, letter.queue, letter.requests) == ("callback-1", CALLBACK_QUEUE, [])


def test_the_third_death_makes_a_dead_letter_of_a_task_and_says_which(redis: Redis, hold: Callable[..., None]) -> None:
    # Given a task that two workers have died on
    redis.lpush(QUEUE, _message("gw-1"))
    for worker in ("w1", "w2"):
        hold(worker, 1)
        _end_lease(redis, worker)
        assert _recover(redis, worker) == (1, [])

    # When the third dies
    hold("w3", 1)
    _end_lease(redis, "w3")

    # Then
    assert _recover(redis, "w3") == (0, [b"gw-1"])
    assert redis.exists(QUEUE, keys.unacked("w3")) == 0
    assert redis.get(keys.DEAD_LETTERS_EVER) == b"1"
    (letter,) = [json.loads(entry) for entry in redis.lrange(keys.DEAD_LETTERS, 0, -1)]
    assert (letter["task"], letter["queue"], letter["worker"], letter["deaths"]) == ("gw-1", QUEUE, "w3", 3)
    assert (letter["model"], letter["lane"]) == (MODEL, "interactive")
    text = _text("gw-1")
    assert letter["requests"] == [{"request_id": "r", "inputs": 1, "sha256": [sha256(text.encode()).hexdigest()]}]
    assert "text" not in json.dumps(letter)


def test_of_dead_letters_the_newest_are_kept(redis: Redis, hold: Callable[..., None]) -> None:
    # Given a full list
    redis.rpush(keys.DEAD_LETTERS, *range(keys.DEAD_LETTERS_KEPT))
    redis.set(f"{keys.DELIVERIES_PREFIX}gw-1", leases.MAX_DELIVERIES - 1)
    redis.lpush(QUEUE, _message("gw-1"))
    hold("w1", 1)
    _end_lease(redis, "w1")

    # When
    _recover(redis, "w1")

    # Then
    assert redis.llen(keys.DEAD_LETTERS) == keys.DEAD_LETTERS_KEPT
    assert json.loads(redis.lindex(keys.DEAD_LETTERS, 0))["task"] == "gw-1"


def _missing(redis: Redis, *task_ids: str) -> list[bytes]:
    script_keys, arguments = leases.missing_call(QUEUE, list(task_ids))
    found: list[bytes] = redis.eval(lua.script("missing"), len(script_keys), *script_keys, *arguments)
    return found


def test_a_task_is_missing_when_it_is_neither_queued_nor_held(redis: Redis, hold: Callable[..., None]) -> None:
    # Given one that a worker holds, one in the queue, and one that is nowhere
    redis.lpush(QUEUE, _message("gw-held"))
    hold("w1", 1)
    redis.lpush(QUEUE, _message("gw-queued"))

    # Then
    assert _missing(redis, "gw-held", "gw-queued", "gw-lost") == [b"gw-lost"]


def test_a_task_that_a_dying_worker_holds_is_not_missing_until_it_has_been_recovered(
    redis: Redis, hold: Callable[..., None]
) -> None:
    redis.lpush(QUEUE, _message("gw-1"))
    hold("w1", 1)
    _end_lease(redis, "w1")
    assert _missing(redis, "gw-1") == []

    _recover(redis, "w1")
    assert _missing(redis, "gw-1") == []


def test_a_task_is_missing_even_if_one_whose_id_begins_alike_is_queued(redis: Redis) -> None:
    # Given task 12 of a gateway in the queue, but not task 1
    redis.lpush(QUEUE, _message("gw-12"))

    # Then
    assert _missing(redis, "gw-1", "gw-12") == [b"gw-1"]


def test_a_queue_too_long_to_search_is_taken_to_hold_everything(redis: Redis) -> None:
    redis.lpush(QUEUE, *["x"] * leases.SEARCH_LIMIT)
    assert _missing(redis, "gw-1") == [b"gw-1"]

    redis.lpush(QUEUE, "x")
    assert _missing(redis, "gw-1") == []


def test_a_living_worker_takes_back_what_a_dead_one_held_and_answers_what_is_given_up(
    redis_url: str, redis: Redis, hold: Callable[..., None]
) -> None:
    # Given a dead worker with two tasks, one of which has killed two workers before
    redis.set(f"{keys.DELIVERIES_PREFIX}gw-deadly", leases.MAX_DELIVERIES - 1)
    redis.lpush(QUEUE, _message("gw-deadly"))
    redis.lpush(QUEUE, _message("gw-1"))
    hold("w1", 2)
    _end_lease(redis, "w1")
    heard = redis.pubsub(ignore_subscribe_messages=False)
    heard.subscribe(keys.result("gw-deadly"))
    assert heard.get_message(timeout=5) is not None

    # When a living worker beats
    card = WorkerCard(worker="w2", hostname="h", pid=1, device="cpu", state="ready", models=[])
    heartbeat = Heartbeat(Redis.from_url(redis_url), "w2", lambda: card, result_ttl_s=60)
    heartbeat.start()
    try:
        wait_until(lambda: redis.llen(QUEUE) == 1, what="the task to come back")
        answer = _wait_for_message(heard)
    finally:
        heartbeat.stop()
        heard.close()

    # Then
    assert _tags(redis, QUEUE) == ["gw-1"]
    assert DeadLetter.model_validate_json(redis.lindex(keys.DEAD_LETTERS, 0)).task == "gw-deadly"
    assert redis.get(keys.DEAD_LETTERS_EVER) == b"1"
    assert isinstance(decode_result(answer), WorkerLost)
    assert redis.get(keys.result("gw-deadly")) == answer
    assert 0 < redis.ttl(keys.result("gw-deadly")) <= 60


def test_a_worker_that_stops_with_nothing_in_hand_gives_its_lease_back(redis_url: str, redis: Redis) -> None:
    # Given
    card = WorkerCard(worker="w1", hostname="h", pid=1, device="cpu", state="ready", models=[])
    heartbeat = Heartbeat(Redis.from_url(redis_url), "w1", lambda: card, result_ttl_s=60)
    heartbeat.start()
    assert redis.zscore(keys.LEASES, "w1") is not None
    assert WorkerCard.model_validate_json(redis.get(keys.worker_card("w1"))) == card
    assert redis.ttl(keys.worker_card("w1")) > 0

    # When
    heartbeat.stop()

    # Then
    assert redis.exists(keys.LEASES, keys.worker_card("w1")) == 0


def test_a_worker_whose_heartbeat_fails_ends_so_that_another_takes_its_place(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would look alive and be given nothing to do."""
    # Given
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr("workers.heartbeat.os.kill", lambda pid, number: ended.append((pid, number)))
    cards = iter([WorkerCard(worker="w1", hostname="h", pid=1, device="cpu", state="ready", models=[])])
    heartbeat = Heartbeat(Redis.from_url(redis_url), "w1", lambda: next(cards), result_ttl_s=60)

    # When
    heartbeat.start()

    # Then
    wait_until(lambda: ended == [(os.getpid(), signal.SIGTERM)], what="the worker to be told to end")
    heartbeat.stop()


def test_a_worker_that_stops_with_messages_in_hand_leaves_its_lease_to_end(redis_url: str, redis: Redis) -> None:
    # Given
    card = WorkerCard(worker="w1", hostname="h", pid=1, device="cpu", state="draining", models=[])
    heartbeat = Heartbeat(Redis.from_url(redis_url), "w1", lambda: card, result_ttl_s=60)
    heartbeat.start()
    redis.hset(keys.unacked("w1"), "gw-1", "entry")

    # When
    heartbeat.stop()

    # Then whoever lives will recover them
    assert redis.zscore(keys.LEASES, "w1") is not None


def _tags(redis: Redis, queue: str) -> list[str]:
    """Delivery tags in a queue, the next to be taken first."""
    entries = reversed(redis.lrange(queue, 0, -1))
    return [json.loads(entry)["properties"]["delivery_tag"] for entry in entries]


def _wait_for_message(heard: Any) -> bytes:
    received: list[bytes] = []

    def look() -> bool:
        message = heard.get_message(timeout=0.1)
        if message is not None and message["type"] == "message":
            received.append(message["data"])
        return bool(received)

    wait_until(look, what="the publication")
    return received[0]


def test_a_heartbeat_knows_whether_redis_takes_what_it_says(own_valkey: ValkeyServer) -> None:
    card = WorkerCard(worker="w1", hostname="h", pid=1, device="cpu", state="ready", models=[])
    with Redis.from_url(own_valkey.url()) as client:
        heartbeat = Heartbeat(Redis.from_url(own_valkey.url()), "w1", lambda: card, result_ttl_s=60)
        heartbeat.start()

        client.config_set("min-replicas-to-write", 1)
        wait_until(lambda: not heartbeat.reachable, what="the refusal to be noticed")
        client.config_set("min-replicas-to-write", 0)
        wait_until(lambda: heartbeat.reachable, what="its end to be noticed")

        heartbeat.stop()


def test_a_worker_that_starts_while_redis_is_away_waits_for_it(own_valkey: ValkeyServer) -> None:
    # Given
    card = WorkerCard(worker="w1", hostname="h", pid=1, device="cpu", state="ready", models=[])
    heartbeat = Heartbeat(Redis.from_url(own_valkey.url()), "w1", lambda: card, result_ttl_s=60)
    own_valkey.stop()
    starting = threading.Thread(target=heartbeat.start)
    starting.start()
    wait_until(lambda: not heartbeat.reachable, what="the outage to be noticed")

    # When
    own_valkey.start()
    starting.join(10)

    # Then
    assert not starting.is_alive()
    with Redis.from_url(own_valkey.url()) as client:
        assert client.zscore(keys.LEASES, "w1") is not None
        heartbeat.stop()
        assert client.zscore(keys.LEASES, "w1") is None


def test_a_worker_that_never_got_its_lease_just_ends(own_valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given
    monkeypatch.setattr("workers.heartbeat._START_PATIENCE_S", 0.1)
    card = WorkerCard(worker="w1", hostname="h", pid=1, device="cpu", state="ready", models=[])
    heartbeat = Heartbeat(Redis.from_url(own_valkey.url()), "w1", lambda: card, result_ttl_s=60)
    own_valkey.stop()

    # When
    with pytest.raises(RedisError):
        heartbeat.start()

    # Then
    heartbeat.stop()


def test_lost_workers_are_counted_once(redis: Redis) -> None:
    redis.zadd(keys.LEASES, {"w1": 1})

    _recover(redis, "w1")
    _recover(redis, "w1")

    assert redis.get(keys.LOST_WORKERS) == b"1"
