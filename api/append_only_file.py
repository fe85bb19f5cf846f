"""Redis' append-only file, after its disk was full.

What a full disk cuts off in the middle of a write, Redis and Valkey take back, and write again when there is room. In a file
that they opened after they had rewritten the one before they then go on behind what they took back, and leave zeros there.
They notice nothing until their next start, which ends at the zeros: "Bad file format". Rewritten from memory, the file is
whole again.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from shared import keys
from shared.logging import get_logger

log = get_logger("millrace.redis")

#: Between two looks, in seconds.
_EVERY_S = 0.5
#: Time for a rewrite before it is looked at, and perhaps asked for again, in seconds.
_REWRITE_S = 5.0


class AppendOnlyFile:
    """Has the file rewritten when its disk was full and no longer is.

    Args:
        redis: Whose file it is. One that has none, or does not tell this user, is left alone.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._is_in_doubt = False
        self._has_asked = False

    async def watch(self) -> None:
        """Look after it until cancelled."""
        while True:
            try:
                await self._look(await self._redis.info("persistence"))
            except NoPermissionError as err:
                if self._is_in_doubt:
                    log.warning("append_only_file_not_rewritten", error=str(err))
                self._is_in_doubt = False
            except (RedisError, OSError) as err:
                log.debug("append_only_file_not_seen", error=str(err))
            await asyncio.sleep(_REWRITE_S if self._has_asked else _EVERY_S)

    async def _look(self, about: Mapping[str, Any]) -> None:
        if about.get("aof_last_write_status", "ok") != "ok":
            self._is_in_doubt, self._has_asked = True, False
        elif self._has_asked and about["aof_last_bgrewrite_status"] == "ok":
            if not about["aof_rewrite_in_progress"]:
                log.warning("append_only_file_rewritten", reason="its disk was full")
                self._is_in_doubt = self._has_asked = False
        elif self._is_in_doubt and not about["aof_rewrite_in_progress"]:
            # One process asks; it asks again if that comes to nothing.
            if self._has_asked or await self._redis.set(keys.REWRITE, 1, nx=True, px=int(2000 * _REWRITE_S)):
                await self._redis.bgrewriteaof()
                self._has_asked = True
            else:
                self._is_in_doubt = False
