"""More idle connections than a process usually may have descriptors."""

import asyncio
import resource
from pathlib import Path

from tests.helpers.gateway_process import gateway_process

SOFT, HARD = 256, 4096
IDLE = 600


def test_idle_connections_beyond_the_usual_limit_shut_nobody_out(redis_url: str, tmp_path: Path) -> None:
    # Given a gateway whose process was started with a low limit that it may raise
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, HARD))

    with gateway_process(redis_url, tmp_path, {}, preexec=limit) as gateway:

        async def crowd() -> bool:
            writers = [(await asyncio.open_connection("127.0.0.1", gateway.port))[1] for _ in range(IDLE)]
            # When somebody else asks
            answered = await asyncio.to_thread(gateway.answers)
            for writer in writers:
                writer.transport.abort()
            return answered

        # Then
        assert asyncio.run(crowd())
