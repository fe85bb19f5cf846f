"""The chart renders, for every example, into what Kubernetes takes."""

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml

from shared import __version__
from shared.model_config import ModelConfig
from tests.helpers.chart import CHART, EXAMPLES, Object, environment, example, find, helm_python, merged, rendered

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


def test_a_pool_may_have_any_name() -> None:
    # Given one that is called as all of them might be
    pools = [{"name": name, "models": [{"name": name, "source": name}]} for name in ("all", "b")]
    files = find(rendered({"pools": pools}), "ConfigMap", "-models")["data"]

    # Then what the gateway is told of is both, and what each pool is told of is its own
    listed = {file: [model["name"] for model in yaml.safe_load(text)["models"]] for file, text in files.items()}
    assert listed == {"_all.yaml": ["all", "b"], "all.yaml": ["all"], "b.yaml": ["b"]}


def test_a_pool_takes_out_what_the_defaults_have() -> None:
    values = {
        "poolDefaults": {
            "nodeSelector": {"accelerator": "l4", "zone": "a"},
            "env": {"MILLRACE_DTYPE": "float16", "MILLRACE_WEDGED_AFTER_S": 60},
        },
        "pools": [
            {
                "name": "a",
                "models": [{"name": "m", "source": "m"}],
                "nodeSelector": {"accelerator": None},
                "env": {"MILLRACE_DTYPE": None},
            }
        ],
    }
    pod = find(rendered(values), "Deployment", "-worker-a")["spec"]["template"]["spec"]

    assert pod["nodeSelector"] == {"zone": "a"}
    variables = environment(pod["containers"][0])
    assert variables["MILLRACE_WEDGED_AFTER_S"] == "60"
    assert "MILLRACE_DTYPE" not in variables


def test_an_upgrade_gives_a_job_another_name_whenever_its_pod_changes() -> None:
    # Given values that change one thing each, of which some change the pod that fetches
    base = merged(example("one-gpu"), {"modelCache": {"persistence": {"enabled": True}}})
    others = [
        {"images": {"registry": "registry.internal"}},
        {"images": {"worker": {"tag": "other"}}},
        {"images": {"pullPolicy": "Always"}},
        {"imagePullSecrets": [{"name": "registry"}]},
        {"commonLabels": {"team": "search"}},
        {"hub": {"endpoint": "https://mirror.internal"}},
        {"hub": {"tokenSecret": {"name": "token"}}},
        {"modelCache": {"fetchResources": {"limits": {"memory": "3Gi"}}}},
        {"modelCache": {"persistence": {"existingClaim": "weights"}}},
        {"modelCache": {"prestage": {"nodeSelector": {"disk": "fast"}}}},
        {"settings": {"env": {"HTTPS_PROXY": "http://proxy.internal:3128"}}},
        {"pools": [{"name": "gpu", "models": [{"name": "m", "source": "org/m"}]}]},
        {"gateway": {"replicas": 3}},
        {"settings": {"logLevel": "debug"}},
    ]
    jobs = [find(rendered(merged(base, other)), "Job", "") for other in ({}, *others)]

    # Then two Jobs of one name have the same pod, since that cannot be changed
    pods = {job["metadata"]["name"]: job["spec"]["template"] for job in jobs}
    assert all(pods[job["metadata"]["name"]] == job["spec"]["template"] for job in jobs)
    assert len(pods) == len(jobs) - 2
    assert jobs[0] == jobs[-1] == jobs[-2]


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


def test_a_runbooks_page_is_a_link_where_the_files_are_kept_somewhere() -> None:
    values = {
        "monitoring": {"rules": {"enabled": True, "runbookBaseUrl": "https://git.example.com/millrace/blob/main/"}}
    }
    rules = [
        rule for group in find(rendered(values), "PrometheusRule", "")["spec"]["groups"] for rule in group["rules"]
    ]
    alerts = [rule for rule in rules if "alert" in rule]

    assert len(alerts) > 5
    for rule in alerts:
        page = f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == f"https://git.example.com/millrace/blob/main/{page}"


def test_pods_use_the_service_account_that_there_is() -> None:
    def account(**said: Any) -> tuple[str, int]:
        objects = rendered({"serviceAccount": said})
        pod = find(objects, "Deployment", "-gateway")["spec"]["template"]["spec"]
        return pod["serviceAccountName"], sum(each["kind"] == "ServiceAccount" for each in objects)

    assert account() == ("m-millrace", 1)
    assert account(name="ours") == ("ours", 1)
    assert account(create=False, name="theirs") == ("theirs", 0)
    assert account(create=False) == ("default", 0)


def test_without_bulk_jobs_there_is_nothing_for_them(releases: dict[str, list[Object]]) -> None:
    objects = releases["kserve-style"]

    parts = {each["metadata"]["name"].rpartition("-")[2] for each in objects if each["kind"] == "Deployment"}
    assert not parts & {"jobs", "callbacks"}
    assert not [each for each in objects if each["metadata"]["name"].endswith("-store")]
    pod = find(objects, "Deployment", "-gateway")["spec"]["template"]["spec"]
    assert "store" not in {volume["name"] for volume in pod["volumes"]}
    assert environment(pod["containers"][0])["MILLRACE_JOBS"] == "false"
    # And elsewhere there is
    assert find(releases[""], "PersistentVolumeClaim", "-store")
    other = find(releases[""], "Deployment", "-gateway")["spec"]["template"]["spec"]
    assert "MILLRACE_JOBS" not in environment(other["containers"][0])


def test_the_self_test_has_a_key_or_is_not_made() -> None:
    def key(**values: Any) -> Any:
        pods = [each for each in rendered(values) if each["kind"] == "Pod"]
        if not pods:
            return None
        (container,) = pods[0]["spec"]["containers"]
        return [one["valueFrom"]["secretKeyRef"] for one in container["env"] if one["name"] == "MILLRACE_API_KEY"]

    tenants, plain, own = ({"name": name} for name in ("tenants", "keys", "check"))
    assert key() == []
    assert key(auth={"apiKeySecret": plain}) == [{"name": "keys", "key": "api-key"}]
    assert key(auth={"keysFileSecret": tenants, "apiKeySecret": plain}) == [{"name": "keys", "key": "api-key"}]
    assert key(auth={"keysFileSecret": tenants}) is None
    assert key(auth={"keysFileSecret": tenants}, check={"apiKeySecret": own}) == [{"name": "check", "key": "api-key"}]
