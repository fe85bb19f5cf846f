"""Child processes of the supervisor: started in sessions of their own, logged with a prefix, restarted when they die."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from functools import partial
from pathlib import Path

from shared.logging import get_logger
from shared.parent_death import die_with_parent

log = get_logger("millrace.supervisor")

#: Pauses before a part is started again, in seconds; a part that ran longer than the last of them starts over.
_RESTART_PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0)
#: Where this code is.
_ROOT = str(Path(__file__).parents[1])
#: Colours of the prefixes on a terminal (ANSI 36, 32, 33, 35, 34).
_COLOURS = (36, 32, 33, 35, 34)
_NAME_WIDTH = 9


class Part:
    """One process of the service."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        plain_log: bool,
        orphaned: signal.Signals = signal.SIGKILL,
        liveness_url: str = "",
        cpus: Set[int] = frozenset(),
    ) -> None:
        """Describe a process.

        Args:
            name: Prefix of its log lines.
            command: Its command line.
            environment: What is added to this process's environment.
            plain_log: Print its lines as they are (JSON logs) instead of behind the prefix.
            orphaned: What it gets when this process is killed. Draining would hold its port against the next start, for
                requests that nobody answers any more; what was not finished is recovered as after any death.
            liveness_url: Where it says whether it is well, once it has started; nowhere if empty.
            cpus: Those that it and its children may use; all of this process's own if empty.
        """
        self.name = name
        #: Whether it has ever said that it is well.
        self.was_well = False
        self.liveness_url = liveness_url
        self._command = list(command)
        self._environment = {**os.environ, **_own_code(), **environment}
        self._plain_log = plain_log
        self._orphaned = orphaned
        self._cpus = cpus
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._deaths = 0
        self._started_at = 0.0

    @property
    def pid(self) -> int | None:
        """Process id, while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the process."""
        self._started_at = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the supervisor only, which stops the parts in order
            preexec_fn=partial(_prepare, self._orphaned, self._cpus),
            limit=1 << 20,
        )
        if self._process.stdout is None:
            raise RuntimeError("the process has no output pipe")
        self._readers.append(asyncio.create_task(self._print(self._process.stdout)))

    async def wait(self) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return await self._process.wait()

    async def restart(self) -> None:
        """Start it again, after a pause that grows while it keeps dying."""
        if time.monotonic() - self._started_at > _RESTART_PAUSES_S[-1]:
            self._deaths = 0
        await asyncio.sleep(_RESTART_PAUSES_S[min(self._deaths, len(_RESTART_PAUSES_S) - 1)])
        self._deaths += 1
        await self.start()

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL to its whole session when it has not ended in time."""
        if self._process is None:
            return
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._process.wait()
            except TimeoutError:
                log.warning("part_killed", part=self.name, seconds=timeout_s)
                self.kill()
                await self._process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def kill(self) -> None:
        """SIGKILL to its whole session."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _print(self, stream: asyncio.StreamReader) -> None:
        prefix = "" if self._plain_log else self._prefix()
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # a line beyond the limit; the rest of it comes with the next reads
                continue
            if not line:
                return
            sys.stdout.write(prefix + line.decode(errors="replace").rstrip("\n") + "\n")
            sys.stdout.flush()

    def _prefix(self) -> str:
        text = f"{self.name:<{_NAME_WIDTH}} | "
        if not sys.stdout.isatty():
            return text
        return f"\x1b[{_COLOURS[sum(self.name.encode()) % len(_COLOURS)]}m{text}\x1b[0m"


def _prepare(orphaned: signal.Signals, cpus: Set[int]) -> None:
    """Called in the child before it becomes its command."""
    die_with_parent(orphaned)  # a killed supervisor leaves no orphans
    if cpus:
        os.sched_setaffinity(0, cpus)


def _own_code() -> dict[str, str]:
    """Variables with which Python finds this very code, and none of an `api` folder where the command happens to run."""
    others = os.environ.get("PYTHONPATH", "")
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": f"{_ROOT}{os.pathsep}{others}" if others else _ROOT}
