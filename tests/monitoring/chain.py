"""The chain in earnest: the service under load, a real Prometheus, a real Alertmanager, and somebody who is told."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from redis import Redis

from shared import keys
from tests.helpers.keys_files import tenant, write_keys_file
from tests.helpers.receivers import Receiver, running_receiver
from tests.helpers.service import Service
from tests.helpers.valkey import ValkeyServer, running_valkey
from tests.helpers.waiting import wait_until
from tests.monitoring import servers
from tests.monitoring.load import KEYS, Load
from tests.monitoring.rules import ROOT
from tests.monitoring.tools import Tools

_DASHBOARD = ROOT / "helm" / "millrace" / "files" / "dashboards" / "millrace.json"
#: In the place of Grafana's variables: all of everything, and ten scrapes.
_VARIABLES = {"$__rate_interval": "10s", "$job": ".*", "$model": ".*", "$lane": ".*"}
#: What people's dashboards and scaling rules for TEI ask for.
TEI_QUERIES = (
    "sum(te_request_count)",
    "sum(rate(te_request_success[10s]))",
    "histogram_quantile(0.95, sum by (le) (rate(te_request_duration_bucket[10s])))",
    "histogram_quantile(0.95, sum by (le) (rate(te_request_queue_duration_bucket[10s])))",
    "histogram_quantile(0.95, sum by (le) (rate(te_request_inference_duration_bucket[10s])))",
    "sum(rate(te_batch_inference_duration_sum[10s])) / sum(rate(te_batch_inference_duration_count[10s]))",
    "sum(rate(te_batch_inference_size_sum[10s])) / sum(rate(te_batch_inference_size_count[10s]))",
    # As KEDA asks: ten waiting per replica.
    "sum(te_queue_size) > 0",
)
#: How long everything may take to be seen, in seconds.
_PATIENCE_S = 180.0
#: Longer than the service drains, in seconds.
_STOP_S = 150.0
#: A worker that loads its model, in seconds.
_START_S = 180.0
#: Within this time what a dead worker held is back in its queue, in seconds; and longer than an ordinary task is held.
_RECOVERY_S, _LONG_S = 6.0, 3.0


class Chain:
    """What was found."""

    def __init__(self, service: Service, prometheus: servers.Prometheus, redis: Redis, pager: Receiver) -> None:
        self._service = service
        self._prometheus = prometheus
        self._redis = redis
        self._pager = pager

    def panels(self) -> dict[str, bool]:
        """Whether each panel's queries have all returned data, by title."""
        wanted = {
            f"{panel['title']} ({target['refId']})": _plain(target["expr"])
            for panel in json.loads(_DASHBOARD.read_text())["panels"]
            for target in panel.get("targets", ())
        }
        return self._seen(wanted)

    def tei(self) -> dict[str, bool]:
        """Whether each of TEI's queries has returned a number above 0."""
        return self._seen({query: query for query in TEI_QUERIES}, least=1e-9)

    def _seen(self, wanted: dict[str, str], *, least: float = float("-inf")) -> dict[str, bool]:
        """Ask again and again, because some things are there for moments only."""
        missing = dict(wanted)
        deadline = time.monotonic() + _PATIENCE_S
        while missing and time.monotonic() < deadline:
            for title, query in list(missing.items()):
                series = self._prometheus.query(query)
                if series and max(float(one["value"][1]) for one in series) >= least:
                    del missing[title]
            time.sleep(0.2)
        return {title: title not in missing for title in wanted}

    def make_dead_letter(self) -> None:
        """Ask for what an engine never ends, and kill the worker that has it, three times."""
        answers: list[int] = []

        def ask() -> None:
            with self._service.client(timeout_s=300) as client:
                headers = {"authorization": f"Bearer {KEYS[0]}", "x-request-timeout": "300"}
                answers.append(client.post("/embed", json={"inputs": "sleep"}, headers=headers).status_code)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        while not self._redis.exists(keys.DEAD_LETTERS_EVER):
            wait_until(self._has_taken_it, timeout_s=_START_S, what="the worker to take the task")
            worker = self._service.part("workers")
            worker.kill()
            wait_until(lambda pid=worker.pid: self._has_other_worker(pid), timeout_s=_START_S, what="another worker")
            time.sleep(_RECOVERY_S)
        asking.join(_START_S)
        if answers != [424]:  # as TEI says that inference failed
            raise AssertionError(f"the caller of the dead letter got {answers}")

    def _has_other_worker(self, pid: int) -> bool:
        try:
            return self._service.part("workers").pid != pid
        except (StopIteration, psutil.NoSuchProcess):
            return False

    def _has_taken_it(self) -> bool:
        """Whether a task is with a worker that should have been done with it long since."""
        before = self._held()
        time.sleep(_LONG_S)
        return bool(before & self._held())

    def _held(self) -> set[bytes]:
        return {tag for holder in self._redis.keys(f"{keys.UNACKED_PREFIX}*") for tag in self._redis.hkeys(holder)}

    @contextmanager
    def worker_stopped(self) -> Iterator[None]:
        """The worker stands still, as one does that is swapped out or lost its network."""
        wait_until(self._is_well, timeout_s=_PATIENCE_S, what="a worker, and no alert that there is none")
        stopped = self._service.part("workers")
        os.kill(stopped.pid, signal.SIGSTOP)
        yield
        os.kill(stopped.pid, signal.SIGCONT)

    def _is_well(self) -> bool:
        alerts = self._prometheus.query('ALERTS{alertname="MillraceNoWorker"}')
        return not alerts and bool(self._prometheus.query("min(millrace_workers) > 0"))

    def told(self, alert: str, status: str = "firing", *, since: float = 0.0) -> dict[str, Any]:
        """What the webhook was told of an alert.

        Args:
            alert: Its name.
            status: `firing` or `resolved`.
            since: Monotonic time before which it does not count.

        Raises:
            TimeoutError: Nothing.
        """
        found: list[dict[str, Any]] = []

        def look() -> bool:
            pages = self.pages(since)
            found[:] = [one for one in pages if one["labels"]["alertname"] == alert and one["status"] == status]
            return bool(found)

        wait_until(look, timeout_s=_PATIENCE_S, what=f"{alert} to be {status}; told of {self.told_of()}")
        return found[0]

    def pages(self, since: float = 0.0) -> list[dict[str, Any]]:
        """All alerts that the webhook was told of since a monotonic time."""
        received = [one for one in self._pager.received if one.at >= since]
        return [alert for one in received for alert in json.loads(one.body)["alerts"]]

    def told_of(self) -> dict[str, str]:
        """The last summary of each alert that fired."""
        return {
            one["labels"]["alertname"]: one["annotations"]["summary"]
            for one in self.pages()
            if one["status"] == "firing"
        }


