"""Lanes and batches: which waiting items make the next forward pass. Pure: no clock, no I/O, no torch."""

from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from shared.queues import Lane


class Waits(Protocol):
    """What the lanes need to know of an item."""

    @property
    def tokens(self) -> int:
        """Its cost in a packed batch."""
        ...

    @property
    def arrived_at(self) -> float:
        """When it joined its lane, in seconds of a monotonic clock."""
        ...


ItemT = TypeVar("ItemT", bound=Waits)

#: Smaller batches are not worth sharing out, in tokens.
MIN_SHARE_TOKENS = 32
#: Part of a batch's budget that bulk work gets once it has waited longer than its aging limit.
BULK_SHARE = 0.1
#: Seconds without interactive work after which nobody is taken to be searching.
QUIET_S = 5.0


class Lanes(Generic[ItemT]):
    """The items of one model that wait for a forward pass: first come, first served within a lane."""

    def __init__(self, *, max_batch_tokens: int, bulk_batch_tokens: int, aging_s: float) -> None:
        """Build empty lanes.

        Args:
            max_batch_tokens: Budget of one forward pass.
            bulk_batch_tokens: Budget of a batch that bulk work fills: what interactive work may have to wait for.
            aging_s: Bulk work that waited longer gets `BULK_SHARE` of each batch, whatever else waits.
        """
        self.max_batch_tokens = max_batch_tokens
        self.bulk_batch_tokens = bulk_batch_tokens
        #: The same while nobody searches.
        self.quiet_bulk_tokens = bulk_batch_tokens
        self._aging_s = aging_s
        #: When the last interactive item arrived.
        self._searched_at = float("-inf")
        #: Tokens that aged bulk work was promised and has not been given.
        self._aged_credit = 0
        self._lanes: dict[Lane, deque[ItemT]] = {lane: deque() for lane in Lane}

    def add(self, lane: Lane, items: Iterable[ItemT]) -> None:
        """Append items to a lane, in the order in which they arrived."""
        self._lanes[lane].extend(items)
        if lane is Lane.INTERACTIVE and self._lanes[lane]:
            self._searched_at = self._lanes[lane][-1].arrived_at

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def urgency(self) -> float:
        """When the most urgent item became due (smaller is more urgent); infinite when nothing waits.

        Interactive work is due when it arrives, bulk work when its aging limit ends, so that across the models of one
        device the oldest due item goes first and no model's bulk starves behind another's interactive work.
        """
        heads = [self._lanes[Lane.INTERACTIVE][0].arrived_at] if self._lanes[Lane.INTERACTIVE] else []
        if self._lanes[Lane.BULK]:
            heads.append(self._lanes[Lane.BULK][0].arrived_at + self._aging_s)
        return min(heads, default=float("inf"))

    def take(self, now: float, *, shares: int = 1) -> list[ItemT]:
        """Remove and return the next batch: interactive work if any waits, else bulk work.

        The batch is at least one item (so that one longer than the budget still runs, alone) and otherwise within
        `max_batch_tokens`. Bulk fills a batch up to `bulk_batch_tokens` only, up to `quiet_bulk_tokens` while nobody
        searches. A batch with searches in it has no bulk work but what aged: they wait for all of it.

        Args:
            now: Time on the items' clock, in seconds.
            shares: How many batches the device can begin now: waiting interactive work is shared out among them.
        """
        interactive, bulk = self._lanes[Lane.INTERACTIVE], self._lanes[Lane.BULK]
        aged = bool(bulk) and now - bulk[0].arrived_at >= self._aging_s
        # A share that is too small for the next item is saved up, so that an item of any length has its turn.
        self._aged_credit += max(1, int(self.max_batch_tokens * BULK_SHARE)) if aged else -self._aged_credit
        reserved = self._aged_credit if aged and self._aged_credit >= bulk[0].tokens else 0
        batch: list[ItemT] = []
        used = 0
        if reserved < self.max_batch_tokens:
            room = self.max_batch_tokens - reserved
            if shares > 1:
                room = min(room, max(MIN_SHARE_TOKENS, -(-sum(item.tokens for item in interactive) // shares)))
            used = _fill(batch, interactive, room)
        room = reserved if batch else max(self._bulk_limit(now), reserved)
        self._aged_credit = max(0, self._aged_credit - _fill(batch, bulk, min(room, self.max_batch_tokens - used)))
        return batch

    def _bulk_limit(self, now: float) -> int:
        """Tokens up to which bulk work may fill a batch of its own."""
        return self.quiet_bulk_tokens if now - self._searched_at >= QUIET_S else self.bulk_batch_tokens


def _fill(batch: list[ItemT], lane: deque[ItemT], room: int) -> int:
    """Move items from the front of `lane` while they fit; into an empty batch the first one always fits."""
    used = 0
    while lane and (used + lane[0].tokens <= room or not batch):
        item = lane.popleft()
        used += item.tokens
        batch.append(item)
    return used
