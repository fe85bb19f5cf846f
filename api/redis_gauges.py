"""What Redis knows and Prometheus asks for: lengths of queues, its own memory, whether it can write to its disk."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from api.queue_lengths import ask_lengths
from shared import keys
from shared.logging import get_logger
from shared.metrics import Metrics

log = get_logger("millrace.metrics")

#: How long it is waited for, in seconds: whoever asks for metrics wants those that there are.
_PATIENCE_S = 2.0
#: What only Redis knows. Not a number until it has been asked.
ASKED_OF_REDIS = (
    "millrace_stored_bytes",
    "millrace_redis_used_bytes",
    "millrace_redis_limit_bytes",
    "millrace_redis_evicted_keys",
    "millrace_redis_persisting",
)


async def measure_redis(redis: Redis, metrics: Metrics, models: Sequence[str]) -> Mapping[str, int] | None:
    """Set the gauges, in one round trip. While Redis is away the last values stand; `millrace_redis_reachable` says so.

    Returns:
        Tasks that wait, of both lanes, by model; None while Redis is away.
    """
    queued: Counter[str] = Counter()
    try:
        async with asyncio.timeout(_PATIENCE_S), redis.pipeline(transaction=False) as pipe:
            lanes = ask_lengths(pipe, models)
            for model in models:
                pipe.exists(keys.awake(model))
            pipe.get(keys.STORED_BYTES)
            pipe.info()
            # A user that may not ask for INFO loses its gauges, not the lengths.
            *answers, stored_bytes, about = await pipe.execute(raise_on_error=False)
    except (RedisError, OSError, TimeoutError):
        return None
    lengths, awake = answers[: len(lanes)], answers[len(lanes) :]
    for (model, lane), length in zip(lanes, lengths, strict=True):
        if not isinstance(length, ResponseError):
            metrics.gauge("millrace_queue_length", model=model, lane=str(lane)).set(length)
            queued[model] += length
    for model, is_awake in zip(models, awake, strict=True):
        if not isinstance(is_awake, ResponseError):
            metrics.gauge("millrace_model_awake", model=model).set(is_awake)
    if not isinstance(stored_bytes, ResponseError):
        metrics.gauge("millrace_stored_bytes").set(int(stored_bytes or 0))
    if isinstance(about, ResponseError):
        log.debug("redis_not_measured", error=str(about))
    else:
        _show_server(metrics, about)
    return queued


def _show_server(metrics: Metrics, about: Mapping[str, Any]) -> None:
    """What INFO says; a server that leaves a field out has its gauge at 0."""
    metrics.gauge("millrace_redis_used_bytes").set(about.get("used_memory", 0))
    limit = about.get("maxmemory", 0) or about.get("total_system_memory", 0)
    metrics.gauge("millrace_redis_limit_bytes").set(limit)
    metrics.gauge("millrace_redis_evicted_keys").set(about.get("evicted_keys", 0))
    writes = (about.get(f"{kind}_status", "ok") for kind in ("aof_last_write", "aof_last_bgrewrite", "rdb_last_bgsave"))
    metrics.gauge("millrace_redis_persisting").set(all(status == "ok" for status in writes))
