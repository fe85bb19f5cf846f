"""Metrics: one table, names with units, labels from closed sets."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.metrics import METRICS, Kind, Metric, Metrics, Owner

OURS = [metric for metric in METRICS if metric.name.startswith("millrace_")]
TEIS = [metric for metric in METRICS if metric.name.startswith("te_")]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
each_of_ours = pytest.mark.parametrize("metric", OURS, ids=lambda metric: metric.name)

LABELS = {
    "model",
    "lane",
    "dialect",
    "operation",
    "code",
    "outcome",
    "way",
    "reason",
    "method",
    "err",
    "kind",
    "target",
    "stage",
    "tenant",
    "coverage",
}
UNITS = {
    "seconds",
    "bytes",
    "items",
    "tokens",
    "requests",
    "tasks",
    "workers",
    "length",
    "ready",
    "segments",
    "jobs",
    "callbacks",
    "letters",
    "keys",
    "reachable",
    "persisting",
    "batches",
    # Of a model: what becomes of requests for it, and whether it is asked for.
    "coverage",
    "awake",
}


def test_a_name_is_one_row_and_belongs_to_us_or_to_tei() -> None:
    names = [metric.name for metric in METRICS]

    assert len(set(names)) == len(names)
    assert len(OURS) + len(TEIS) == len(METRICS)


@each_of_ours
def test_a_counter_ends_in_total_and_nothing_else_does(metric: Metric) -> None:
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)


@each_of_ours
def test_a_name_is_in_snake_case_and_in_base_units(metric: Metric) -> None:
    assert re.fullmatch(r"millrace(_[a-z]+)+", metric.name)
    assert not re.search(r"_(ms|milliseconds|micros|kb|mb|minutes|percent)(_|$)", metric.name)


@each_of_ours
def test_a_name_that_is_not_a_counter_ends_in_its_unit(metric: Metric) -> None:
    if metric.kind is not Kind.COUNTER:
        assert metric.name.rsplit("_", 1)[-1] in UNITS


@each_of_ours
def test_time_is_measured_in_seconds(metric: Metric) -> None:
    if re.search(r"duration|wait", metric.name):
        assert metric.name.endswith("_seconds")


@each_metric
def test_a_metric_has_a_help_sentence_and_labels_of_closed_sets(metric: Metric) -> None:
    assert metric.help.endswith(".")
    assert set(metric.labels) <= LABELS


@each_metric
def test_a_histogram_has_rising_buckets_and_nothing_else_has_any(metric: Metric) -> None:
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


@pytest.mark.parametrize("owner", Owner)
def test_a_process_exposes_its_own_metrics_under_the_very_names_of_the_table(owner: Owner) -> None:
    # Given every metric of one owner, used once
    metrics = Metrics(owner)
    own = [metric for metric in METRICS if metric.owner is owner]
    for metric in own:
        labels = dict.fromkeys(metric.labels, "x")
        if metric.kind is Kind.COUNTER:
            metrics.counter(metric.name, **labels).inc()
        elif metric.kind is Kind.GAUGE:
            metrics.gauge(metric.name, **labels).set(1)
        else:
            metrics.histogram(metric.name, **labels).observe(1)

    # When
    families = text_string_to_metric_families(metrics.exposition().decode())
    exposed = {sample.name for family in families for sample in family.samples}

    # Then
    for metric in own:
        name = f"{metric.name}_count" if metric.kind is Kind.HISTOGRAM else metric.name
        assert name in exposed
    others = {metric.name for metric in METRICS if metric.owner is not owner}
    assert not others & exposed


def test_two_processes_in_one_interpreter_do_not_share_numbers() -> None:
    # Given
    one, other = Metrics(Owner.GATEWAY), Metrics(Owner.GATEWAY)

    # When
    one.counter("millrace_replies_total", way="sweep").inc()

    # Then
    assert b'millrace_replies_total{way="sweep"} 1.0' in one.exposition()
    assert b"way=" not in other.exposition()
