"""Whether an event loop turns, asked from another thread."""

import asyncio
import threading

from shared.loop_watch import LoopWatch
from tests.helpers.waiting import wait_until


def test_a_loop_that_stands_still_is_told_of_until_it_goes_on() -> None:
    # Given
    watch, free, ended = LoopWatch(wedged_after_s=2.0), threading.Event(), threading.Event()

    async def scene() -> None:
        turning = asyncio.create_task(watch.turn())
        await asyncio.sleep(0.1)
        free.wait(60)  # as a bug would block it
        await asyncio.to_thread(ended.wait, 60)
        turning.cancel()

    running = threading.Thread(target=asyncio.run, args=(scene(),))

    # When
    running.start()
    assert watch.trouble() == ""
    wait_until(lambda: watch.trouble() != "", what="the standstill to be noticed")

    # Then
    assert watch.trouble().startswith("its event loop has stood still for ")
    free.set()
    wait_until(lambda: watch.trouble() == "", what="the loop to be seen turning again")
    ended.set()
    running.join(10)
