"""Writing to a Redis that may be away: again and again until it takes it, or the worker gives up."""

import threading
from collections.abc import Callable

from redis.exceptions import RedisError

from shared.redis_connections import met_with_silence

#: Pause between attempts while Redis is away, in seconds.
_RETRY_S = 0.25


def until_taken(write: Callable[[], object], give_up: threading.Event, tell: Callable[[str], object]) -> bool:
    """Write; False where it was given up.

    Args:
        write: Does it, once each time that it is called.
        give_up: Ends the attempts.
        tell: Called with the error of the first attempt, if it fails.
    """
    warned = False
    while True:
        try:
            write()
        except (RedisError, OSError) as err:
            met_with_silence(err)
            if not warned:
                tell(str(err))
                warned = True
            if give_up.wait(_RETRY_S):
                return False
        else:
            return True