def _plain(query: str) -> str:
    for name, value in _VARIABLES.items():
        query = query.replace(name, value)
    return query


@contextmanager
def under_load(tools: Tools, folder: Path, say: Callable[[str], None]) -> Iterator[Chain]:
    """Everything started, and busy."""
    keys_file = write_keys_file(folder / "keys.yaml", tenant("first", KEYS[0]), tenant("second", KEYS[1]))
    with running_receiver() as pager, running_receiver() as callbacks, running_valkey(folder) as valkey:
        service = _service(folder, valkey, keys_file)
        ports = {
            "millrace-gateway": service.port,
            "millrace-worker": service.metrics_port,
            "millrace-jobs": service.runner_metrics_port,
            "millrace-callbacks": service.callbacks_metrics_port,
        }
        try:
            service.start()
            say(f"the service runs at {service.url}")
            with (
                servers.running(tools, folder, ports, pager.url) as prometheus,
                Redis.from_url(valkey.url()) as redis,
                Load(service, callbacks.url),
            ):
                yield Chain(service, prometheus, redis, pager)
        finally:
            service.stop(timeout_s=_STOP_S)
            (folder / "service.txt").write_text(service.log())


def _service(folder: Path, valkey: ValkeyServer, keys_file: Path) -> Service:
    return Service(
        folder,
        {
            "MILLRACE_REDIS_URL": valkey.url(),
            "MILLRACE_KEYS_FILE": str(keys_file),
            "MILLRACE_WEBHOOK_HOSTS": "127.0.0.1",
            "MILLRACE_ENGINE": "tests.helpers.faulty_engine",
            "MILLRACE_ACCESS_LOG": "false",
            # Nobody replaces the worker that is stopped on purpose.
            "MILLRACE_WEDGED_AFTER_S": "600",
        },
    )
