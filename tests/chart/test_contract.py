"""What the chart names is what the code has: settings, commands, ports, probes, queues, metrics, addresses, models."""

import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from api.health import LIVENESS_PATHS, READINESS_PATHS
from api.settings import ApiSettings, RunnerSettings
from millrace.cli import _parser
from millrace.settings import FlowerSettings, ServeSettings
from shared.keys import AWAKE_TTL_S, awake
from shared.metrics import METRICS
from shared.model_config import configured_models
from shared.operations import LIVENESS_PATH
from shared.queues import Lane, queue_name
from shared.redis_address import sentinels_of
from shared.settings import PREFIX, Settings
from tests.helpers.chart import EXAMPLES, Object, environment, example, find, merged, pod_specs, rendered
from workers.callbacks.settings import CallbackSettings
from workers.settings import WorkerSettings

each_example = pytest.mark.parametrize("name", ["", *EXAMPLES])

SETTINGS: dict[str, type[Settings]] = {
    "gateway": ApiSettings,
    "jobs": RunnerSettings,
    "callbacks": CallbackSettings,
    "worker": WorkerSettings,
    "flower": FlowerSettings,
}


def _containers(objects: list[Object]) -> list[tuple[Object, Object]]:
    """Containers that run a part of ours, with their pods."""
    return [
        (container, spec)
        for _, spec in pod_specs(objects)
        for container in spec["containers"]
        if container["name"] in SETTINGS
    ]


@each_example
def test_every_variable_is_a_setting_with_a_value_that_it_takes(releases: dict[str, list[Object]], name: str) -> None:
    everything = {field for settings in SETTINGS.values() for field in settings.model_fields}
    for container, _ in _containers(releases[name]):
        said = {
            variable.removeprefix(PREFIX).lower(): value
            for variable, value in environment(container).items()
            if variable.startswith(PREFIX)
        }
        # Some are for parts that share an environment.
        assert set(said) <= everything, container["name"]
        known = {field: value for field, value in said.items() if field in SETTINGS[container["name"]].model_fields}
        assert len(known) >= 5
        SETTINGS[container["name"]](
            **{field: value for field, value in (known | _from_secrets(known)).items() if value is not None}
        )


def _from_secrets(known: dict[str, str | None]) -> dict[str, str]:
    """What secrets would hold that a part does not start without."""
    return {"flower_password": "user:password"} if "flower_password" in known else {}


@each_example
def test_every_command_is_one_of_ours(releases: dict[str, list[Object]], name: str) -> None:
    seen = set()
    for _, spec in pod_specs(releases[name]):
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            command = container["command"]
            if command[0] == "millrace":
                seen.add(_parser().parse_args(command[1:]).command)
            elif container["name"] == "flower":
                assert command == ["millrace", "flower"]
            else:
                assert container["name"] == "redis"
    assert seen >= {"gateway", "worker", "check"}


@each_example
def test_probes_ask_at_the_port_that_is_served_for_a_path_that_there_is(
    releases: dict[str, list[Object]], name: str
) -> None:
    variables = {
        "gateway": "MILLRACE_PORT",
        "jobs": "MILLRACE_RUNNER_METRICS_PORT",
        "callbacks": "MILLRACE_CALLBACKS_METRICS_PORT",
        "worker": "MILLRACE_WORKER_METRICS_PORT",
        "flower": "MILLRACE_FLOWER_PORT",
    }
    for container, _ in _containers(releases[name]):
        (port,) = container["ports"]
        part = container["name"]
        assert str(port["containerPort"]) == environment(container)[variables[part]]
        # As the processes' own defaults have it
        default = ServeSettings.model_fields[variables[part].removeprefix(PREFIX).lower()].default
        assert port["containerPort"] == default
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                asked = container[probe]["httpGet"]
                assert asked["port"] == port["name"]
                assert asked["path"] in {
                    "gateway": {*LIVENESS_PATHS, *READINESS_PATHS},
                    "flower": {"/healthcheck"},
                }.get(part, {LIVENESS_PATH})
        assert {"startupProbe", "livenessProbe"} <= set(container)


