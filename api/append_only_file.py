"""Redis' append-only file, after its disk was full.

What a full disk cuts off in the middle of a write, Redis and Valkey take back, and write again when there is room. In a file
that they opened after they had rewritten the one before they then go on behind what they took back, and leave zeros there.
They notice nothing until their next start, which ends at the zeros: "Bad file format". Rewritten from memory, the file is
whole again.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from shared.logging import get_logger

log = get_logger("millrace.redis")

#: Between two looks, in seconds.
_EVERY_S = 0.5
#: Before it is asked again for a rewrite that has come to nothing, in seconds.
_ASK_EVERY_S = 5.0


class AppendOnlyFile:
    """Has the file rewritten when its disk was full and no longer is.

    Any number of processes may look after one file. Redis counts its rewrites, so each of them sees when another one's has
    made the file whole, and only one that began after the last write that failed does.

    Args:
        redis: Whose file it is. One that has none, or does not tell this user, is left alone.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        #: How many rewrites there had been when a write was last seen to fail; None while the file is whole.
        self._rewrites_before: int | None = None
        self._has_asked = False
        self._may_ask_at = 0.0

    async def watch(self) -> None:
        """Look after it until cancelled."""
        while True:
            try:
                await self._look(await self._redis.info("persistence"))
            except NoPermissionError as err:
                if self._rewrites_before is not None:
                    log.warning("append_only_file_not_rewritten", error=str(err))
                self._rewrites_before = None
            except (RedisError, OSError) as err:
                log.debug("append_only_file_not_seen", error=str(err))
            await asyncio.sleep(_EVERY_S)

    async def _look(self, about: Mapping[str, Any]) -> None:
        rewrites = about.get("aof_rewrites")
        if rewrites is None:
            return  # before Redis 7, which never leaves zeros
        if about.get("aof_last_write_status", "ok") != "ok":
            self._rewrites_before, self._has_asked = rewrites, False
        elif self._rewrites_before is None or about["aof_rewrite_in_progress"]:
            return
        elif rewrites != self._rewrites_before and about["aof_last_bgrewrite_status"] == "ok":
            if self._has_asked:
                log.warning("append_only_file_rewritten", reason="its disk was full")
            self._rewrites_before, self._has_asked = None, False
        elif time.monotonic() >= self._may_ask_at:
            self._may_ask_at = time.monotonic() + _ASK_EVERY_S
            await self._redis.bgrewriteaof()
            self._has_asked = True
