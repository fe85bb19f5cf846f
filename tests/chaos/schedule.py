"""What goes wrong when: a random schedule of faults that its seed repeats."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from shared.leases import GRACE_S, LEASE_TTL_S


class Kind(StrEnum):
    """Faults, by the words of the report."""

    KILL_GATEWAY = "gateway killed"
    KILL_WORKER = "worker killed"
    KILL_ENGINE = "engine killed"
    KILL_RUNNER = "job runner killed"
    KILL_CALLBACKS = "callback worker killed"
    STOP_GATEWAY = "gateway stopped"
    STOP_WORKER = "worker stopped"
    STOP_WORKER_LONG = "worker stopped beyond its lease"
    STOP_ENGINE = "engine stopped"
    STOP_RUNNER = "job runner stopped"
    STOP_CALLBACKS = "callback worker stopped"
    REDIS_RESTARTED = "Redis restarted"
    REDIS_KILLED = "Redis killed"
    CUT = "connections cut"
    SILENT = "connections silent"
    HALF_OPEN = "connections half-open"
    DISK_FULL = "disk full"
    DISK_FULL_KILLED = "disk full, Redis killed"


@dataclass(frozen=True, slots=True)
class _Nature:
    #: What it happens to; two faults of one target are apart.
    target: str
    #: How long it may last, in seconds. A killed part is started again by its supervisor at once.
    lasts_s: tuple[float, float]
    #: How long its target is spared afterwards, in seconds: what is still starting cannot be killed as a part that works.
    rest_s: float


_LEASE_S = LEASE_TTL_S + GRACE_S
NATURES: Mapping[Kind, _Nature] = {
    Kind.KILL_GATEWAY: _Nature("gateway", (0, 0), 6),
    Kind.KILL_WORKER: _Nature("worker", (0, 0), 12),
    Kind.KILL_ENGINE: _Nature("worker", (0, 0), 10),
    Kind.KILL_RUNNER: _Nature("runner", (0, 0), 6),
    Kind.KILL_CALLBACKS: _Nature("callbacks", (0, 0), 6),
    Kind.STOP_GATEWAY: _Nature("gateway", (1, 4), 3),
    Kind.STOP_WORKER: _Nature("worker", (0.5, LEASE_TTL_S - 0.5), 3),
    Kind.STOP_WORKER_LONG: _Nature("worker", (_LEASE_S + 1, _LEASE_S + 4), 4),
    Kind.STOP_ENGINE: _Nature("worker", (1, 6), 3),
    Kind.STOP_RUNNER: _Nature("runner", (1, 8), 3),
    Kind.STOP_CALLBACKS: _Nature("callbacks", (1, 8), 3),
    Kind.REDIS_RESTARTED: _Nature("redis", (0.3, 3), 5),
    Kind.REDIS_KILLED: _Nature("redis", (0.3, 3), 5),
    Kind.CUT: _Nature("redis", (1, 4), 5),
    Kind.SILENT: _Nature("redis", (2, 7), 5),
    Kind.HALF_OPEN: _Nature("redis", (0, 0), 12),
    Kind.DISK_FULL: _Nature("redis", (2, 6), 5),
    Kind.DISK_FULL_KILLED: _Nature("redis", (2, 4), 5),
}

#: Between two faults, in seconds.
_GAP_S = (2.5, 8.5)
#: At the start nothing goes wrong, and at the end everything comes back, in seconds.
_QUIET_BEFORE_S, _QUIET_AFTER_S = 4.0, 18.0


@dataclass(frozen=True, slots=True)
class Event:
    """One fault."""

    kind: Kind
    #: Seconds after the start.
    at_s: float
    #: Until it is undone, in seconds.
    lasts_s: float


def make_schedule(seed: int, seconds: float) -> list[Event]:
    """The faults of a run, in the order of their beginnings.

    All kinds come once, shuffled, before any comes again. Faults of different targets may fall together.

    Args:
        seed: The same seed makes the same schedule.
        seconds: Length of the run.
    """
    dice = random.Random(seed)
    free_at = {nature.target: 0.0 for nature in NATURES.values()}
    bag: list[Kind] = []
    events: list[Event] = []
    clock = _QUIET_BEFORE_S
    while clock < seconds - _QUIET_AFTER_S:
        if not bag:
            bag = list(Kind)
            dice.shuffle(bag)
        # The first whose target has recovered; where none has, the one that is ready soonest.
        kind = min(bag, key=lambda kind: max(0.0, free_at[NATURES[kind].target] - clock))
        bag.remove(kind)
        nature = NATURES[kind]
        event = Event(kind, max(clock, free_at[nature.target]), dice.uniform(*nature.lasts_s))
        if event.at_s + event.lasts_s > seconds - _QUIET_AFTER_S:
            break
        events.append(event)
        free_at[nature.target] = event.at_s + event.lasts_s + nature.rest_s
        clock = event.at_s + dice.uniform(*_GAP_S)
    return events
