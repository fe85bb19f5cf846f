"""Faults made real: signals to processes, a server that goes away, a proxy that cuts, a file that may not grow."""

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import httpx
import psutil

from tests.chaos.ledger import Outages, Period
from tests.chaos.schedule import Event, Kind
from tests.helpers.service import Service
from tests.helpers.tcp_proxy import TcpProxy
from tests.helpers.valkey import ValkeyServer
from tests.helpers.waiting import wait_until

#: Modules of the parts that are killed and stopped.
_MODULES: Mapping[Kind, str] = {
    Kind.KILL_GATEWAY: "api",
    Kind.KILL_WORKER: "workers",
    Kind.KILL_ENGINE: "workers.engine",
    Kind.KILL_RUNNER: "api.bulk",
    Kind.KILL_CALLBACKS: "workers.callbacks",
    Kind.STOP_GATEWAY: "api",
    Kind.STOP_WORKER: "workers",
    Kind.STOP_WORKER_LONG: "workers",
    Kind.STOP_ENGINE: "workers.engine",
    Kind.STOP_RUNNER: "api.bulk",
    Kind.STOP_CALLBACKS: "workers.callbacks",
}
#: Time for a killed part to be there again before it is given up as a victim, and for a gateway to answer, in seconds.
_RETURN_S = 30.0
_RESTART_S = 60.0


@dataclass(frozen=True, slots=True)
class Applied:
    """A fault that happened. Times are of the monotonic clock, in seconds."""

    kind: Kind
    begin: float
    #: When it was undone; a kill is over at once.
    end: float


class Faults:
    """Applies a schedule."""

    def __init__(self, service: Service, valkey: ValkeyServer, proxy: TcpProxy) -> None:
        """Describe the faults.

        Args:
            service: Whose parts are killed and stopped.
            valkey: Its queue.
            proxy: Between the two.
        """
        self._service = service
        self._valkey = valkey
        self._proxy = proxy
        self.applied: list[Applied] = []
        self.outages = Outages()
        self._lock = threading.Lock()

    def run(self, events: Sequence[Event]) -> None:
        """Apply the events at their times, and return when the last has been undone.

        Raises:
            Exception: A fault could not be applied.
        """
        begin = time.monotonic()
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="fault") as threads:
            running: list[Future[None]] = []
            for event in events:
                time.sleep(max(0.0, begin + event.at_s - time.monotonic()))
                for done in filter(Future.done, running):
                    done.result()  # one that could not be applied or undone: what comes after it would prove nothing
                running.append(threads.submit(self.apply, event))
        for done in running:
            done.result()

    def apply(self, event: Event) -> None:
        """Apply one event, and return when it has been undone."""
        deeds: dict[Kind, Callable[[float], tuple[float, float]]] = {
            Kind.REDIS_RESTARTED: self._restart_redis,
            Kind.REDIS_KILLED: self._kill_redis,
            Kind.CUT: self._cut,
            Kind.SILENT: self._silence,
            Kind.HALF_OPEN: self._forget,
            Kind.DISK_FULL: self._fill_disk,
            Kind.DISK_FULL_KILLED: self._fill_disk_and_kill,
        }
        if event.kind in deeds:
            begin, end = deeds[event.kind](event.lasts_s)
        elif event.lasts_s == 0:
            begin, end = self._kill(event.kind)
        else:
            begin, end = self._stop(event.kind, event.lasts_s)
        with self._lock:
            self.applied.append(Applied(event.kind, begin, end))

    def _victim(self, kind: Kind) -> psutil.Process:
        found: list[psutil.Process] = []

        def look() -> bool:
            with suppress(StopIteration, psutil.Error):
                found.append(self._service.part(_MODULES[kind]))
            return bool(found)

        wait_until(look, timeout_s=_RETURN_S, what=f"{_MODULES[kind]} to be there, so that it can be harmed")
        return found[0]

    def _kill(self, kind: Kind) -> tuple[float, float]:
        victim = self._victim(kind)
        begin = time.monotonic()
        victim.send_signal(signal.SIGKILL)
        if kind is Kind.KILL_GATEWAY:
            wait_until(self._gateway_answers, timeout_s=_RESTART_S, what="the killed gateway to be back")
            self.outages.down.append(Period(begin, time.monotonic()))
        return begin, begin

    def _gateway_answers(self) -> bool:
        try:
            return httpx.get(f"{self._service.url}/health", trust_env=False, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def _stop(self, kind: Kind, lasts_s: float) -> tuple[float, float]:
        victim = self._victim(kind)
        begin = time.monotonic()
        victim.send_signal(signal.SIGSTOP)
        try:
            time.sleep(lasts_s)
        finally:
            with suppress(psutil.NoSuchProcess):  # an engine may have been replaced
                victim.send_signal(signal.SIGCONT)
        end = time.monotonic()
        if kind is Kind.STOP_GATEWAY:
            self.outages.frozen.append(Period(begin, end))
        return begin, end

    def _restart_redis(self, lasts_s: float) -> tuple[float, float]:
        begin = time.monotonic()
        self._valkey.stop()
        time.sleep(lasts_s)
        self._valkey.start()
        return begin, time.monotonic()

    def _kill_redis(self, lasts_s: float) -> tuple[float, float]:
        begin = time.monotonic()
        self._valkey.kill()
        time.sleep(lasts_s)
        self._valkey.start()
        return begin, time.monotonic()

    def _cut(self, lasts_s: float) -> tuple[float, float]:
        begin = time.monotonic()
        self._proxy.cut()
        time.sleep(lasts_s)
        self._proxy.mend()
        return begin, time.monotonic()

    def _silence(self, lasts_s: float) -> tuple[float, float]:
        begin = time.monotonic()
        self._proxy.silence()
        time.sleep(lasts_s)
        self._proxy.mend()
        return begin, time.monotonic()

    def _forget(self, _: float) -> tuple[float, float]:
        begin = time.monotonic()
        self._proxy.forget()
        return begin, begin

    def _fill_disk(self, lasts_s: float) -> tuple[float, float]:
        begin = time.monotonic()
        self._valkey.fill_disk()
        wait_until(lambda: not self._valkey.can_write(), timeout_s=lasts_s + 5, what="the full disk to be noticed")
        time.sleep(max(0.0, begin + lasts_s - time.monotonic()))
        self._valkey.free_disk()
        return begin, time.monotonic()

    def _fill_disk_and_kill(self, lasts_s: float) -> tuple[float, float]:
        """The disk fills up, the server dies of something in the middle of a write, and is started when there is room."""
        begin = time.monotonic()
        self._valkey.fill_disk()
        wait_until(lambda: not self._valkey.can_write(), timeout_s=lasts_s + 5, what="the full disk to be noticed")
        time.sleep(max(0.0, begin + lasts_s - time.monotonic()))
        self._valkey.kill()
        self._valkey.tear_tail()
        self._valkey.start()
        return begin, time.monotonic()
