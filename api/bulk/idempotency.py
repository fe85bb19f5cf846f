"""Idempotency-Key: a request that is sent again is answered again, not done again (IETF draft-ietf-httpapi-idempotency-key).

While a request is under way its key is held by a lease, so that a gateway that dies in the middle frees it soon. What was
answered is kept for a day with a fingerprint of the payload. Errors are not kept: the same request may then succeed.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import orjson
from pydantic import Field
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from api.access.caller import caller_of
from shared import keys
from shared.bulk.jobs import Record
from shared.errors import IdempotencyKeyInUse, IdempotencyKeyReused, InvalidRequest

HEADER = "idempotency-key"
REPLAYED_HEADER = "idempotency-replayed"
#: How long an answer is kept, in seconds.
KEPT_S = 86_400
#: How long a gateway may be silent before its request counts as dead, and how often it speaks, in seconds.
_LEASE_S, _RENEW_S = 30, 10
#: Longest key; it becomes part of a Redis key.
_MOST_CHARACTERS = 255
#: Headers that are part of an answer.
_KEPT_HEADERS = ("location",)


class _Kept(Record):
    """What stands under a key."""

    #: Who is at it; empty when it was answered.
    holder: str = ""
    fingerprint: str = ""
    status: int = 0
    body: str = ""
    headers: dict[str, str] = Field(default_factory=dict)


class Attempt:
    """One sending of a request."""

    def __init__(self, redis: Redis, name: str | None, earlier: _Kept | None) -> None:
        self._redis = redis
        self._name = name
        self._earlier = earlier

    @property
    def is_repetition(self) -> bool:
        """Whether the key was answered before: nothing is to be done again, only the payload to be compared."""
        return self._earlier is not None

    def replay(self, fingerprint: str) -> Response:
        """The answer of a repetition.

        Raises:
            IdempotencyKeyReused: That was for another payload.
        """
        earlier = self._earlier
        if earlier is None or earlier.fingerprint != fingerprint:
            raise IdempotencyKeyReused
        headers = {**earlier.headers, REPLAYED_HEADER: "true"}
        return Response(earlier.body, status_code=earlier.status, headers=headers, media_type="application/json")

    async def keep(self, fingerprint: str, response: Response) -> Response:
        """Keep the answer of a first sending; returns it."""
        if self._name is not None:
            headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
            kept = _Kept(
                fingerprint=fingerprint,
                status=response.status_code,
                body=bytes(response.body).decode(),
                headers=headers,
            )
            await self._redis.set(self._name, kept.model_dump_json(), ex=KEPT_S)
        return response


class Idempotency:
    """The keys of all routes."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @asynccontextmanager
    async def attempt(self, request: Request, route: str) -> AsyncIterator[Attempt]:
        """Hold the request's key, if it has one, until the block ends.

        Args:
            request: To be answered.
            route: What the key is for: the same key on another route, or another tenant's, is another key.

        Raises:
            InvalidRequest: The key is empty or too long.
            IdempotencyKeyInUse: The same request is still under way.
        """
        key = request.headers.get(HEADER)
        if key is None:
            yield Attempt(self._redis, None, None)
            return
        if not 0 < len(key) <= _MOST_CHARACTERS:
            raise InvalidRequest(f"the header {HEADER} must have 1 to {_MOST_CHARACTERS} characters")
        name, holder = keys.idempotency(route, key, caller_of(request).tenant), uuid4().hex
        earlier = await self._begin(name, holder)
        if earlier is not None:
            yield Attempt(self._redis, name, earlier)
            return
        ended = asyncio.Event()
        renewal = asyncio.create_task(self._renew(name, ended))
        try:
            yield Attempt(self._redis, name, None)
        finally:
            ended.set()
            await renewal
            # What was answered has taken its place; what was not is free to be tried again.
            if (kept := await self._kept(name)) is not None and kept.holder == holder:
                await self._redis.delete(name)

    async def once(
        self, request: Request, route: str, payload: Any, respond: Callable[[], Awaitable[Response]]
    ) -> Response:
        """Answer a request whose payload is known.

        Args:
            request: To be answered.
            route: What the key is for.
            payload: JSON; the order of its fields does not matter.
            respond: Does it.
        """
        fingerprint = fingerprint_of(payload)
        async with self.attempt(request, route) as attempt:
            if attempt.is_repetition:
                return attempt.replay(fingerprint)
            return await attempt.keep(fingerprint, await respond())

    async def _begin(self, name: str, holder: str) -> _Kept | None:
        """What was answered before; None when the key is now the holder's."""
        while True:
            if await self._redis.set(name, _Kept(holder=holder).model_dump_json(), nx=True, ex=_LEASE_S):
                return None
            kept = await self._kept(name)
            if kept is not None and kept.holder:
                raise IdempotencyKeyInUse(retry_after_s=1)
            if kept is not None:
                return kept

    async def _kept(self, name: str) -> _Kept | None:
        found = await self._redis.get(name)
        return None if found is None else _Kept.model_validate_json(found)

    async def _renew(self, name: str, ended: asyncio.Event) -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _RENEW_S)
            with suppress(RedisError, OSError):
                # An answer, which is kept for longer, keeps its time.
                await self._redis.expire(name, _LEASE_S, gt=True)


def fingerprint_of(payload: Any) -> str:
    """What tells one payload from another."""
    return hashlib.sha256(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)).hexdigest()
