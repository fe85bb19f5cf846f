"""The backlog: what waits for each model's workers, in this process and, as of about a second ago, in all others.

Requests are counted by size, in powers of two, because they take turns (`api.turns`): a small one does not wait for all of
a large one. So what is ahead of a request is of each other one no more than it costs itself, or one batch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from api.unreadable import Unreadable
from api.waits import LaneSaid, Waits, lanes_of
from shared.queues import Lane

#: What the ids of gateways and job runners begin with.
GATEWAY, RUNNER = "gw", "jr"
#: What a process has said is believed for so long, in seconds of the server's clock.
TTL_S = 5.0


@dataclass(slots=True)
class _Waiting:
    """Requests of one model, lane and size."""

    count: int = 0
    tokens: int = 0


#: By model, lane, and the number of binary digits of a request's tokens.
_Sizes = dict[tuple[str, Lane, int], _Waiting]


class Backlog:
    """Requests that are promised an answer."""

    def __init__(self, process_id: str) -> None:
        self._process_id = process_id
        self._here: _Sizes = defaultdict(_Waiting)
        self._elsewhere: _Sizes = {}
        #: Inputs that wait here, by model; a live view.
        self.items: Counter[str] = Counter()
        #: How long requests wait, here and elsewhere.
        self.waits = Waits()
        #: The processes that have said something of late, by id.
        self.processes: list[str] = []
        self._asked: set[str] = set()
        self._unreadable = Unreadable("backlog_unreadable")

    @property
    def gateways(self) -> int:
        """Gateways that have said something of late, at least this one."""
        return max(1, self._live(GATEWAY))

    @property
    def runners(self) -> int:
        """Job runners that have said something of late."""
        return self._live(RUNNER)

    def _live(self, kind: str) -> int:
        return sum(process.startswith(kind) for process in self.processes)

    def enter(self, model: str, lane: Lane, *, items: int, tokens: int) -> None:
        """Count a request that begins to wait."""
        waiting = self._here[model, lane, tokens.bit_length()]
        waiting.count += 1
        waiting.tokens += tokens
        self.items[model] += items
        self._asked.add(model)

    def leave(self, model: str, lane: Lane, *, items: int, tokens: int) -> None:
        """Count one no more, that was entered with the same numbers."""
        waiting = self._here[model, lane, tokens.bit_length()]
        waiting.count -= 1
        waiting.tokens -= tokens
        self.items[model] -= items

    def ahead(self, model: str, lane: Lane, turn: int) -> int:
        """Tokens that go before a new request.

        Args:
            model: Its model's own name.
            lane: Interactive work goes before all, bulk work before bulk work only.
            turn: Most of each other request that goes before it, in tokens.
        """
        lanes = {Lane.INTERACTIVE} if lane is Lane.INTERACTIVE else set(Lane)
        return sum(
            min(waiting.tokens, turn * waiting.count)
            for sizes in (self._here, self._elsewhere)
            for (its_model, its_lane, _), waiting in sizes.items()
            if its_model == model and its_lane in lanes
        )

    def total(self, model: str, lane: Lane) -> int:
        """Tokens that wait in a lane."""
        return sum(
            waiting.tokens
            for sizes in (self._here, self._elsewhere)
            for (its_model, its_lane, _), waiting in sizes.items()
            if its_model == model and its_lane is lane
        )

    def take_asked(self) -> set[str]:
        """Models that have had a request since the last call, or have one that waits."""
        asked = self._asked | {model for model, items in self.items.items() if items}
        self._asked = set()
        return asked

    # How processes tell each other: a field of one hash each, see `shared.keys`.

    def mine(self, server_now_s: float) -> tuple[str, bytes]:
        """This process's field and its value.

        Args:
            server_now_s: The server's clock, in seconds.
        """
        waiting = [
            [model, str(lane), size, waiting.count, waiting.tokens]
            for (model, lane, size), waiting in self._here.items()
            if waiting.count
        ]
        return self._process_id, orjson.dumps({"at": server_now_s, "waiting": waiting, "lanes": self.waits.mine()})

    def hear(self, said: Mapping[bytes, bytes], server_now_s: float) -> list[str]:
        """Take in what all processes said.

        Returns:
            Fields of processes that have been silent for too long.
        """
        self._elsewhere = defaultdict(_Waiting)
        silent: list[str] = []
        lanes: list[LaneSaid] = []
        processes: list[str] = []
        for field, value in said.items():
            process_id = field.decode(errors="replace")
            with self._unreadable.left_out(process_id):
                entry: dict[str, Any] = orjson.loads(value)
                if server_now_s - entry["at"] > TTL_S:
                    silent.append(process_id)
                    continue
                processes.append(process_id)
                if process_id != self._process_id:
                    self._add_elsewhere(entry["waiting"])
                    lanes += lanes_of(entry.get("lanes", []))  # processes of earlier versions do not say
        self._unreadable.end_of_look()
        self.waits.hear(lanes)
        self.processes = processes
        return silent

    def _add_elsewhere(self, said: Iterable[Sequence[Any]]) -> None:
        # What a later version adds to a row is not for this one, nor is a lane that it does not know.
        rows = [
            (model, Lane(lane), size, count, tokens)
            for model, lane, size, count, tokens, *_ in said
            if lane in list(Lane)
        ]
        for model, lane, size, count, tokens in rows:
            waiting = self._elsewhere[model, lane, size]
            waiting.count += count
            waiting.tokens += tokens
