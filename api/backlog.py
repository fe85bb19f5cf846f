"""The backlog: what waits for each model's workers, in this process and, as of about a second ago, in all others."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import orjson

from shared.queues import Lane

#: What a process has said is believed for so long, in seconds of the server's clock.
TTL_S = 5.0


class Backlog:
    """Tokens that are promised an answer, by model and lane."""

    def __init__(self, process_id: str) -> None:
        self._process_id = process_id
        self._tokens: Counter[tuple[str, Lane]] = Counter()
        #: Inputs that wait here, by model; a live view.
        self.items: Counter[str] = Counter()
        self._elsewhere: Mapping[tuple[str, Lane], float] = {}

    def add(self, model: str, lane: Lane, *, items: int, tokens: int) -> None:
        """Count a request that begins to wait, or with negative numbers one that has ended."""
        self._tokens[model, lane] += tokens
        self.items[model] += items

    def ahead(self, model: str, lane: Lane) -> float:
        """Tokens that go before a new request: interactive work before all, bulk work before bulk work only."""
        lanes = [Lane.INTERACTIVE] if lane is Lane.INTERACTIVE else list(Lane)
        return sum(self._tokens[model, each] + self._elsewhere.get((model, each), 0) for each in lanes)

    # How processes tell each other: a field of one hash each, see `shared.keys`.

    def mine(self, server_now_s: float) -> tuple[str, bytes]:
        """This process's field and its value.

        Args:
            server_now_s: The server's clock, in seconds.
        """
        tokens = [[model, str(lane), count] for (model, lane), count in self._tokens.items() if count > 0]
        return self._process_id, orjson.dumps({"at": server_now_s, "tokens": tokens})

    def hear(self, said: Mapping[bytes, bytes], server_now_s: float) -> list[str]:
        """Take in what all processes said.

        Returns:
            Fields of processes that have been silent for too long.
        """
        elsewhere: dict[tuple[str, Lane], float] = defaultdict(float)
        silent: list[str] = []
        for field, value in said.items():
            process_id = field.decode()
            entry: dict[str, Any] = orjson.loads(value)
            if server_now_s - entry["at"] > TTL_S:
                silent.append(process_id)
            elif process_id != self._process_id:
                for model, lane, count in entry["tokens"]:
                    elsewhere[model, Lane(lane)] += count
        self._elsewhere = elsewhere
        return silent
