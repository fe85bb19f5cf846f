"""Network policies let through what the service needs, and nobody else."""

from typing import Any

import pytest

from tests.helpers.chart import Object, example, find, merged, rendered

HERE, THERE, MONITORING = ({"namespaceSelector": {"matchLabels": {"team": team}}} for team in ("a", "b", "ops"))


def _rendered(base: dict[str, Any], **said: Any) -> list[Object]:
    return rendered(merged(base, {"networkPolicies": {"enabled": True, **said}}))


def _policy(objects: list[Object], part: str) -> Object:
    spec: Object = find(objects, "NetworkPolicy", f"-{part}")["spec"]
    return spec


def _who(policy: Object, port: str) -> list[Object | None]:
    """Who may come to a port; None where a rule names nobody, which is everybody."""
    rules = [rule for rule in policy["ingress"] if port in [one["port"] for one in rule["ports"]]]
    return [peer for rule in rules for peer in rule.get("from", [None])]


def _ports(policy: Object) -> set[int]:
    """Ports that may be reached, beside those of DNS and of rules for whole networks."""
    return {one["port"] for rule in policy["egress"] for one in rule.get("ports", [])} - {53}


def test_prometheus_reaches_gateways_beside_those_who_may_ask() -> None:
    objects = _rendered({}, gatewayFrom=[HERE], metricsFrom=[MONITORING])

    who = _who(_policy(objects, "gateway"), "http")
    assert HERE in who
    assert MONITORING in who
    assert None not in who
    assert THERE not in who
    assert _who(_policy(objects, "worker"), "metrics") == [MONITORING]


def test_a_closed_network_has_its_gateways_watched(releases: dict[str, list[Object]]) -> None:
    (monitoring,) = example("closed-network")["networkPolicies"]["metricsFrom"]

    assert monitoring in _who(_policy(releases["closed-network"], "gateway"), "http")


@pytest.mark.parametrize("metrics", [[], [MONITORING]])
def test_where_nobody_is_named_everybody_may_ask(metrics: list[Object]) -> None:
    assert None in _who(_policy(_rendered({}, metricsFrom=metrics), "gateway"), "http")


def test_those_who_may_ask_are_not_all_where_metrics_are_everybodys() -> None:
    objects = _rendered({}, gatewayFrom=[HERE])

    assert None not in _who(_policy(objects, "gateway"), "http")
    assert _who(_policy(objects, "worker"), "metrics") == [None]


@pytest.mark.parametrize("part", ["gateway", "worker", "jobs", "callbacks", "flower"])
def test_every_part_reaches_sentinels_and_the_servers_that_they_name(part: str) -> None:
    assert _ports(_policy(_rendered(example("eight-gpus")), part)) == {6379, 26379}
    assert _ports(_policy(_rendered(example("eight-gpus"), redisPort=7000), part)) == {7000, 26379}


@pytest.mark.parametrize("part", ["gateway", "worker", "jobs", "callbacks", "flower"])
def test_every_part_reaches_a_server_at_its_port(part: str) -> None:
    values = {"redis": {"bundled": {"enabled": False}, "external": {"host": "redis.internal", "port": 6380}}}

    assert _ports(_policy(_rendered(values), part)) == {6380}
    assert _ports(_policy(_rendered({}), part)) == {6379}


def test_a_server_is_reached_only_where_it_is(releases: dict[str, list[Object]]) -> None:
    for part in ("gateway", "worker", "flower"):
        rules = _policy(releases["closed-network"], part)["egress"]
        (redis,) = [rule for rule in rules if {"port": 6380, "protocol": "TCP"} in rule["ports"]]
        assert redis["to"] == [{"ipBlock": {"cidr": "10.30.0.0/24"}}]


def test_keda_reaches_the_bundled_server_from_where_it_runs_and_nobody_else_does() -> None:
    values = {"poolDefaults": {"autoscaling": {"enabled": True}}}

    who = _who(_policy(_rendered(values, kedaFrom=[THERE]), "redis"), "redis")
    assert THERE in who
    assert None not in who
    assert len(who) == 2
    assert len(_who(_policy(_rendered({}), "redis"), "redis")) == 1


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://collector.monitoring.svc:4318", 4318),
        ("https://collector.example", 443),
        ("http://collector/prefix", 80),
        ("http://[fd00::1]:4318", 4318),
    ],
)
def test_a_collector_of_traces_is_reached_by_those_who_make_them(endpoint: str, port: int) -> None:
    objects = _rendered({"tracing": {"endpoint": endpoint}}, tracesTo=[MONITORING], internet=False)

    for part in ("gateway", "worker"):
        found = [rule for rule in _policy(objects, part)["egress"] if rule.get("to") == [MONITORING]]
        assert [rule["ports"] for rule in found] == [[{"port": port, "protocol": "TCP"}]]
    assert not [rule for rule in _policy(objects, "callbacks")["egress"] if rule.get("to") == [MONITORING]]
