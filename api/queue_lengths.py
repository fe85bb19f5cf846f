"""How many tasks wait in the Redis lists of the models."""

from collections.abc import Iterable, Mapping

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from shared.model_config import ModelConfig
from shared.queues import Lane, queue_name


def ask_lengths(pipe: Pipeline, models: Iterable[str]) -> list[tuple[str, Lane]]:
    """Add the questions to a pipeline; the models and lanes that they are about, in order."""
    lanes = [(model, lane) for model in models for lane in Lane]
    for model, lane in lanes:
        pipe.llen(queue_name(model, lane))
    return lanes


async def queue_lengths(redis: Redis, models: Iterable[ModelConfig]) -> Mapping[tuple[str, Lane], int] | None:
    """Tasks by model and lane; None while Redis cannot be reached."""
    try:
        async with redis.pipeline(transaction=False) as pipe:
            lanes = ask_lengths(pipe, [config.name for config in models])
            return dict(zip(lanes, await pipe.execute(), strict=True))
    except (RedisError, OSError):
        return None
