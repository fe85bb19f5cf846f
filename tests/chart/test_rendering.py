"""The chart renders, for every example, into what Kubernetes takes."""

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml

from shared import __version__
from shared.model_config import ModelConfig
from tests.helpers.chart import CHART, EXAMPLES, Object, example, find, helm_python, merged, rendered

#: Kinds that Kubernetes itself does not know; `make test-chart` checks them.
CUSTOM_GROUPS = ("keda.sh", "monitoring.coreos.com", "gateway.networking.k8s.io")


def test_there_is_an_example_for_each_kind_of_place() -> None:
    assert EXAMPLES == ["closed-network", "eight-gpus", "kserve-style", "laptop", "one-gpu"]


def test_the_chart_passes_helms_strict_lint() -> None:
    result = helm_python.lint(str(CHART), strict=True, kube_version="v1.30.0")

    assert not [str(message) for message in _messages(result) if "ERROR" in str(message) or "WARNING" in str(message)]


def _messages(result: Any) -> list[Any]:
    return list(getattr(result, "messages", None) or [])


@pytest.mark.parametrize("version", ["1.28", "1.30", "1.34"])
@pytest.mark.parametrize("name", ["", *EXAMPLES])
def test_an_example_is_what_kubernetes_takes(releases: dict[str, list[Object]], name: str, version: str) -> None:
    own = [each for each in releases[name] if not each["apiVersion"].startswith(CUSTOM_GROUPS)]

    assert len(own) >= 8
    for each in own:
        kubernetes_validate.validate(each, version, strict=True)


def test_no_two_objects_have_one_name(releases: dict[str, list[Object]]) -> None:
    for objects in releases.values():
        names = [(each["kind"], each["metadata"]["name"]) for each in objects]

        assert len(names) == len(set(names))


def test_two_releases_share_a_namespace() -> None:
    first, second = ({(each["kind"], each["metadata"]["name"]) for each in rendered({}, release=name)} for name in "ab")

    assert not first & second


def test_a_typing_error_in_a_value_is_refused() -> None:
    for wrong in (
        {"gatway": {"replicas": 1}},
        {"gateway": {"replica": 1}},
        {"gateway": {"replicas": "many"}},
        {"pools": [{"name": "a", "models": [{"name": "m", "source": "m", "aliasses": []}]}]},
        {"pools": [{"name": "a", "models": [{"name": "m", "source": "m"}], "autoscaling": {"minReplica": 0}}]},
        {"settings": {"env": {"REDIS_URL": "x"}}},
    ):
        with pytest.raises(Exception, match="schema"):
            rendered(wrong)


def test_a_model_in_two_pools_is_refused() -> None:
    pool = {"models": [{"name": "m", "source": "m"}]}

    with pytest.raises(Exception, match="model m is in the pools a and b"):
        rendered({"pools": [{"name": "a", **pool}, {"name": "b", **pool}]})


def test_every_value_is_in_the_schema_and_every_word_of_the_schema_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(value: Any, said: dict[str, Any], where: str) -> None:
        said = _resolved(said, schema)
        if "properties" not in said:
            return
        assert said["additionalProperties"] is False, where
        # What a user fills in has no default.
        assert set(said["properties"]) - {"global", "enabled", "claims"} <= set(value) | _left_out(where), where
        assert set(value) <= set(said["properties"]), where
        for key, below in value.items():
            if isinstance(below, dict) and below:
                compare(below, said["properties"][key], f"{where}.{key}")

    compare(values, schema, "values")


def _left_out(where: str) -> set[str]:
    if where.endswith("resources") or where.endswith("Resources"):
        return {"limits", "requests"}
    return set()


def _resolved(said: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in said:
        found: dict[str, Any] = schema["definitions"][said["$ref"].rsplit("/", 1)[1]]
        return found
    return said


def test_a_pool_may_say_of_a_model_what_a_models_file_may() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    assert set(schema["definitions"]["model"]["properties"]) == set(ModelConfig.model_fields)


def test_the_chart_runs_the_service_of_its_own_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_large_numbers_are_written_out(releases: dict[str, list[Object]]) -> None:
    # Helm reads numbers as floats, and would write 2e+05.
    values = merged(example("laptop"), {"settings": {"env": {"MILLRACE_BODY_LIMIT_BYTES": 67108864}}})
    (container,) = find(rendered(values), "Deployment", "-gateway")["spec"]["template"]["spec"]["containers"]

    assert {"name": "MILLRACE_BODY_LIMIT_BYTES", "value": "67108864"} in container["env"]


def test_rules_and_dashboards_are_those_of_the_charts_files(releases: dict[str, list[Object]]) -> None:
    # Given the files, which are written and tested elsewhere
    rules, dashboards = CHART / "files" / "prometheus-rules.yaml", sorted((CHART / "files").glob("dashboards/*.json"))

    # Then what is there is in the release, as it is
    objects = releases["eight-gpus"]
    if rules.exists():
        rule = find(objects, "PrometheusRule", "millrace")
        assert rule["spec"]["groups"] == yaml.safe_load(rules.read_text())["groups"]
    for path in dashboards:
        assert any(
            json.loads(each["data"][path.name]) == json.loads(path.read_text())
            for each in objects
            if each["kind"] == "ConfigMap" and path.name in each["data"]
        )
