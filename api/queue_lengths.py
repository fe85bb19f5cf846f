"""How many tasks wait in the Redis lists of the models."""

from collections.abc import Iterable, Mapping

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.model_config import ModelConfig
from shared.queues import Lane, queue_name


async def queue_lengths(redis: Redis, models: Iterable[ModelConfig]) -> Mapping[tuple[str, Lane], int] | None:
    """Tasks by model and lane; None while Redis cannot be reached."""
    lanes = [(config.name, lane) for config in models for lane in Lane]
    try:
        async with redis.pipeline(transaction=False) as pipe:
            for model, lane in lanes:
                pipe.llen(queue_name(model, lane))
            return dict(zip(lanes, await pipe.execute(), strict=True))
    except (RedisError, OSError):
        return None
