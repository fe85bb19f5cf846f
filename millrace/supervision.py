"""Keeping parts alive and well until they are told to stop."""

import asyncio
import os
import signal
import time

import httpx

from millrace.processes import Part
from shared.logging import get_logger
from shared.operations import PROCESS_HEADER

log = get_logger("millrace.supervisor")

#: How much longer than its drain time a part may take to end, in seconds.
STOP_SLACK_S = 5.0
#: How often a part is asked whether it is well, and how long it may take to say so, in seconds.
_ASK_EVERY_S, _ASK_TIMEOUT_S = 1.0, 5.0


class CannotServe(Exception):
    """The service cannot start; one sentence for the operator."""


class Supervision:
    """Watches over parts."""

    def __init__(self, *, wedged_after_s: float, start_timeout_s: float) -> None:
        """Watch over nothing yet.

        Args:
            wedged_after_s: How long a part that has said that it is well may be silent.
            start_timeout_s: How long one may be that has just been started.
        """
        self._wedged_after_s = wedged_after_s
        self._start_timeout_s = start_timeout_s
        self._parts: list[Part] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._failure: str | None = None
        #: Set when everything is to end.
        self.stopping = asyncio.Event()

    def stop_on_signals(self) -> None:
        """SIGINT and SIGTERM ask for the end; the second of them kills all parts."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)

    async def start(self, part: Part) -> None:
        """Start a part."""
        self._parts.append(part)
        await part.start()

    def watch(self) -> None:
        """Replace parts that die from now on, and those that say that they are wedged or nothing at all."""
        self._watchers = [asyncio.create_task(self._keep_alive(part)) for part in self._parts]
        self._watchers += [asyncio.create_task(self._keep_well(part)) for part in self._parts if part.liveness_url]

    def unwatch(self) -> None:
        """Replace nobody any more."""
        for watcher in self._watchers:
            watcher.cancel()

    def fail(self, reason: str) -> None:
        """Ask for the end, because of something that starting again would not mend."""
        self._failure = self._failure or reason
        self.stopping.set()

    def refuse_failure(self) -> None:
        """Tell how it ended.

        Raises:
            CannotServe: It had to.
        """
        if self._failure:
            raise CannotServe(self._failure)

    def _on_signal(self) -> None:
        if self.stopping.is_set():
            log.warning("killed_on_second_signal")
            for part in self._parts:
                part.kill()
        self.stopping.set()

    async def _keep_alive(self, part: Part) -> None:
        while True:
            status = await part.wait()
            if self.stopping.is_set():
                return
            # It would fail again in the same way; unless it has been well before, and its device has failed since.
            if status == os.EX_CONFIG and not part.was_well:
                self.fail(f"{part.name} cannot start; its last line above says why")
                return
            log.warning("part_died", part=part.name, status=status)
            await part.restart()

    async def _keep_well(self, part: Part) -> None:
        """Kill a part that says that it is wedged, or has said nothing for as long as that takes; it is then restarted."""
        async with httpx.AsyncClient(trust_env=False, timeout=_ASK_TIMEOUT_S) as client:
            pid, heard_at, patience_s = None, 0.0, 0.0
            while True:
                await asyncio.sleep(_ASK_EVERY_S)
                asked = part.pid
                reason = await _trouble(client, part.liveness_url, asked)
                now = time.monotonic()
                if asked is None or asked != part.pid:
                    continue  # it has just died
                if pid != asked:
                    pid, heard_at, patience_s = asked, now, self._start_timeout_s
                if reason == "":
                    part.was_well = True
                    heard_at, patience_s = now, self._wedged_after_s
                if reason or now - heard_at > patience_s:
                    log.error("part_wedged", part=part.name, reason=reason or f"no answer for {now - heard_at:.0f} s")
                    part.kill()
                    pid = None


async def _trouble(client: httpx.AsyncClient, url: str, pid: int | None) -> str | None:
    """What a part says is wrong with it; empty for nothing, None if it says nothing."""
    try:
        answer = await client.get(url)
    except httpx.HTTPError:
        return None
    if answer.headers.get(PROCESS_HEADER) != str(pid):
        return None  # somebody else has its port, and other troubles
    return "" if answer.status_code == 200 else answer.text.strip()
