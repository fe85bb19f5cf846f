"""The real service: `millrace serve` as a process, as a user starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until

START_TIMEOUT_S = 120.0


class Service:
    """One `millrace serve` on free ports, with a state folder of its own."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str] | None = None, program: Sequence[str] | None = None
    ) -> None:
        """Describe a service; nothing runs yet.

        Args:
            folder: Where its state and its log go.
            environment: Settings beside those of the ports.
            program: The command of an installation elsewhere; this tree's when None.
        """
        self._program = program or (sys.executable, "-m", "millrace.cli")
        # A tree's own modules would come first where the command runs in it.
        self._runs_in = folder if program else Path(__file__).parents[2]
        self.port = free_port()
        self.flower_port = free_port()
        self.metrics_port = free_port()
        self.runner_metrics_port = free_port()
        self.callbacks_metrics_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = folder / "serve.log"
        self._folder = folder
        self.environment = {
            "MILLRACE_PORT": str(self.port),
            "MILLRACE_FLOWER_PORT": "0",
            "MILLRACE_RUNNER_METRICS_PORT": str(self.runner_metrics_port),
            "MILLRACE_CALLBACKS_METRICS_PORT": str(self.callbacks_metrics_port),
            "MILLRACE_WORKER_METRICS_PORT": str(self.metrics_port),
            "MILLRACE_STATE_DIR": str(folder / "state"),
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it; the caller waits."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._program, "serve"],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._runs_in,
            )

    def start(self) -> None:
        """Start it and wait for the URLs."""
        self.launch()
        wait_until(self.has_answered, timeout_s=START_TIMEOUT_S, what=f"the service to answer; its log:\n{self.log()}")

    def has_answered(self) -> bool:
        """Whether it has printed the URLs."""
        if self.process is None or self.process.poll() is not None:
            raise AssertionError(f"the service ended:\n{self.log()}")
        return "answered its first request" in self.log()

    def log(self) -> str:
        """What it has printed."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def client(self, timeout_s: float = 60.0) -> httpx.Client:
        """A client of it."""
        return httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)

    def processes(self) -> list[psutil.Process]:
        """Every process under the supervisor."""
        if self.process is None:
            return []
        return psutil.Process(self.process.pid).children(recursive=True)

    def part(self, module: str) -> psutil.Process:
        """The process that runs `python -m <module>`."""
        return next(process for process in self.processes() if _module(process) == module)

    def pids(self, modules: Iterable[str]) -> dict[str, int]:
        """The process ids of parts, by module: the same later on if none of them died."""
        return {module: self.part(module).pid for module in modules}

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 60.0) -> int:
        """Send a signal and wait for the end; the exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)


def _module(process: psutil.Process) -> str | None:
    try:
        arguments = process.cmdline()
    except psutil.Error:
        return None
    return arguments[arguments.index("-m") + 1] if "-m" in arguments else None
