"""Whether an event loop turns, asked from another thread."""

import asyncio
import threading
import time

from shared.loop_watch import LoopWatch
from tests.helpers.waiting import wait_until


def test_a_loop_that_stands_still_is_told_of_until_it_goes_on() -> None:
    # Given
    watch, free = LoopWatch(wedged_after_s=1.5), threading.Event()

    async def scene() -> None:
        turning = asyncio.create_task(watch.turn())
        await asyncio.sleep(2.0)
        assert watch.trouble() == ""
        free.wait(20)  # as a bug would block it
        await asyncio.sleep(0)
        turning.cancel()

    running = threading.Thread(target=asyncio.run, args=(scene(),))

    # When
    running.start()
    wait_until(lambda: watch.trouble() != "", what="the standstill to be noticed")
    time.sleep(0.1)

    # Then
    assert watch.trouble().startswith("its event loop has stood still for 2 s")
    free.set()
    running.join(10)
    assert watch.trouble() == ""
