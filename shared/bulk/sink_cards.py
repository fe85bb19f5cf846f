"""What callback workers say about the operator's sinks, so that a job that could write nothing is refused at once."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from redis.asyncio import Redis

from shared import keys
from shared.errors import InvalidRequest
from shared.results import Precision

#: How long the cards outlive their last renewal, and how often they are renewed, in seconds.
TTL_S = 60
RENEW_S = 20.0


class SinkCard(BaseModel):
    """One sink as the callback workers can use it; a field that a newer version added is ignored by an older one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    #: Options that callers may set, and those of them that they have to. Their values are texts.
    options: list[str] = []
    needs: list[str] = []
    #: Whether it takes vectors of bits (`binary`, `ubinary`); it takes numbers in any case.
    takes_bits: bool = True
    #: Why nothing can be written to it, whatever callers say; empty where something can.
    fault: str = ""

    def refuse(self, given: Mapping[str, Any], precision: Precision) -> None:
        """Refuse what the sink would refuse later.

        Args:
            given: The caller's options of the sink.
            precision: Of the vectors.

        Raises:
            InvalidRequest: It cannot be used at all, or not with these options and vectors.
        """
        if self.fault:
            raise InvalidRequest(f"sink {self.name}: {self.fault}", param="sink")
        if precision in (Precision.BINARY, Precision.UBINARY) and not self.takes_bits:
            raise InvalidRequest(
                f"sink {self.name} takes numbers, and precision {precision} has none", param="precision"
            )
        for name, value in given.items():
            if name not in self.options:
                raise unknown_option(self.name, name, self.options)
            if not isinstance(value, str) or not value:
                raise InvalidRequest(
                    f"sink {self.name}: its option `{name[:40]}` must be a text that is not empty", param="sink_options"
                )
        for name in self.needs:
            if name not in given:
                raise InvalidRequest(
                    f"sink {self.name}: it needs the option `{name}`; send it in `sink_options`", param="sink_options"
                )


def unknown_option(sink: str, name: str, options: Iterable[str]) -> InvalidRequest:
    """What is said of an option that callers may not set, with those that they may."""
    open_to_callers = ", ".join(sorted(options)) or "none"
    return InvalidRequest(
        f"sink {sink} takes no option {name[:40]!r} from callers; it takes {open_to_callers}", param="sink_options"
    )


async def publish(redis: Redis, cards: Iterable[SinkCard]) -> None:
    """Say what there is; callback workers all have the same sinks, so the last one to speak is believed."""
    fields: dict[Any, Any] = {card.name: card.model_dump_json() for card in cards}
    async with redis.pipeline(transaction=True) as pipe:
        pipe.delete(keys.SINKS)
        if fields:
            pipe.hset(keys.SINKS, mapping=fields)
            pipe.expire(keys.SINKS, TTL_S)
        await pipe.execute()


async def find(redis: Redis, name: str) -> SinkCard | None:
    """A sink's card; None while no callback worker has said anything about it."""
    found = await redis.hget(keys.SINKS, name)
    return None if found is None else SinkCard.model_validate_json(found)
