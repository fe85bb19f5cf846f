"""Values that do not go together are refused in a sentence that says what to set."""

import re
from typing import Any

import pytest
import yaml

from tests.helpers.chart import CHART, rendered

MODEL = {"name": "m", "source": "m"}
POOL = {"models": [MODEL]}
KEDA_FROM = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}]


def _scaled(**said: Any) -> dict[str, Any]:
    return {"poolDefaults": {"autoscaling": {"enabled": True, **said}}}


def _outside(**said: Any) -> dict[str, Any]:
    return {"redis": {"bundled": {"enabled": False}, "external": {"host": "redis.internal", **said}}}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"pools": [{"name": "a", **POOL}, {"name": "b", **POOL}]}, "model m is in the pools a and b"),
        (
            {"pools": [{"name": "a", **POOL}, {"name": "a", "models": [{"name": "n", "source": "n"}]}]},
            "two pools are called a",
        ),
        (_scaled(redis={"enabled": False}), "pool default: autoscaling needs redis.enabled or prometheus.enabled"),
        (_scaled(prometheus={"enabled": True}), "pool default: autoscaling.prometheus.serverAddress is needed"),
        (
            _scaled(minReplicas=5, maxReplicas=2),
            "pool default: autoscaling.minReplicas is 5, which is more than maxReplicas, 2",
        ),
        (_scaled(pollingInterval=120), "pool default: autoscaling.pollingInterval is 120 s; 30 is the most"),
        (
            {**_scaled(), "networkPolicies": {"enabled": True}},
            "pool default: KEDA has to reach the bundled Redis; say in networkPolicies.kedaFrom",
        ),
        (
            {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}},
            "gateway.autoscaling.minReplicas is 5, which is more than maxReplicas, 2",
        ),
        (
            {"redis": {"external": {"host": "redis.internal"}}},
            "redis.external names a server, and redis.bundled.enabled",
        ),
        ({"redis": {"external": {"sentinel": {"hosts": ["a:26379"]}}}}, "redis.external names a server"),
        ({"redis": {"bundled": {"enabled": False}}}, "redis.external.host .* is needed"),
        (_outside(username="millrace"), "redis.external.username needs redis.external.passwordSecret.name"),
        (
            _outside(sentinel={"hosts": ["a:26379"], "username": "millrace"}),
            "redis.external.sentinel.username needs redis.external.sentinel.passwordSecret.name",
        ),
        ({"flower": {"enabled": True}}, "flower.basicAuthSecret.name is needed"),
        (
            {"modelCache": {"prestage": {"enabled": True}}, "pools": [{"name": "a", "models": [MODEL]}]},
            "modelCache.prestage needs modelCache.persistence.enabled",
        ),
        ({"ingress": {"enabled": True}}, "ingress.hosts is needed"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs is needed"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception, match=sentence):
        rendered(values)


@pytest.mark.parametrize(
    "values",
    [
        {**_scaled(), "networkPolicies": {"enabled": True, "kedaFrom": KEDA_FROM}},
        # KEDA asks Prometheus alone, or a server outside
        {
            **_scaled(redis={"enabled": False}, prometheus={"enabled": True, "serverAddress": "http://prometheus"}),
            "networkPolicies": {"enabled": True},
        },
        {**_scaled(), **_outside(), "networkPolicies": {"enabled": True}},
        _outside(username="millrace", passwordSecret={"name": "redis"}),
    ],
)
def test_what_goes_together_is_not(values: dict[str, Any]) -> None:
    assert rendered(values)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(Exception, match=r"ingress.hosts is needed(.|\n|\\n)*httpRoute.parentRefs is needed"):
        rendered({"ingress": {"enabled": True}, "httpRoute": {"enabled": True}})


def _owned() -> dict[str, str]:
    text = (CHART / "templates" / "_refusals.tpl").read_text()
    block = re.search(r'define "millrace.owned" -}}\n(.*?){{- end }}', text, flags=re.DOTALL)
    assert block is not None
    owned: dict[str, str] = yaml.safe_load(block[1])
    return owned


@pytest.mark.parametrize("where", ["settings", "gateway", "jobs", "callbacks", "poolDefaults", "a pool"])
def test_a_setting_that_has_a_value_is_refused_as_a_variable(where: str) -> None:
    variables = {"MILLRACE_REQUEST_TIMEOUT_S": 60, "MILLRACE_DEVICE": "cuda"}
    values = {"pools": [{"name": "a", **POOL, "env": variables}]} if where == "a pool" else {where: {"env": variables}}
    place = "pool a: env" if where == "a pool" else f"{where}.env"

    with pytest.raises(Exception, match=f"{place}: MILLRACE_REQUEST_TIMEOUT_S is not set here; set settings.request"):
        rendered(values)
    with pytest.raises(Exception, match=f"{place}: MILLRACE_DEVICE is not set here; set poolDefaults.device"):
        rendered(values)


def test_what_is_refused_names_values_that_there_are() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    named = {path for sentence in _owned().values() for path in re.findall(r"\b[a-z]\w+(?:\.\w+)+", sentence)}

    assert len(named) > 10
    for path in named:
        at: Any = values
        for key in path.split("."):
            assert key in at, path
            at = at[key]
