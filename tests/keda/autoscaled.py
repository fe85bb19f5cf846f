"""A deployment that is scaled as the chart says: real gateway, job runner and workers, and a stand-in for KEDA."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from bench.autoscaler import Autoscaler, Scaling, scaling_of
from tests.helpers.chart import Object, environment, find, rendered
from tests.helpers.gateway_process import ROOT, GatewayProcess, gateway_process
from tests.helpers.pods import WorkerPods
from tests.helpers.valkey import free_port, running_valkey

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
#: Speed of a worker's device. Its work is to sleep, so that several fit beside each other on two cores.
TOKENS_PER_S = 500
BATCH_TOKENS = 256
POOL = "default"
_LOOK_EVERY_S = 0.1

#: The chart's own triggers and thresholds, with a clock that runs some thirty times as fast.
VALUES: dict[str, Any] = {
    "settings": {"drainSeconds": 10},
    "gateway": {"replicas": 1},
    "poolDefaults": {
        "autoscaling": {
            "enabled": True,
            "coldStartSeconds": 120,
            "pollingInterval": 1,
            "cooldownPeriod": 12,
            "scaleUp": {"periodSeconds": 3},
            "scaleDown": {"stabilizationWindowSeconds": 8, "periodSeconds": 3},
        }
    },
}
#: How often the HPA looks, in seconds; 15 in a cluster.
SYNC_S = 1.5


@dataclass
class Step:
    """A moment of the scaler."""

    at: float
    values: dict[str, float]
    replicas: int


@dataclass
class Autoscaled:
    """What runs, and what the scaler did."""

    gateway: GatewayProcess
    redis: Redis
    pods: WorkerPods
    scaling: Scaling
    steps: list[Step] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def most(self) -> int:
        """Most replicas that there were."""
        return max((step.replicas for step in self.steps), default=0)

    def history(self) -> str:
        """A line for each moment: when, how many workers, and the lists' lengths."""
        began = self.steps[0].at if self.steps else 0.0
        return "\n".join(
            f"{step.at - began:6.1f} s  {step.replicas} workers  {[int(value) for value in step.values.values()]}"
            for step in self.steps
        )

    def changes(self) -> list[int]:
        """The numbers of replicas, one after the other."""
        numbers = [0]
        for step in self.steps:
            if step.replicas != numbers[-1]:
                numbers.append(step.replicas)
        return numbers


def _ask_redis(redis: Redis, scaling: Scaling) -> dict[str, float]:
    """The lengths of what all triggers name, as KEDA's redis scaler asks for them."""
    values: dict[str, float] = {}
    for trigger in scaling.triggers:
        if trigger.kind == "redis":
            name = trigger.metadata["listName"]
            # As KEDA's script does, which looks at the type first.
            length: Any = redis.scard(name) if redis.type(name) == b"set" else redis.llen(name)
            values[trigger.key] = float(length)
    return values


def _scale(deployment: Autoscaled, stop: threading.Event) -> None:
    autoscaler = Autoscaler(deployment.scaling, sync_s=SYNC_S)
    while not stop.wait(_LOOK_EVERY_S):
        deployment.pods.look()
        now = time.monotonic()
        if autoscaler.is_due(now):
            values = _ask_redis(deployment.redis, deployment.scaling)
            deployment.pods.scale_to(autoscaler.replicas(values, deployment.pods.replicas, now))
            deployment.steps.append(Step(now, values, deployment.pods.replicas))


@contextmanager
def _job_runner(redis_url: str, folder: Path, settings: Mapping[str, str]) -> Iterator[None]:
    port = free_port()
    with (folder / "jobs.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "millrace.cli", "jobs"],
            env={
                **os.environ,
                **settings,
                "MILLRACE_REDIS_URL": redis_url,
                "MILLRACE_STORE": str(folder / "store"),
                "MILLRACE_RUNNER_METRICS_PORT": str(port),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def part_settings(objects: list[Object], folder: Path, deployment: str, models_file: str) -> dict[str, str]:
    """A part's variables as the chart has them, but for those that only make sense in a cluster."""
    models = find(objects, "ConfigMap", "-models")["data"]
    (folder / models_file).write_text(models[models_file])
    (container,) = find(objects, "Deployment", deployment)["spec"]["template"]["spec"]["containers"]
    said = {name: value for name, value in environment(container).items() if value is not None}
    for name in ("HOME", "HF_HOME", "MILLRACE_REDIS_URL", "MILLRACE_STORE", "MILLRACE_HOST", "MILLRACE_PORT"):
        said.pop(name, None)
    return {**said, "MILLRACE_MODELS_FILE": str(folder / models_file), "MILLRACE_LOG_FORMAT": "text"}


@contextmanager
def autoscaled(folder: Path) -> Iterator[Autoscaled]:
    """Everything, with no worker, until the block ends."""
    objects = rendered(VALUES)
    worker = part_settings(objects, folder, f"-worker-{POOL}", f"{POOL}.yaml")
    asking = part_settings(objects, folder, "-gateway", "_all.yaml")
    spec = find(objects, "Deployment", f"-worker-{POOL}")["spec"]["template"]["spec"]
    with (
        running_valkey(folder) as valkey,
        Redis.from_url(valkey.url()) as redis,
        gateway_process(valkey.url(), folder, asking) as gateway,
        _job_runner(valkey.url(), folder, asking),
    ):
        pods = WorkerPods(
            folder,
            {
                **worker,
                "MILLRACE_REDIS_URL": valkey.url(),
                "MILLRACE_WORKER_METRICS_PORT": "0",
                "MILLRACE_ENGINE": "bench.null_engine",
                "BENCH_TOKENS_PER_S": str(TOKENS_PER_S),
                "MILLRACE_MAX_BATCH_TOKENS": str(BATCH_TOKENS),
            },
            grace_s=spec["terminationGracePeriodSeconds"],
        )
        scaled = find(objects, "ScaledObject", f"-worker-{POOL}")
        deployment = Autoscaled(gateway, redis, pods, scaling_of(scaled))
        stop = threading.Event()

        def run() -> None:
            try:
                _scale(deployment, stop)
            except BaseException as err:
                deployment.failures.append(err)
                raise

        scaler = threading.Thread(target=run, name="scaler")
        scaler.start()
        try:
            yield deployment
        finally:
            stop.set()
            scaler.join()
            pods.close()
