"""What containers find in their environment: each variable once, and the operator's word before the chart's."""

import re
from typing import Any

import pytest

from api.settings import ApiSettings, RunnerSettings
from millrace.settings import FlowerSettings
from shared.settings import PREFIX
from tests.chart.test_refusals import _owned
from tests.helpers.chart import EXAMPLES, Object, environment, example, find, merged, pod_specs, rendered
from workers.callbacks.settings import CallbackSettings
from workers.settings import WorkerSettings

#: Settings of one part in the environment of all, and of each part once more.
ODD: dict[str, Any] = {
    "settings": {"env": {"MILLRACE_LOG_LEVEL": "warning", "MILLRACE_THREADS": 3, "OTEL_TRACES_SAMPLER": "always_on"}},
    "gateway": {"env": {"MILLRACE_LOG_LEVEL": "debug", "MILLRACE_ACCESS_LOG": False}},
    "jobs": {"env": {"MILLRACE_LOG_LEVEL": "debug"}},
    "callbacks": {"env": {"MILLRACE_LOG_LEVEL": "debug"}},
    "poolDefaults": {
        "env": {"MILLRACE_LOG_LEVEL": "debug", "MILLRACE_THREADS": 2},
        "resources": {"limits": {"cpu": "4"}},
    },
    "tracing": {"endpoint": "http://collector.monitoring.svc:4318", "envSecret": "collector"},
    "flower": {"enabled": True, "basicAuthSecret": {"name": "flower"}, "urlPrefix": "/operators/flower/"},
    "settings_of_all": {},
}
del ODD["settings_of_all"]


def _containers(objects: list[Object]) -> list[tuple[str, Object]]:
    return [
        (f"{pod}/{container['name']}", container)
        for pod, spec in pod_specs(objects)
        for container in [*spec["containers"], *spec.get("initContainers", [])]
    ]


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("name", ["", *EXAMPLES])
def test_no_variable_is_there_twice(name: str, odd: bool) -> None:
    values = example(name) if name else {}

    for where, container in _containers(rendered(merged(values, ODD) if odd else values)):
        names = [entry["name"] for entry in container.get("env", [])]
        assert len(names) == len(set(names)), where


def test_the_operators_word_goes_before_the_charts_and_a_parts_own_before_that_for_all() -> None:
    objects = rendered(ODD)

    def of(part: str) -> dict[str, str | None]:
        return environment(find(objects, "Deployment", part)["spec"]["template"]["spec"]["containers"][0])

    assert {of(part)["MILLRACE_LOG_LEVEL"] for part in ("-gateway", "-jobs", "-callbacks", "-worker-default")} == {
        "debug"
    }
    # Flower has none of its own
    assert of("-flower")["MILLRACE_LOG_LEVEL"] == "warning"
    assert of("-worker-default")["MILLRACE_THREADS"] == "2"
    assert of("-gateway")["MILLRACE_ACCESS_LOG"] == "false"
    assert of("-jobs")["OTEL_TRACES_SAMPLER"] == "always_on"


def test_every_variable_of_the_chart_is_refused_as_a_setting_or_may_be_overruled() -> None:
    # Given all that the chart itself says
    objects = rendered(
        merged(ODD, {"settings": {"publicUrl": "https://a.example"}, "sinks": {"secret": {"name": "s"}}})
    )
    said = {name for _, container in _containers(objects) for name in environment(container) if name.startswith(PREFIX)}

    # Then what a service depends on cannot be said twice, and the rest is written into what the operator says
    may_be_overruled = {"MILLRACE_LOG_FORMAT", "MILLRACE_LOG_LEVEL", "MILLRACE_THREADS", "MILLRACE_ACCESS_LOG"}
    assert said - may_be_overruled <= set(_owned())
    everything = {
        PREFIX + field.upper()
        for settings in (ApiSettings, RunnerSettings, CallbackSettings, WorkerSettings, FlowerSettings)
        for field in settings.model_fields
    }
    assert set(_owned()) <= everything


def test_traces_are_sent_by_gateways_and_workers_with_what_their_collector_wants() -> None:
    objects = rendered(merged(example("laptop"), {"tracing": ODD["tracing"]}))

    for part in ("-gateway", "-worker-default"):
        (container,) = find(objects, "Deployment", part)["spec"]["template"]["spec"]["containers"]
        assert environment(container)["MILLRACE_OTLP_ENDPOINT"] == "http://collector.monitoring.svc:4318"
        assert {"secretRef": {"name": "collector"}} in container["envFrom"]
    for _, container in _containers(rendered({})):
        assert "MILLRACE_OTLP_ENDPOINT" not in environment(container)


def test_what_fetches_weights_goes_through_the_proxy() -> None:
    proxies = {"HTTPS_PROXY": "http://proxy.internal:3128", "no_proxy": "mirror.internal"}
    values = {"settings": {"env": {**proxies, "MILLRACE_LOG_LEVEL": "debug"}}}
    objects = rendered(merged(example("one-gpu"), values))

    fetching = [container for _, container in _containers(objects) if container["name"] == "fetch"]
    assert len(fetching) == 2
    for container in fetching:
        assert environment(container).items() >= proxies.items()
        assert "MILLRACE_LOG_LEVEL" not in environment(container)


def test_only_settings_opentelemetrys_and_proxies_may_be_said() -> None:
    for name in ("PATH", "REDIS_URL", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "Http_Proxy"):
        with pytest.raises(Exception, match=re.escape(name)):
            rendered({"settings": {"env": {name: "x"}}})


@pytest.mark.parametrize(
    ("prefix", "path"), [("", "/healthcheck"), ("flower", "/flower/healthcheck"), ("/a/b/", "/a/b/healthcheck")]
)
def test_flower_is_asked_for_its_health_where_it_is(prefix: str, path: str) -> None:
    objects = rendered({"flower": {"enabled": True, "basicAuthSecret": {"name": "flower"}, "urlPrefix": prefix}})
    (container,) = find(objects, "Deployment", "-flower")["spec"]["template"]["spec"]["containers"]

    assert [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")] == [path, path]
    said = environment(container).get("MILLRACE_FLOWER_URL_PREFIX", "")
    assert said is not None
    assert FlowerSettings(flower_url_prefix=said).flower_url_prefix == path.removesuffix("healthcheck").strip("/")
