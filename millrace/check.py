"""`millrace check URL`: asks a deployment the questions that a user would, and prints a table."""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from millrace.keys import key_header

#: How often it is looked whether models have woken, in seconds.
_LOOKS_EVERY_S = 1.0
#: Time for an answer that comes at its deadline, in seconds.
_GRACE_S = 10.0
_TEXTS = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]


class CheckFailed(Exception):
    """An answer is not what it should be."""


@dataclass(frozen=True, slots=True)
class _Check:
    name: str
    run: Callable[[httpx.Client], str]


def check(url: str, *, timeout_s: float, api_key: str | None = None, wake_s: float = 0.0) -> int:
    """Run every check against a gateway. Models that sleep are told of and passed over, unless they are to be woken.

    Args:
        url: The gateway.
        timeout_s: For each request, in seconds.
        api_key: What it is asked with, if anything.
        wake_s: How long to wait for models that sleep, after waking them, in seconds; 0 lets them sleep.

    Returns:
        0 when all passed, 1 otherwise.
    """
    failures = 0
    headers = key_header(api_key)
    with httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout_s, trust_env=False) as client:
        checks = (_Check("wake", lambda client: _wake(client, wake_s)), *_CHECKS) if wake_s else _CHECKS
        for entry in checks:
            started = time.perf_counter()
            try:
                outcome, verdict = entry.run(client), "ok"
            except (CheckFailed, httpx.HTTPError, ValueError, KeyError, TypeError) as err:
                outcome, verdict = f"{err or type(err).__name__}", "FAILED"
                failures += 1
            print(f"{verdict:<7}{entry.name:<14}{(time.perf_counter() - started) * 1000:>8.1f} ms  {outcome}")
    print(f"{len(checks) - failures} of {len(checks)} checks passed")
    return 1 if failures else 0


def _ask(response: httpx.Response) -> Any:
    if response.status_code != 200:
        raise CheckFailed(f"status {response.status_code}: {response.text[:200]}")
    return response.json()


def _health(client: httpx.Client) -> str:
    return f"version {_ask(client.get('/health'))['version']}"


def _ready(client: httpx.Client) -> str:
    response = client.get("/ready", params={"models": "all"})
    if response.status_code != 503:
        state = _ask(response)
        asleep = ", ".join(state["sleeping_models"])
        return f"{state['workers']} workers" + (f"; no worker until it is asked for: {asleep}" if asleep else "")
    state = response.json()
    reasons = [f"no worker has run {model}" for model in state["missing_models"]]
    if not state["redis"]:
        reasons.insert(0, "Redis cannot be reached")
    if state["leaving"]:
        reasons.append("this gateway is stopping")
    if state["wedged_workers"]:
        reasons.append(f"{state['wedged_workers']} of {state['workers']} workers are wedged")
    raise CheckFailed("; ".join(reasons) or response.text[:200])


def _every_model(client: httpx.Client) -> str:
    response = client.get("/health/deep")
    if response.status_code not in (200, 503):
        _ask(response)
    models = response.json()["models"]
    told = ", ".join(
        f"{one['model']} "
        + ("asleep" if one["asleep"] else f"{one['ms']:.1f} ms" if one["ok"] else f"({one['error']})")
        for one in models
    )
    if response.status_code == 503:
        raise CheckFailed(told)
    return told


def _status(client: httpx.Client) -> str:
    if problems := _ask(client.get("/v1/status"))["problems"]:
        raise CheckFailed("; ".join(problems))
    return "no problems"


def _models(client: httpx.Client) -> str:
    return ", ".join(_capabilities(client))


def _capabilities(client: httpx.Client) -> dict[str, list[str]]:
    """What each model does that the caller may use; nothing of one that has never run."""
    return {model["id"]: model["capabilities"] for model in _ask(client.get("/v1/models"))["data"]}


def _sleeping(client: httpx.Client) -> list[str]:
    sleeping: list[str] = client.get("/ready").json()["sleeping_models"]
    return sleeping


