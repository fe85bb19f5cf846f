"""What a run measures: the parts, the loads of each, and how long each load lasts."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """A part of the benchmark; the values are the words of `--only`."""

    FORWARD = "a"  # the bare model
    SERVICE = "b"  # the service over HTTP
    QUEUE = "c"  # the queue path with a null engine
    ECHO = "d"  # FastAPI that only echoes
    LATENCY = "latency"  # what the service adds when idle, and at half its capacity


@dataclass(frozen=True, slots=True)
class HttpLoad:
    """A closed-loop load."""

    concurrency: int
    texts_per_request: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run."""

    parts: frozenset[Part]
    rounds: int
    http_loads: Sequence[HttpLoad]
    #: How long a load lasts in one round, in seconds.
    http_s: float
    queue_s: float
    echo_s: float
    open_loop_s: float
    #: Blocks of requests, alternating between the service and the bare forward, in one round of the idle latency.
    idle_blocks: int


REFERENCE_BATCH_SIZES = (16, 32, 64, 128)
QUEUE_CONCURRENCIES = (1, 64, 256)
#: Coalescing window of each variant: the gateway's default, and off.
QUEUE_WINDOWS = (4, 0)
IDLE_BLOCK_REQUESTS = 20
#: Part of the measured single-text capacity that the open-loop load offers.
OPEN_LOOP_SHARE = 0.5

_HTTP_LOADS = tuple(HttpLoad(concurrency, texts) for texts in (1, 32) for concurrency in (1, 16, 64, 256))


def full_plan(parts: frozenset[Part]) -> Plan:
    """The default: some eight minutes on two cores."""
    return Plan(
        parts=parts,
        rounds=3,
        http_loads=_HTTP_LOADS,
        http_s=6.0,
        queue_s=1.5,
        echo_s=0.8,
        open_loop_s=5.0,
        idle_blocks=4,
    )


def quick_plan(parts: frozenset[Part]) -> Plan:
    """One short round, without the load of 256 x 32 texts, whose backlog takes a CPU longer than all others."""
    return Plan(
        parts=parts,
        rounds=1,
        http_loads=tuple(load for load in _HTTP_LOADS if load != HttpLoad(256, 32)),
        http_s=1.5,
        queue_s=0.8,
        echo_s=0.5,
        open_loop_s=3.0,
        idle_blocks=3,
    )
