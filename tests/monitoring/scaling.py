"""The chart's KEDA triggers on Prometheus: what each query comes to on series that are known, by promtool."""

from pathlib import Path
from typing import Any

import yaml

from tests.helpers.chart import example, find, rendered
from tests.monitoring.rules import promtool
from tests.monitoring.tools import Tools

#: Two models of one pool of two workers, as two gateways see them: backlog of 3 s and 1 s, four and two tasks queued each.
_BACKLOG_S = {"BAAI/bge-reranker-v2-m3": 3, "Qwen/Qwen3-Reranker-0.6B": 1}
_WORKERS = 2
#: Seconds of batches that each worker computes in a scrape's fifteen, as many at a time.
_BUSY_S = {"a": 24, "b": 6}
_PARALLEL = {"a": 2, "b": 1}
#: Wait times workers, workers at work, tasks in all lists, models asked for: what the queries are to say, in their order.
EXPECTED = (
    _WORKERS * sum(_BACKLOG_S.values()),
    sum(_BUSY_S[pod] / _PARALLEL[pod] / 15 for pod in _PARALLEL),
    2 * (4 + 2),
    1,
)


def check_triggers(tools: Tools, folder: Path) -> str:
    """The triggers of the example with two pools; what promtool says.

    Args:
        tools: Where promtool is.
        folder: For what it reads.
    """
    values = example("eight-gpus")
    values["poolDefaults"]["autoscaling"]["redis"] = {"enabled": False}
    triggers = find(rendered(values), "ScaledObject", "-worker-rerank")["spec"]["triggers"]
    cases = [
        {"expr": trigger["metadata"]["query"], "eval_time": "1m", "exp_samples": [{"labels": "{}", "value": expected}]}
        for trigger, expected in zip(triggers, EXPECTED, strict=True)
    ]
    test = {"interval": "15s", "input_series": _series(), "promql_expr_test": cases}
    file = folder / "triggers.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    return f"{promtool(tools, 'test', 'rules', file).strip()}: {len(cases)} triggers of KEDA"


def _series() -> list[dict[str, str]]:
    series = []
    for pod in ("a", "b"):
        for model, backlog_s in _BACKLOG_S.items():
            series += [
                _one("millrace_workers", f"{_WORKERS}x5", model=model, pod=pod),
                _one("millrace_model_awake", "1x5" if backlog_s > 1 else "0+0x5", model=model, pod=pod),
                _one("millrace_backlog_seconds", f"{backlog_s}x5", model=model, lane="interactive", pod=pod),
                # Of bulk work there is always some.
                _one("millrace_backlog_seconds", "9x5", model=model, lane="bulk", pod=pod),
                _one("millrace_queue_length", "4x5", model=model, lane="interactive", pod=pod),
                _one("millrace_queue_length", "2x5", model=model, lane="bulk", pod=pod),
            ]
        model = next(iter(_BACKLOG_S))
        series += [
            _one("millrace_batch_duration_seconds_sum", f"0+{_BUSY_S[pod]}x20", model=model, pod=pod),
            _one("millrace_parallel_batches", f"{_PARALLEL[pod]}x5", pod=pod),
        ]
    series.append(_one("millrace_backlog_seconds", "50x5", model="another pool's", lane="interactive", pod="a"))
    # Another release in the namespace serves the same model, and has much to do.
    model = next(iter(_BACKLOG_S))
    series += [
        _one("millrace_backlog_seconds", "50x5", model=model, lane="interactive", pod="other", release="other"),
        _one("millrace_batch_duration_seconds_sum", "0+15x20", model=model, pod="other", release="other"),
    ]
    return series


def _one(name: str, values: str, **labels: Any) -> dict[str, str]:
    shown = ",".join(f'{label}="{value}"' for label, value in {"namespace": "search", "release": "m", **labels}.items())
    return {"series": f"{name}{{{shown}}}", "values": values}
