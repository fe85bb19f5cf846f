"""No pod of the chart may do more than it has to, and none ends before its work."""

import math

import pytest

from tests.helpers.chart import EXAMPLES, Object, environment, find, pod_specs

each_example = pytest.mark.parametrize("name", ["", *EXAMPLES])

#: What belongs to a whole cluster.
CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "PriorityClass",
    "StorageClass",
    "PersistentVolume",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ClusterTriggerAuthentication",
}


@each_example
def test_nothing_belongs_to_the_whole_cluster(releases: dict[str, list[Object]], name: str) -> None:
    assert not {each["kind"] for each in releases[name]} & CLUSTER_SCOPED
    assert not any("namespace" in each["metadata"] for each in releases[name])


@each_example
def test_every_container_is_confined(releases: dict[str, list[Object]], name: str) -> None:
    pods = dict(pod_specs(releases[name]))

    assert len(pods) >= 4
    for pod, spec in pods.items():
        assert spec["securityContext"]["runAsNonRoot"] is True, pod
        assert spec["securityContext"]["runAsUser"] > 0, pod
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, pod
        assert spec["automountServiceAccountToken"] is False, pod
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
            }, pod
            assert container["resources"]["limits"]["memory"], pod
            assert container["resources"]["requests"]["cpu"], pod


@each_example
def test_a_service_is_no_setting(releases: dict[str, list[Object]], name: str) -> None:
    # A Service called millrace would be MILLRACE_PORT=tcp://… in every pod.
    for pod, spec in pod_specs(releases[name]):
        assert spec["enableServiceLinks"] is False, pod


@each_example
def test_no_secret_stands_in_the_environment(releases: dict[str, list[Object]], name: str) -> None:
    for _, spec in pod_specs(releases[name]):
        for container in spec["containers"]:
            for variable, value in environment(container).items():
                if any(word in variable for word in ("PASSWORD", "TOKEN", "API_KEY", "AUTH")):
                    assert value is None, variable
            url = environment(container).get("MILLRACE_REDIS_URL")
            assert not url or "@" not in url or "$(REDIS_PASSWORD)@" in url


@each_example
def test_a_pod_has_time_to_finish_what_it_has(releases: dict[str, list[Object]], name: str) -> None:
    for pod, spec in pod_specs(releases[name]):
        for container in spec["containers"]:
            said = environment(container)
            if "MILLRACE_DRAIN_S" in said and container["name"] != "flower":
                leaves_s = float(said.get("MILLRACE_LEAVE_AFTER_S") or 0)
                assert spec["terminationGracePeriodSeconds"] >= leaves_s + float(said["MILLRACE_DRAIN_S"] or 0) + 10, (
                    pod
                )


def test_a_worker_has_its_whole_start_budget(releases: dict[str, list[Object]]) -> None:
    for _, spec in pod_specs(releases["eight-gpus"]):
        for container in spec["containers"]:
            if container["name"] == "worker":
                probe = container["startupProbe"]
                budget_s = float(environment(container)["MILLRACE_ENGINE_START_TIMEOUT_S"] or 0)
                assert probe["periodSeconds"] * probe["failureThreshold"] >= math.ceil(budget_s)


def test_selectors_do_not_change_with_the_version(releases: dict[str, list[Object]]) -> None:
    for each in releases["eight-gpus"]:
        selector = each.get("spec", {}).get("selector", {})
        labels = selector.get("matchLabels", selector)
        if each["kind"] in {"Deployment", "StatefulSet", "Service", "PodDisruptionBudget"}:
            assert set(labels) <= {
                "app.kubernetes.io/name",
                "app.kubernetes.io/instance",
                "app.kubernetes.io/component",
                "pool",
            }


def test_a_closed_network_lets_nobody_out(releases: dict[str, list[Object]]) -> None:
    objects = releases["closed-network"]

    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    components = {each["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for each in policies}
    pods = {
        each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        for each in objects
        if "template" in each.get("spec", {})
    }
    assert pods <= components
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        for rule in policy["spec"]["egress"]:
            # DNS, or somebody who is named
            assert rule.get("to") or all(port["port"] == 53 for port in rule["ports"]), policy["metadata"]["name"]
    assert not any("initContainers" in spec for _, spec in pod_specs(objects))


def test_flower_asks_for_a_password(releases: dict[str, list[Object]]) -> None:
    (container,) = find(releases["one-gpu"], "Deployment", "-flower")["spec"]["template"]["spec"]["containers"]

    (entry,) = [entry for entry in container["env"] if entry["name"] == "MILLRACE_FLOWER_PASSWORD"]
    assert entry["valueFrom"]["secretKeyRef"] == {"name": "millrace-flower", "key": "basic-auth"}
