"""More idle connections than a process usually may have descriptors."""

import asyncio
import resource
import subprocess
import sys
from pathlib import Path

import httpx
import psutil

from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until

SOFT, HARD = 256, 4096
IDLE = 600


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_idle_connections_beyond_the_usual_limit_shut_nobody_out(redis_url: str, tmp_path: Path) -> None:
    # Given a gateway whose process was started with a low limit that it may raise
    port = free_port()
    environment = {"MILLRACE_REDIS_URL": redis_url, "MILLRACE_PORT": str(port), "MILLRACE_STORE": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "api"],
        env={**psutil.Process().environ(), **environment},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, HARD)),
    ) as gateway:
        try:
            wait_until(lambda: _answers(port), timeout_s=30, what="the gateway")

            async def crowd() -> bool:
                writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(IDLE)]
                # When somebody else asks
                answered = await asyncio.to_thread(_answers, port)
                for writer in writers:
                    writer.transport.abort()
                return answered

            # Then
            assert asyncio.run(crowd())
        finally:
            gateway.terminate()