@each_example
def test_services_and_monitors_name_ports_that_there_are(releases: dict[str, list[Object]], name: str) -> None:
    objects = releases[name]
    ports = {
        port["name"] for _, spec in pod_specs(objects) for each in spec["containers"] for port in each.get("ports", [])
    }
    for each in objects:
        if each["kind"] == "Service":
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports
        if each["kind"] in {"ServiceMonitor", "PodMonitor"}:
            for endpoint in each["spec"].get("endpoints") or each["spec"]["podMetricsEndpoints"]:
                assert endpoint["port"] in ports
                assert endpoint["path"] == "/metrics"


def test_monitors_call_their_jobs_as_the_alerts_do() -> None:
    # Given what scrapes the parts, and the parts that it finds
    objects = rendered({"monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}})
    gateway, pods = find(objects, "ServiceMonitor", "")["spec"], find(objects, "PodMonitor", "")["spec"]
    of_the_gateway, its_release = gateway["endpoints"][0]["relabelings"]
    of_a_pod, a_pods_release = pods["podMetricsEndpoints"][0]["relabelings"]
    components = pods["selector"]["matchExpressions"][0]["values"]

    # Then every job that an alert names is among them
    jobs = {of_the_gateway["replacement"], *(of_a_pod["replacement"].replace("$1", name) for name in components)}
    rules = (Path(__file__).parents[2] / "helm/millrace/files/prometheus-rules.yaml").read_text()
    assert set(re.findall(r'job="([^"]+)"', rules)) <= jobs
    assert {"millrace-worker", "millrace-jobs", "millrace-callbacks"} <= jobs
    # And the label by which they tell releases of one namespace apart is this release's name
    assert its_release == a_pods_release == {"targetLabel": "release", "replacement": "m"}
    assert "by (namespace, release)" in rules


@each_example
def test_every_volume_is_mounted_from_somewhere(releases: dict[str, list[Object]], name: str) -> None:
    for pod, spec in pod_specs(releases[name]):
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            assert len(paths) == len(set(paths)), pod
            for mount in container.get("volumeMounts", []):
                assert mount["name"] in volumes or pod.endswith("-redis"), (pod, mount)


@each_example
def test_the_gateway_knows_every_model_and_each_pool_its_own(
    releases: dict[str, list[Object]], name: str, tmp_path: Any
) -> None:
    config = find(releases[name], "ConfigMap", "-models")["data"]
    models = {}
    for file, text in config.items():
        (tmp_path / file).write_text(text)
        models[file] = configured_models("", tmp_path / file)
    everything = models.pop("_all.yaml")

    assert everything == [model for pool in models.values() for model in pool]
    files = {
        environment(container)["MILLRACE_MODELS_FILE"]
        for container, _ in _containers(releases[name])
        if container["name"] in {"worker", "gateway", "jobs"}
    }
    assert files == {f"/etc/millrace/models/{file}" for file in config}


def _url(objects: list[Object], part: str = "-gateway") -> str:
    (container,) = find(objects, "Deployment", part)["spec"]["template"]["spec"]["containers"]
    names = [entry["name"] for entry in container["env"]]
    url = environment(container)["MILLRACE_REDIS_URL"]
    assert url is not None
    for variable in re.findall(r"\$\((\w+)\)", url):
        # Kubernetes puts in what stands above.
        assert names.index(variable) < names.index("MILLRACE_REDIS_URL")
        url = url.replace(f"$({variable})", variable.lower())
    return url


@each_example
def test_redis_address_is_one_that_the_service_understands(releases: dict[str, list[Object]], name: str) -> None:
    Settings(redis_url=SecretStr(_url(releases[name])))


def test_the_bundled_server_is_asked_with_its_password(releases: dict[str, list[Object]]) -> None:
    assert _url(releases[""]) == "redis://:redis_password@m-millrace-redis:6379/0"


def test_a_server_with_tls_is_verified_by_the_given_authority(releases: dict[str, list[Object]]) -> None:
    url = _url(releases["closed-network"])

    assert (
        url == "rediss://millrace:redis_password@redis.data.internal:6380/0?ssl_ca_certs=/etc/millrace/redis-ca/ca.crt"
    )
    for container, _ in _containers(releases["closed-network"]):
        assert "/etc/millrace/redis-ca" in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_sentinels_are_named_with_their_primary_and_both_passwords(releases: dict[str, list[Object]]) -> None:
    sentinels = sentinels_of(_url(releases["eight-gpus"]))

    assert sentinels is not None
    assert sentinels.hosts == tuple((f"redis-{number}.redis.data.svc", 26379) for number in range(3))
    assert (sentinels.master, sentinels.db) == ("millrace", 0)
    assert (sentinels.username, sentinels.password) == ("millrace", "redis_password")
    assert sentinels.sentinel_password == "sentinel_password"


def test_sentinels_with_tls_are_verified_by_the_given_authority() -> None:
    tls = {"enabled": True, "caSecret": {"name": "redis-ca"}}
    objects = rendered(merged(example("eight-gpus"), {"redis": {"external": {"tls": tls}}}))
    sentinels = sentinels_of(_url(objects))

    assert sentinels is not None
    assert sentinels.tls == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/etc/millrace/redis-ca/ca.crt"}
    for container, _ in _containers(objects):
        assert "/etc/millrace/redis-ca" in [mount["mountPath"] for mount in container["volumeMounts"]]
    (trigger, *_) = _triggers(objects, "embed")
    assert (trigger["type"], trigger["metadata"]["enableTLS"]) == ("redis-sentinel", "true")
    (authentication,) = [one for one in objects if one["kind"] == "TriggerAuthentication"]
    parameters = {ref["parameter"]: ref["name"] for ref in authentication["spec"]["secretTargetRef"]}
    assert parameters["ca"] == "redis-ca"


def test_files_in_the_environment_are_mounted(releases: dict[str, list[Object]]) -> None:
    for objects in releases.values():
        for container, _ in _containers(objects):
            mounts = tuple(mount["mountPath"] for mount in container["volumeMounts"])
            for variable, value in environment(container).items():
                if variable.endswith("_FILE") or variable == "MILLRACE_STORE":
                    assert value is not None
                    assert value.startswith(mounts) or "://" in value, (container["name"], variable)


def _triggers(objects: list[Object], pool: str) -> list[Object]:
    found: list[Object] = find(objects, "ScaledObject", f"-worker-{pool}")["spec"]["triggers"]
    return found


@pytest.mark.parametrize("name", ["eight-gpus", "kserve-style"])
def test_keda_looks_at_each_queue_of_a_pools_models_and_at_no_other(
    releases: dict[str, list[Object]], name: str
) -> None:
    for pool in example(name)["pools"]:
        triggers = _triggers(releases[name], pool["name"])
        lists = [trigger["metadata"]["listName"] for trigger in triggers if trigger["type"].startswith("redis")]

        expected = [
            [*(queue_name(model["name"], lane) for lane in Lane), awake(model["name"])] for model in pool["models"]
        ]
        assert lists == list(chain.from_iterable(expected))


@pytest.mark.parametrize("only_prometheus", [False, True])
def test_keda_asks_prometheus_for_metrics_and_labels_that_there_are(only_prometheus: bool) -> None:
    values = example("eight-gpus")
    values["poolDefaults"]["autoscaling"]["redis"] = {"enabled": not only_prometheus}
    triggers = _triggers(rendered(values), "rerank")
    queries = [trigger["metadata"]["query"] for trigger in triggers if trigger["type"] == "prometheus"]

    assert len(queries) == (4 if only_prometheus else 2)
    assert len(queries) == len(triggers) if only_prometheus else len(queries) < len(triggers)
    metrics = {metric.name: metric for metric in METRICS}
    for query in queries:
        for metric, selectors in re.findall(r"([a-z_]+){([^}]*)}", query):
            known = metrics[metric.removesuffix("_sum")]
            labels = set(re.findall(r"(\w+)=~?[`\"]", selectors))
            assert labels <= {*known.labels, "namespace", "release"}
            assert 'namespace="search",release="m"' in selectors
            if "model" in known.labels:
                assert r"model=~`BAAI/bge-reranker-v2-m3|Qwen/Qwen3-Reranker-0\.6B`" in selectors
            assert ("lane" not in selectors) or 'lane="interactive"' in selectors
    assert "millrace_backlog_seconds" in queries[0]


def test_keda_reaches_redis_from_its_own_namespace() -> None:
    values = merged(example("laptop"), {"poolDefaults": {"autoscaling": {"enabled": True}}})
    objects = rendered(values)
    (trigger, *_) = _triggers(objects, "default")

    assert trigger["metadata"]["address"] == "m-millrace-redis.search.svc:6379"
    (secret,) = find(objects, "TriggerAuthentication", trigger["authenticationRef"]["name"])["spec"]["secretTargetRef"]
    assert secret == {"parameter": "password", "name": "m-millrace-redis", "key": "password"}


def test_keda_asks_sentinels_where_the_service_does(releases: dict[str, list[Object]]) -> None:
    (trigger, *_) = _triggers(releases["eight-gpus"], "embed")

    assert trigger["type"] == "redis-sentinel"
    assert trigger["metadata"]["sentinelMaster"] == "millrace"
    assert len(trigger["metadata"]["addresses"].split(",")) == 3


def test_models_that_scale_to_zero_are_known_to_sleep(releases: dict[str, list[Object]]) -> None:
    models = yaml.safe_load(find(releases["eight-gpus"], "ConfigMap", "-models")["data"]["_all.yaml"])["models"]

    sleeping = {model["name"]: model.get("cold_start_s") for model in models}
    assert sleeping == {
        "BAAI/bge-m3": None,
        "BAAI/bge-reranker-v2-m3": 180,
        "Qwen/Qwen3-Reranker-0.6B": 180,
    }


def test_only_what_is_scaled_leaves_its_replicas_to_the_scaler(releases: dict[str, list[Object]]) -> None:
    assert "replicas" not in find(releases["eight-gpus"], "Deployment", "-worker-embed")["spec"]
    assert "replicas" not in find(releases["eight-gpus"], "Deployment", "-gateway")["spec"]
    assert find(releases["closed-network"], "Deployment", "-worker-embed")["spec"]["replicas"] == 2


def test_two_releases_in_a_namespace_do_not_scale_on_each_others_load() -> None:
    # Given two of them, which are scraped by the monitors of each
    for release in "ab":
        objects = rendered(example("eight-gpus"), release=release)
        monitors = [find(objects, "ServiceMonitor", "")["spec"]["endpoints"]]
        monitors += [find(objects, "PodMonitor", "")["spec"]["podMetricsEndpoints"]]

        # Then KEDA looks at the series that these mark as the release's own
        for (endpoint,) in monitors:
            assert {"targetLabel": "release", "replacement": release} in endpoint["relabelings"]
        queries = [each["metadata"]["query"] for each in _triggers(objects, "embed") if each["type"] == "prometheus"]
        assert len(queries) == 2
        for query in queries:
            assert query.count(f'release="{release}"') == query.count("namespace=")


def test_a_scaler_hears_of_every_request() -> None:
    # Redis tells for so long that a model is asked for: the slowest scaler that is let pass looks twice in that time.
    def with_interval(seconds: int) -> list[Object]:
        return rendered({"poolDefaults": {"autoscaling": {"enabled": True, "pollingInterval": seconds}}})

    slowest = int(AWAKE_TTL_S) // 2
    assert find(with_interval(slowest), "ScaledObject", "")["spec"]["pollingInterval"] == slowest
    with pytest.raises(Exception, match=f"pollingInterval is {slowest + 1} s; {slowest} is the most"):
        with_interval(slowest + 1)
