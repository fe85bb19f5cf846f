"""The table of the chart's values, from the comments of its values.yaml."""

import re
from pathlib import Path

CHART = Path(__file__).parents[1] / "helm" / "millrace"

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z0-9_.]+):(?: (?P<value>.*))?$")


def table() -> str:
    """A row for each value that has a comment of its own (`# --`), and for its siblings."""
    lines = ["| value | default | meaning |", "|---|---|---|"]
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    is_meaning = False
    in_list_at: int | None = None
    for line in (CHART / "values.yaml").read_text().splitlines():
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if in_list_at is not None and text and indent > in_list_at:
            continue
        in_list_at = None
        if text.startswith("#"):
            words = text.removeprefix("#").strip()
            if words.startswith("--"):
                comment, is_meaning = [words.removeprefix("--").strip()], True
            elif is_meaning:
                comment.append(words)
            continue
        found = _KEY.match(line)
        if found is None:
            comment, is_meaning = [], False
            continue
        path = [(at, key) for at, key in path if at < indent]
        path.append((indent, found["key"]))
        name = ".".join(key for _, key in path)
        if found["key"] == "pools":
            in_list_at = indent
            lines.append(f"| `{name}` | the default model on CPU | Groups of models that share a device: {_POOL} |")
        elif found["value"] is not None:
            value = found["value"].strip()
            shown = "" if value in ('""', "null") else f"`{value}`"
            lines.append(f"| `{name}` | {shown} | {' '.join(comment)} |")
        comment, is_meaning = [], False
    return "\n".join(lines) + "\n"


def readme() -> str:
    """The chart's README.md."""
    return _README + table()


_README = """# The Helm chart of Millrace

Gateway, pools of workers, job runner, callback worker, and what belongs to them. How to use it:
[Kubernetes](../../docs/howto/kubernetes.md). How many workers it takes: [sizing](../../docs/sizing.md).

```sh
helm install millrace helm/millrace --namespace millrace --create-namespace
```

| example | for |
|---|---|
| [laptop](ci/laptop-values.yaml) | one node without a GPU: kind, minikube |
| [one GPU](ci/one-gpu-values.yaml) | one machine whose card an embedder and a reranker share; TLS, Flower |
| [eight GPUs](ci/eight-gpus-values.yaml) | two pools that KEDA scales, Sentinel, a bucket, monitoring, HTTPRoute |
| [KServe-style](ci/kserve-style-values.yaml) | a pool for each model, a hub token, no bulk jobs |
| [closed network](ci/closed-network-values.yaml) | images and weights carried in, Redis with TLS, network policies |

It needs Kubernetes 1.28 or later. What needs more of the cluster is off by default: KEDA (`poolDefaults.autoscaling`),
Prometheus' operator (`monitoring`), the Gateway API (`httpRoute`). No object belongs to the whole cluster:
PriorityClasses and RuntimeClasses are named, never made.

## Values

Written by `make docs` from the comments of values.yaml; values.schema.json refuses what is not there.

"""

_POOL = (
    "each has a `name`, `models` as in a [models file](../../docs/reference/configuration.md#models), and what differs from "
    "`poolDefaults`."
)
