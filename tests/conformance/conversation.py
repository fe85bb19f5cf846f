"""A client's process, and the conversation with it."""

import json
import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

#: Nobody listens there: a client that needs the network for itself fails here, and not first at a user's.
_NOWHERE = "http://127.0.0.1:9"
#: What a client's process sees: nothing of this machine's settings, keys and caches.
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",  # its last words are wanted
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _NOWHERE),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost"),
}


class ClientDied(Exception):
    """The client's process ended or gave no answer in time."""


class Conversation:
    """One process of one client, in its own environment."""

    def __init__(
        self,
        command: Sequence[str],
        log_file: Path,
        *,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self._log_file = log_file
        self._environment = environment or {}
        self._timeout_s = timeout_s
        self._lines: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Self:
        home = self._log_file.with_suffix("")
        home.mkdir(exist_ok=True)
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env={**_ENVIRONMENT, **self._environment, "PATH": os.environ["PATH"], "HOME": str(home)},
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def described(self) -> dict[str, Any]:
        """What the client says about itself when it has started."""
        return self._next()

    def call(self, surface: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a surface: a `result` or an `error`.

        Raises:
            ClientDied: There was neither.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"surface": surface, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ClientDied(self._last_words()) from None
        return self._next()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _next(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=self._timeout_s)
        except queue.Empty:
            raise ClientDied(f"no answer within {self._timeout_s:.0f} s") from None
        if not line:
            raise ClientDied(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        return "its process ended:\n" + "\n".join(self._log_file.read_text().splitlines()[-12:])
