"""Workers as a Deployment's pods: real `millrace worker` processes, started and told to end by a number of replicas."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


class WorkerPods:
    """The processes of one Deployment."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, grace_s: float) -> None:
        """Nothing runs yet.

        Args:
            folder: Where their logs go.
            environment: Theirs, beside this process's.
            grace_s: Time between SIGTERM and SIGKILL, in seconds.
        """
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._grace_s = grace_s
        self._running: list[subprocess.Popen[bytes]] = []
        self._ending: list[tuple[subprocess.Popen[bytes], float]] = []
        #: How many there have been, those that took another's place too.
        self.started = 0
        #: Exit statuses of those that were told to end; None where one had to be killed.
        self.ended: list[int | None] = []
        #: Those that ended by themselves.
        self.died: list[int] = []

    @property
    def replicas(self) -> int:
        """Pods that there should be, ready or not."""
        return len(self._running)

    def scale_to(self, replicas: int) -> None:
        """Start what is missing, tell the youngest to end where there are too many."""
        while len(self._running) < replicas:
            self._running.append(self._start())
        while len(self._running) > replicas:
            process = self._running.pop()
            process.send_signal(signal.SIGTERM)
            self._ending.append((process, time.monotonic() + self._grace_s))

    def look(self) -> None:
        """See what has ended; kill what has had its time; put another in the place of what has died."""
        now = time.monotonic()
        for process, deadline in list(self._ending):
            if process.poll() is not None:
                self.ended.append(process.returncode)
            elif now > deadline:
                process.kill()
                process.wait()
                self.ended.append(None)
            else:
                continue
            self._ending.remove((process, deadline))
        for index, process in enumerate(self._running):
            if process.poll() is not None:
                self.died.append(process.returncode)
                self._running[index] = self._start()

    def close(self) -> None:
        """Kill all that is left."""
        for process in [*self._running, *(process for process, _ in self._ending)]:
            process.kill()
            process.wait()
        self._running, self._ending = [], []

    def log(self) -> str:
        """What all of them have logged."""
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("worker-*.log")))

    def _start(self) -> subprocess.Popen[bytes]:
        self.started += 1
        with (self._folder / f"worker-{self.started}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "millrace.cli", "worker"],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
