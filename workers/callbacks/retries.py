"""When a callback that did not arrive is tried again."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.bulk.events import EventState
from workers.sink import DeliveryFailed, Verdict

#: What is added to a delay at random, as a part of it: what failed together is not to come back together.
_JITTER = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of an event after an attempt."""

    state: EventState
    delay_s: float = 0.0


def after_failure(failure: DeliveryFailed, failures: int, delays: Sequence[float], random: float) -> Outcome:
    """What becomes of an event whose delivery failed.

    Args:
        failure: How.
        failures: How many attempts failed before this one.
        delays: Seconds before each attempt but the first.
        random: A random number from 0 to 1.
    """
    if failure.verdict is not Verdict.RETRY or failures >= len(delays):
        return Outcome(EventState.DEAD)
    delay = delays[failures] * (1 + _JITTER * random)
    return Outcome(EventState.PENDING, max(delay, failure.retry_after_s or 0.0))
