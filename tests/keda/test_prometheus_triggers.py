"""The chart's triggers on Prometheus, asked of a real one that scrapes the real service, and judged as KEDA and the HPA do.

They are switched on alone, so that nothing else keeps the pool awake. `make test-keda`.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from bench.autoscaler import Autoscaler, Scaling, scaling_of, wanted_replicas
from shared import keys
from tests.helpers.chart import find, merged, rendered
from tests.helpers.gateway_process import GatewayProcess, gateway_process
from tests.helpers.pods import WorkerPods
from tests.helpers.valkey import free_port, running_valkey
from tests.helpers.waiting import wait_until
from tests.keda.autoscaled import BATCH_TOKENS, MODEL, POOL, TOKENS_PER_S, VALUES, part_settings
from tests.keda.load import steady
from tests.keda.test_scaling import ONE_WORKER, TEXTS
from tests.monitoring.rules import ROOT
from tests.monitoring.servers import Prometheus, scraping
from tests.monitoring.tools import Tools

#: What the chart's monitors say of a release's parts.
LABELS = {"namespace": "search", "release": "m"}
#: The chart's own queries and thresholds, over seconds instead of a minute.
ALONE = merged(
    VALUES,
    {
        "poolDefaults": {
            "autoscaling": {
                "redis": {"enabled": False},
                "prometheus": {"enabled": True, "serverAddress": "http://prometheus:9090", "window": "5s"},
            }
        }
    },
)
#: Time in which what has happened is scraped, and in the window, in seconds.
SEEN_S = 20.0


class Watched:
    """A gateway and a worker that Prometheus scrapes, and what the triggers make of it."""

    def __init__(
        self, redis: Redis, gateway: GatewayProcess, pods: WorkerPods, prometheus: Prometheus, scaling: Scaling
    ) -> None:
        self.redis, self.gateway, self.pods, self.scaling = redis, gateway, pods, scaling
        self._prometheus = prometheus

    def values(self) -> dict[str, float]:
        """What the triggers come to, as KEDA's scaler asks: an instant query of one number at most, none is 0."""
        found = {}
        for trigger in self.scaling.triggers:
            series = self._prometheus.query(trigger.key)
            assert len(series) <= 1, f"KEDA takes one number, and this has {len(series)}: {trigger.key}"
            assert trigger.metadata["ignoreNullValues"] == "true"
            found[trigger.key] = float(series[0]["value"][1]) if series else 0.0
        return found

    def active(self) -> list[str]:
        """The queries that keep the pool awake."""
        values = self.values()
        return [trigger.key for trigger in self.scaling.triggers if values[trigger.key] > trigger.activation]

    def wanted(self, current: int) -> int:
        """Replicas that the HPA wants where there are so many."""
        values = self.values()
        return max(wanted_replicas(values[trigger.key], trigger.target, current) for trigger in self.scaling.triggers)

    def from_zero(self) -> int:
        """Replicas that KEDA makes of none."""
        return Autoscaler(self.scaling).replicas(self.values(), 0, time.monotonic())

    def ask(self, per_s: float, for_s: float) -> None:
        """Load of so many requests a second; all are answered."""
        answers = asyncio.run(steady(self.gateway.url, per_s=per_s, for_s=for_s, texts=TEXTS))
        assert {answer.status for answer in answers} == {200}, self.pods.log()[-5000:]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    objects = rendered(ALONE, namespace=LABELS["namespace"], release=LABELS["release"])
    worker = part_settings(objects, tmp_path, f"-worker-{POOL}", f"{POOL}.yaml")
    asking = part_settings(objects, tmp_path, "-gateway", "_all.yaml")
    metrics_port = free_port()
    with (
        running_valkey(tmp_path) as valkey,
        Redis.from_url(valkey.url()) as redis,
        gateway_process(valkey.url(), tmp_path, asking) as gateway,
    ):
        environment: dict[str, Any] = {
            **worker,
            "MILLRACE_REDIS_URL": valkey.url(),
            "MILLRACE_WORKER_METRICS_PORT": str(metrics_port),
            "MILLRACE_ENGINE": "bench.null_engine",
            "BENCH_TOKENS_PER_S": str(TOKENS_PER_S),
            "MILLRACE_MAX_BATCH_TOKENS": str(BATCH_TOKENS),
        }
        pods = WorkerPods(tmp_path, environment, grace_s=10)
        ports = {"millrace-gateway": int(gateway.url.rsplit(":", 1)[1]), "millrace-worker": metrics_port}
        scaling = scaling_of(find(objects, "ScaledObject", f"-worker-{POOL}"))
        tools = Tools(ROOT / "build" / "monitoring")
        try:
            with scraping(tools, tmp_path, ports, {**LABELS, "pod": "p"}) as prometheus:
                yield Watched(redis, gateway, pods, prometheus, scaling)
        finally:
            pods.close()


def test_they_wake_a_pool_let_it_grow_under_load_and_sleep_at_rest(watched: Watched) -> None:
    # Given no worker and nothing asked: there shall be none
    assert {trigger.kind for trigger in watched.scaling.triggers} == {"prometheus"}
    assert watched.from_zero() == 0

    # When somebody asks, Then one is wanted
    with watched.gateway.client() as client:
        client.post("/embed", json={"inputs": "is it awake?"}, headers={"x-request-timeout": "2"})
    wait_until(lambda: watched.from_zero() == 1, timeout_s=SEEN_S, what="a worker to be wanted")

    # When it has come, and has more than twice what it can do
    watched.pods.scale_to(1)
    watched.ask(per_s=1, for_s=1)
    watched.ask(per_s=2.5 * ONE_WORKER, for_s=8)

    # Then more are wanted, since it computes without a rest: its own speed is what counts, not that of two batches at a time
    busy = next(key for key in watched.values() if "millrace_batch_duration_seconds_sum" in key)
    assert 0.75 < watched.values()[busy] < 1.3
    assert watched.wanted(1) >= 2, watched.values()
    sys.stdout.write(f"under load: {[round(value, 2) for value in watched.values().values()]}\n")

    # When little is asked, in batches that are done before anybody looks
    wait_until(lambda: watched.values()[busy] < 0.1, timeout_s=SEEN_S, what="the load to be over")
    watched.ask(per_s=0.2 * ONE_WORKER, for_s=6)

    # Then one is enough, and what has been asked for keeps it awake when its work is over
    assert watched.wanted(1) == 1, watched.values()
    wait_until(lambda: watched.values()[busy] == 0, timeout_s=SEEN_S, what="the work to be over")
    assert ["millrace_model_awake" in key for key in watched.active()] == [True]
    sys.stdout.write(f"just asked: {[round(value, 2) for value in watched.values().values()]}\n")

    # When a minute has gone by without a request, Then nothing does
    watched.redis.delete(keys.awake(MODEL))
    wait_until(lambda: not watched.active(), timeout_s=SEEN_S, what="the pool to fall asleep")
    assert watched.from_zero() == 0
    assert not watched.pods.died
