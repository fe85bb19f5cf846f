"""Looks at the operator's sinks as they are declared, and publishes what they can take."""

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.bulk import sink_cards
from shared.bulk.sending import Answer, NotSent
from shared.bulk.sink_cards import SinkCard
from shared.bulk.sinks import SinkConfig
from shared.logging import get_logger
from shared.model_config import ConfigurationError
from workers.sink import Sink, Tools

log = get_logger("millrace.callbacks")


def card(config: SinkConfig, plugins: Mapping[str, Sink], environment: Mapping[str, str]) -> SinkCard:
    """What a sink can take: found out by opening it with stand-ins for what callers choose, which connects to nothing.

    Args:
        config: As the operator declared it.
        plugins: The kinds of sinks.
        environment: Where secrets are.
    """
    plugin = plugins.get(config.kind)
    if plugin is None:
        return SinkCard(
            name=config.name, fault=f"there is no type {config.kind!r}; there are: {', '.join(sorted(plugins))}"
        )
    options = sorted(name for name in plugin.caller_options if not config.declares(name))
    try:
        declared = config.options(environment)
    except ConfigurationError as err:
        # Its sentence names the sink already.
        return SinkCard(name=config.name, fault=str(err).removeprefix(f"sink {config.name}: "))

    def fault(without: str | None = None) -> str:
        return _fault(plugin, {**{name: name for name in options if name != without}, **declared})

    whole = fault()
    return SinkCard(
        name=config.name,
        options=options,
        needs=[] if whole else [name for name in options if fault(without=name)],
        takes_bits=plugin.takes_bits,
        fault=whole,
    )


def _fault(plugin: Sink, options: Mapping[str, Any]) -> str:
    """Why a sink cannot be opened; empty when it can."""
    try:
        plugin.open(options, _TOOLS).close()
    except ConfigurationError as err:
        return str(err)
    return ""


def _post(*_: Any) -> Answer:
    raise NotSent("the sink is only looked at")


_TOOLS = Tools(_post, 0, "")


class SinkCards:
    """Keeps the cards of this worker's sinks published."""

    def __init__(self, redis: Redis, cards: Mapping[str, SinkCard]) -> None:
        """Build it.

        Args:
            redis: A client that is used on one loop only.
            cards: By the sinks' names.
        """
        self._redis = redis
        self._cards = list(cards.values())

    async def keep(self) -> None:
        """Publish them until cancelled."""
        for unusable in self._cards:
            if unusable.fault:
                log.warning("sink_refused", sink=unusable.name, reason=unusable.fault)
        reachable = True
        while True:
            try:
                await sink_cards.publish(self._redis, self._cards)
                reachable = True
            except (RedisError, OSError) as err:
                if reachable:
                    log.warning("sinks_not_published", error=str(err))
                reachable = False
            await asyncio.sleep(sink_cards.RENEW_S if reachable else 1.0)