def _wake(client: httpx.Client, wake_s: float) -> str:
    """Ask every sleeping model for something, and wait until it does not sleep."""
    allowed, started = _capabilities(client), time.monotonic()
    left = sleeping = [model for model in _sleeping(client) if model in allowed]
    if not sleeping:
        return "no model sleeps"
    with ThreadPoolExecutor(len(sleeping)) as pool:
        asking = [pool.submit(_ask_for_tokens, client, model, wake_s) for model in sleeping]
        while left and time.monotonic() - started < wake_s:
            time.sleep(_LOOKS_EVERY_S)
            now = _sleeping(client)
            left = [model for model in sleeping if model in now]
    if left:
        answers = "; ".join(each.result() for each in asking)
        raise CheckFailed(f"asleep after {wake_s:g} s: {', '.join(left)} ({answers})")
    return f"{', '.join(sleeping)} after {time.monotonic() - started:.0f} s"


def _ask_for_tokens(client: httpx.Client, model: str, wake_s: float) -> str:
    """Send a model what a model of every kind does, by the queue. The start of the answer."""
    try:
        answer = client.post(
            "/tokenize",
            json={"model": model, "inputs": _TEXTS[0]},
            headers={"x-request-timeout": str(wake_s)},
            timeout=wake_s + _GRACE_S,
        )
    except httpx.HTTPError as err:
        return str(err)
    return f"status {answer.status_code}: {answer.text[:200]}"


def _able(client: httpx.Client, operation: str) -> tuple[list[str], list[str]]:
    """The models that do something: those that are awake, and those that sleep, or may when they have woken once."""
    models, sleeping = _capabilities(client), _sleeping(client)
    able = [name for name, does in models.items() if operation in does or (name in sleeping and not does)]
    return [name for name in able if name not in sleeping], [name for name in able if name in sleeping]


def _embed(client: httpx.Client) -> str:
    awake, asleep = _able(client, "embed")
    if not awake:
        return f"asleep: {', '.join(asleep)}" if asleep else "no model embeds"
    # Without a model's name, where that wakes none: the route finds one that can do it.
    chosen = {"model": awake[0]} if asleep else {}
    response = client.post("/v1/embeddings", json={"input": _TEXTS, "encoding_format": "float", **chosen})
    if response.is_error and "makes no dense vectors" in response.text:
        return "no model makes dense vectors"
    vectors = [entry["embedding"] for entry in _ask(response)["data"]]
    lengths = [math.hypot(*vector) for vector in vectors]
    dimensions = {len(vector) for vector in vectors}
    if len(vectors) != len(_TEXTS) or len(dimensions) != 1 or not all(0 < length < math.inf for length in lengths):
        raise CheckFailed(
            f"expected {len(_TEXTS)} vectors of one size, got {sorted(dimensions)} with lengths {lengths}"
        )
    kind = "unit vectors" if all(abs(length - 1) < 1e-2 for length in lengths) else "vectors"
    return f"{len(vectors)} {kind} of {dimensions.pop()} dimensions"


def _rerank(client: httpx.Client) -> str:
    awake, asleep = _able(client, "rerank")
    if not awake:
        return f"asleep: {', '.join(asleep)}" if asleep else "no model reranks"
    body = {"query": "How is the weather?", "documents": _TEXTS, **({"model": awake[0]} if asleep else {})}
    results = _ask(client.post("/v1/rerank", json=body))["results"]
    scores = [result["relevance_score"] for result in results]
    if len(scores) != len(_TEXTS) or scores != sorted(scores, reverse=True):
        raise CheckFailed(f"expected {len(_TEXTS)} scores, best first, got {scores}")
    return "scores " + ", ".join(f"{score:.3f}" for score in scores)


def _refusal(client: httpx.Client) -> str:
    response = client.post("/v1/embeddings", json={"input": ""})
    if response.status_code != 400:
        raise CheckFailed(f"an empty input was answered with {response.status_code}")
    return str(response.json()["error"]["message"])


def _metrics(client: httpx.Client) -> str:
    response = client.get("/metrics")
    if response.status_code != 200 or "millrace_requests_total" not in response.text:
        raise CheckFailed(f"status {response.status_code}, or no millrace metrics")
    return f"{sum(not line.startswith('#') for line in response.text.splitlines())} samples"


_CHECKS = (
    _Check("health", _health),
    _Check("ready", _ready),
    _Check("models", _models),
    _Check("every model", _every_model),
    _Check("embed", _embed),
    _Check("rerank", _rerank),
    _Check("empty input", _refusal),
    _Check("metrics", _metrics),
    _Check("status", _status),
)
