"""`python -m bench.comebacks`: many clients at once, more than can be answered in time, who come back when they are told to.

Each has one request of 32 texts and a deadline of three seconds, and tries again after `retry-after` until it is answered.
What is told: how often they asked, and how long all took, over what the service needs for so many without the crowd.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from bench import machine, saved
from bench.services import BenchFailed, running_stack

_BODY = {"input": ["a mill by the water, and some more words to read for it"] * 32}
_TIMEOUT_S = "3"
#: Between two arrivals, in seconds.
_APART_S = 0.002
_WARM, _MEASURED = 20, 40


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.comebacks", description="A crowd that does as it is told.")
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    where = machine.facts()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="millrace-bench-") as name,
            running_stack(Path(name) / "stack", engine=None) as stack,
        ):
            stack.wait_ready()
            found = asyncio.run(_measure(stack.port, arguments.clients))
    except BenchFailed as err:
        print(f"bench: {err}", file=sys.stderr)
        return 1
    path = saved.path_for(arguments.json, "comebacks-")
    saved.save({"machine": where, **found}, path)
    print(
        f"{where['date']}, {where['cpu']}, {where['cores']} cores: {found['clients']} clients, asked "
        f"{found['attempts_mean']:.1f} times on average, {found['attempts_most']} at most; all answered after "
        f"{found['took_s']:.0f} s, {found['took_s'] / found['least_s']:.2f} of what the work takes"
    )
    print(f"written to {path}", file=sys.stderr)
    return 0


async def _measure(port: int, clients: int) -> dict[str, float]:
    attempts: list[int] = []
    url = f"http://127.0.0.1:{port}/v1/embeddings"
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client:
        await asyncio.gather(*[client.post(url, json=_BODY) for _ in range(_WARM)])
        started = time.monotonic()
        await asyncio.gather(*[client.post(url, json=_BODY) for _ in range(_MEASURED)])
        least_s = (time.monotonic() - started) / _MEASURED * clients

        async def come(number: int) -> None:
            await asyncio.sleep(number * _APART_S)
            asked = 1
            while (answer := await client.post(url, json=_BODY, headers={"x-request-timeout": _TIMEOUT_S})).is_error:
                if answer.status_code not in (429, 504):
                    raise BenchFailed(f"{answer.status_code}: {answer.text[:200]}")
                await asyncio.sleep(float(answer.headers.get("retry-after", "1")))
                asked += 1
            attempts.append(asked)

        started = time.monotonic()
        await asyncio.gather(*map(come, range(clients)))
        took_s = time.monotonic() - started
    return {
        "clients": clients,
        "attempts_mean": statistics.mean(attempts),
        "attempts_most": max(attempts),
        "took_s": took_s,
        "least_s": least_s,
    }


if __name__ == "__main__":
    sys.exit(main())
