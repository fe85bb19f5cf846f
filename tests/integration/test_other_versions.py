"""A gateway beside processes of another version, as there are while a deployment is upgraded."""

import json
from pathlib import Path

from redis import Redis

from shared import keys
from tests.helpers.fleets import card
from tests.helpers.gateway_process import gateway_process
from tests.helpers.waiting import wait_until


def test_a_gateway_outlives_cards_that_it_cannot_read_and_serves_those_that_it_can(
    redis_url: str, redis: Redis, tmp_path: Path
) -> None:
    ours = {**card("ours").model_dump(mode="json"), "operations": ["embed", "segment"]}
    strange = {**ours, "name": "strange", "model_type": "oracle"}
    worker = {"worker": "w", "hostname": "h", "pid": 1, "device": "cpu", "state": "ready", "models": [ours, strange]}
    dreamer = {**worker, "worker": "dreamer", "state": "dreaming"}

    with gateway_process(redis_url, tmp_path, {}) as gateway, gateway.client() as client:
        redis.hset(keys.MODEL_CARDS, mapping={"ours": json.dumps(ours), "strange": json.dumps(strange)})
        for each in (worker, dreamer):
            redis.set(keys.worker_card(each["worker"]), json.dumps(each), ex=60)
            redis.zadd(keys.LEASES, {each["worker"]: 4e12})
        redis.hset(keys.BACKLOG, "gw-strange", '{"at": "noon"}')

        def served() -> list[str]:
            return [worker["worker"] for worker in client.get("/v1/status").json()["workers"]]

        def said() -> dict[bytes, bytes]:
            return {
                process: value for process, value in redis.hgetall(keys.BACKLOG).items() if process != b"gw-strange"
            }

        wait_until(lambda: served() == ["w"], what="the worker to be seen")
        wait_until(lambda: gateway.log().count("unreadable") >= 4, what="all to be told of")
        for _ in range(3):  # looks at the fleet, one a second
            before = said()
            wait_until(lambda before=before: said() != before, what="another look")

        assert gateway.process.poll() is None
        assert served() == ["w"]
        assert gateway.log().count("unreadable") == 4
