"""The registry of webhook endpoints."""

import secrets
import time
from collections.abc import Callable, Collection
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import WatchError

from shared import keys
from shared.addresses import AllowedHosts
from shared.bulk import signing
from shared.bulk.events import EventType
from shared.bulk.jobs import WebhookEndpoint
from shared.bulk.table import page
from shared.bulk.webhook_urls import checked_url
from shared.errors import InvalidRequest, NotStored

#: How long a replaced secret goes on signing where that is asked for, in seconds.
OLD_SECRET_S = 86_400.0
#: So many of them at most, the newest: an event has a signature by each.
_MOST_OLD_SECRETS = 4


class WebhookRegistry:
    """Webhook endpoints by id.

    Args:
        redis: Where they are kept.
        allowed: Hosts that may be internal, and be reached by plain http.
    """

    def __init__(self, redis: Redis, allowed: AllowedHosts) -> None:
        self._redis = redis
        self._allowed = allowed

    def new(
        self,
        url: str,
        *,
        secret: str | None = None,
        events: Collection[str] = (),
        name: str | None = None,
        inline: bool = False,
        tenant: str | None = None,
    ) -> WebhookEndpoint:
        """A fresh endpoint, which is not kept yet.

        Args:
            url: Where events are sent.
            secret: What they are signed with, `whsec_...`; a fresh one when None.
            events: Types of events that it gets; all those of the jobs that name it when empty.
            name: For people.
            inline: Whether it belongs to one job, which takes it along when it is deleted.
            tenant: Whose it is; None where no keys are asked for.

        Raises:
            InvalidRequest: URL, secret or a type of event is not valid.
        """
        now = time.time()
        return WebhookEndpoint(
            id=f"we_{secrets.token_hex(12)}",
            url=checked_url(url, self._allowed),
            secrets=[(signing.new_secret() if secret is None else signing.check_secret(secret), None)],
            events=checked_events(events),
            name=name,
            created_at=now,
            updated_at=now,
            inline=inline,
            tenant=tenant,
        )

    async def keep(self, endpoint: WebhookEndpoint) -> None:
        """Keep a fresh endpoint."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.webhook(endpoint.id), endpoint.model_dump_json())
            if not endpoint.inline:
                for index in _indexes(endpoint):
                    pipe.zadd(index, {endpoint.id: endpoint.created_at})
            await pipe.execute()

    async def find(self, endpoint_id: str) -> WebhookEndpoint | None:
        """An endpoint, or None."""
        found = await self._redis.get(keys.webhook(endpoint_id))
        return None if found is None else WebhookEndpoint.model_validate_json(found)

    async def get(self, endpoint_id: str, *, tenant: str | None = None) -> WebhookEndpoint:
        """An endpoint.

        Args:
            endpoint_id: Of the endpoint.
            tenant: Whose it has to be; None for anybody's.

        Raises:
            NotStored: There is no such endpoint.
        """
        endpoint = await self.find(endpoint_id)
        if endpoint is None or tenant not in (None, endpoint.tenant):
            raise NotStored(f"no webhook endpoint {endpoint_id[:80]!r} is here")
        return endpoint

    async def listed(self, *, after: str | None, limit: int, tenant: str | None = None) -> list[WebhookEndpoint]:
        """Some endpoints, the newest first, without those of single jobs.

        Args:
            after: The endpoint before the first one wanted.
            limit: How many at most.
            tenant: Whose; None for anybody's.

        Raises:
            NotStored: `after` is not there.
        """
        ids = await page(self._redis, keys.owned(keys.WEBHOOKS, tenant), after=after, limit=limit)
        values = await self._redis.mget([keys.webhook(endpoint_id) for endpoint_id in ids]) if ids else []
        return [WebhookEndpoint.model_validate_json(value) for value in values if value is not None]

    async def subscribed(self, kind: EventType, *, tenant: str | None) -> list[WebhookEndpoint]:
        """Endpoints that get a type of event from every job of their tenant: those that ask for it by name.

        Args:
            kind: The type.
            tenant: Whose job it is; None for a job from when no keys were asked for, and endpoints of that time.
        """
        ids = cast("list[bytes]", await self._redis.zrange(keys.owned(keys.WEBHOOKS, tenant), 0, -1))
        values = await self._redis.mget([keys.webhook(endpoint_id.decode()) for endpoint_id in ids]) if ids else []
        endpoints = [WebhookEndpoint.model_validate_json(value) for value in values if value is not None]
        return [one for one in endpoints if one.tenant == tenant and kind in one.events and not one.disabled]

    async def update(
        self,
        endpoint_id: str,
        *,
        url: str | None = None,
        events: Collection[str] | None = None,
        name: str | None = None,
    ) -> WebhookEndpoint:
        """Change what is not None; an endpoint that was disabled gets events again.

        Raises:
            NotStored: There is no such endpoint.
            InvalidRequest: URL or a type of event is not valid.
        """
        changes: dict[str, object] = {"disabled": ""}
        if url is not None:
            changes["url"] = checked_url(url, self._allowed)
        if events is not None:
            changes["events"] = checked_events(events)
        if name is not None:
            changes["name"] = name
        return await self._change(endpoint_id, lambda endpoint: endpoint.model_copy(update=changes))

    async def rotate_secret(self, endpoint_id: str, *, keep_old: bool) -> WebhookEndpoint:
        """Give an endpoint a fresh secret.

        Args:
            endpoint_id: The endpoint.
            keep_old: Whether the current one goes on signing beside it for a day, with the last few before it.

        Raises:
            NotStored: There is no such endpoint.
        """
        ends_at = time.time() + OLD_SECRET_S
        fresh = signing.new_secret()

        def rotated(endpoint: WebhookEndpoint) -> WebhookEndpoint:
            kept = [(old, ends_at if ends is None else ends) for old, ends in endpoint.secrets] if keep_old else []
            return endpoint.model_copy(update={"secrets": [(fresh, None), *_in_force(kept)[:_MOST_OLD_SECRETS]]})

        return await self._change(endpoint_id, rotated)

    async def disable(self, endpoint_id: str, reason: str) -> None:
        """Send an endpoint nothing any more."""
        try:
            await self._change(endpoint_id, lambda endpoint: endpoint.model_copy(update={"disabled": reason}))
        except NotStored:
            return  # deleted in the meantime

    async def enable(self, endpoint_id: str) -> None:
        """Send an endpoint its events again, if it is there."""
        await self.disable(endpoint_id, "")

    async def delete(self, endpoint: WebhookEndpoint) -> None:
        """Forget an endpoint.

        Raises:
            NotStored: It is gone already.
        """
        endpoint_id = endpoint.id
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.webhook(endpoint_id))
            for index in _indexes(endpoint):
                pipe.zrem(index, endpoint_id)
            deleted, *_ = await pipe.execute()
        if not deleted:
            raise NotStored(f"no webhook endpoint {endpoint_id[:80]!r} is here")

    async def _change(self, endpoint_id: str, change: Callable[[WebhookEndpoint], WebhookEndpoint]) -> WebhookEndpoint:
        """Replace a record by its change, which starts over when somebody else was faster."""
        key = keys.webhook(endpoint_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            while True:
                await pipe.watch(key)
                found = await pipe.get(key)
                if found is None:
                    raise NotStored(f"no webhook endpoint {endpoint_id[:80]!r} is here")
                before = WebhookEndpoint.model_validate_json(found)
                after = change(before)
                if after == before:
                    return before
                after = after.model_copy(update={"updated_at": time.time()})
                pipe.multi()  # type: ignore[no-untyped-call]  # redis-py
                pipe.set(key, after.model_dump_json())
                try:
                    await pipe.execute()
                except WatchError:
                    continue
                return after


def _indexes(endpoint: WebhookEndpoint) -> set[str]:
    """Where an endpoint is listed."""
    return {keys.owned(keys.WEBHOOKS, tenant) for tenant in (None, endpoint.tenant)}


def signing_secrets(endpoint: WebhookEndpoint) -> list[str]:
    """The secrets that are in force, the current one first."""
    return [secret for secret, _ in _in_force(endpoint.secrets)]


def why_stopped(endpoint_id: str, disabled: str) -> str:
    """What a job says whose endpoint is disabled."""
    return f"webhook endpoint {endpoint_id} is disabled: {disabled}"


def _in_force(listed: Collection[tuple[str, float | None]]) -> list[tuple[str, float | None]]:
    now = time.time()
    return [(secret, ends_at) for secret, ends_at in listed if ends_at is None or ends_at > now]


def checked_events(events: Collection[str]) -> list[str]:
    """Types of events without repetitions.

    Raises:
        InvalidRequest: There is no such type.
    """
    return list(dict.fromkeys(str(checked_event(event, param="event_types")) for event in events))


def checked_event(name: str, *, param: str) -> EventType:
    """A type of events by its name.

    Args:
        name: As a caller says it.
        param: The field that says it.

    Raises:
        InvalidRequest: There is no such type.
    """
    if name not in list(EventType):
        raise InvalidRequest(f"there is no event type {name[:40]!r}; there are: {', '.join(EventType)}", param=param)
    return EventType(name)
