"""Alerts and dashboard ask for metrics that there are, with labels that those have; each alert is in the runbook."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.dashboard.panel import failures
from shared.metrics import METRICS, Kind

ROOT = Path(__file__).parents[2]
FILES = ROOT / "helm" / "millrace" / "files"
RULES = yaml.safe_load((FILES / "prometheus-rules.yaml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"]: rule for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
DASHBOARD = json.loads((FILES / "dashboards" / "millrace.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
CASES = yaml.safe_load((ROOT / "tests" / "monitoring" / "cases.yaml").read_text())

#: What Prometheus itself adds to every series; in a cluster its operator and the chart's monitors.
_ADDED = {"job", "instance", "namespace", "release"}
_NAME = re.compile(r"(?<![\w:$])(millrace[_:][\w:]*|te_\w+|up)(?![\w:]*\()(?:\{([^}]*)\})?")
_MATCHED = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPED = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")

each_alert = pytest.mark.parametrize("alert", ALERTS)


def _labels_by_series() -> dict[str, set[str]]:
    found = {"up": set(_ADDED)}
    for metric in METRICS:
        labels = {*metric.labels, *_ADDED}
        if metric.kind is Kind.HISTOGRAM:
            found |= {f"{metric.name}_sum": labels, f"{metric.name}_count": labels}
            found[f"{metric.name}_bucket"] = labels | {"le"}
        else:
            found[metric.name] = labels
    for name, rule in RECORDED.items():
        found[name] = _grouped(rule["expr"])
    return found


def _grouped(expression: str) -> set[str]:
    return {label.strip() for group in _GROUPED.findall(expression) for label in group.split(",") if label.strip()}


def _series(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each series of an expression, and the labels by which it is chosen."""
    for name, chosen in _NAME.findall(re.sub(r'"[^"]*"', '""', expression)):
        yield name, set(_MATCHED.findall(chosen))


EXPRESSIONS = [*(rule["expr"] for rule in [*ALERTS.values(), *RECORDED.values()]), *QUERIES]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_query_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    known = _labels_by_series()
    series = list(_series(expression))

    assert series
    for name, chosen in series:
        assert name in known, name
        assert chosen <= known[name], f"{name} has no {chosen - known[name]}"
    assert _grouped(expression) <= set().union(*(known[name] for name, _ in series))


@pytest.mark.parametrize(
    "expression", [rule["expr"] for rule in [*ALERTS.values(), *RECORDED.values()] if "internal_error" in rule["expr"]]
)
def test_what_counts_as_a_failure_is_every_error_of_the_services_own(expression: str) -> None:
    (codes,) = re.findall(r'code=~"([^"]*)"', expression)

    assert set(codes.split("|")) == set(failures().split("|"))


@each_alert
def test_an_alert_says_how_bad_it_is_what_has_happened_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]

    assert alert.startswith("Millrace")
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["description"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{alert.lower()}"


@each_alert
def test_an_alert_names_labels_only_that_its_query_leaves(alert: str) -> None:
    rule = ALERTS[alert]
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    left = _grouped(rule["expr"])
    if not re.search(r"\b(sum|min|max|avg|count)\b", rule["expr"]):
        left = set().union(*(_labels_by_series()[name] for name, _ in _series(rule["expr"])))

    assert named <= left


def test_every_alert_has_a_section_in_the_runbook_and_every_section_an_alert() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)

    assert sections == list(ALERTS)


@each_alert
def test_a_section_of_the_runbook_says_what_users_notice_where_to_look_and_what_to_do(alert: str) -> None:
    section = RUNBOOK.split(f"\n## {alert}\n")[1].split("\n## ")[0]

    assert re.findall(r"^\*\*(\w+):\*\*", section, re.MULTILINE) == ["Users", "Look", "Do"]


def test_the_runbook_names_sections_settings_and_metrics_that_there_are() -> None:
    known = set(_labels_by_series())
    configuration = (ROOT / "docs" / "reference" / "configuration.md").read_text()

    for anchor in re.findall(r"\]\(#(\w+)\)", RUNBOOK):
        assert anchor in {alert.lower() for alert in ALERTS}
    for setting in set(re.findall(r"MILLRACE_\w+", RUNBOOK)):
        assert f"`{setting}`" in configuration, setting
    for metric in set(re.findall(r"millrace_\w+", RUNBOOK)):
        assert metric in known, metric


def test_the_events_that_the_runbook_names_are_logged() -> None:
    code = "".join(
        path.read_text()
        for folder in ("api", "workers", "shared", "millrace")
        for path in (ROOT / folder).rglob("*.py")
    )
    logged = set(re.findall(r'log\.\w+\(\s*"(\w+)"', code))
    events = {
        "background_failed",
        "batch_failed",
        "callback_failed",
        "engine_lost",
        "engine_not_restarted",
        "jobs_delayed",
        "jobs_unreachable",
        "model_loaded",
        "model_warmed_up",
        "part_died",
        "redis_lost",
        "request_crashed",
        "segment_crashed",
        "segment_given_back",
        "worker_ready",
        "worker_wedged",
    }

    assert events <= logged
    for event in events:
        assert f"`{event}`" in RUNBOOK, event


@each_alert
def test_an_alert_has_a_history_that_fires_it_and_one_that_does_not(alert: str) -> None:
    assert {"fires", "does_not"} <= set(CASES[alert])
    assert "summary" in CASES[alert]["fires"]


def test_there_are_no_histories_of_other_alerts() -> None:
    assert list(CASES) == list(ALERTS)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["legendFormat"] or panel["type"] == "stat"
        assert 'job=~"$job"' in target["expr"]


def test_panels_have_ids_of_their_own_and_do_not_cover_each_other() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]

    assert len(set(ids)) == len(ids)
    for one, other in combinations([panel["gridPos"] for panel in DASHBOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
        assert one["x"] + one["w"] <= 24


def test_the_dashboard_can_be_narrowed_to_a_job_a_model_and_a_lane() -> None:
    declared = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    used = {name for query in QUERIES for name in re.findall(r"\$(?!__)(\w+)", query)}

    assert declared == ["datasource", "job", "model", "lane"]
    assert used == {"job", "model", "lane"}


def test_the_dashboard_shows_every_stage_of_the_service() -> None:
    shown = {name for query in QUERIES for name, _ in _series(query)}

    for wanted in (
        "millrace_requests_total",
        "millrace_stage_duration_seconds_bucket",
        "millrace_queue_length",
        "millrace_oldest_request_seconds",
        "millrace_batch_items_bucket",
        "millrace_max_batch_tokens",
        "millrace_batch_tokens_sum",
        "millrace_device_memory_bytes",
        "millrace_job_documents_total",
        "millrace_callbacks_total",
        "millrace_tenant_tokens_total",
    ):
        assert wanted in shown
