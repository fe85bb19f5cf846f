"""The notes say what is left to do, and what would not work."""

import re

from tests.helpers.chart import example, merged, notes

TENANTS = {"auth": {"keysFileSecret": {"name": "tenants"}}}
SLEEPING = {"poolDefaults": {"autoscaling": {"enabled": True}}}
PEER = {"podSelector": {}}


def test_a_self_test_that_lacks_a_key_is_told_of() -> None:
    assert "it needs a key" in notes(TENANTS)
    for more in ({"check": {"apiKeySecret": {"name": "k"}}}, {"auth": {"apiKeySecret": {"name": "k"}}}):
        assert "it needs a key" not in notes(merged(TENANTS, more))
    assert "it needs a key" not in notes({})


def test_a_self_test_that_wakes_models_gets_the_time_for_it() -> None:
    assert "check.wakeSeconds has it wake them" in notes(SLEEPING)
    waking = notes({**SLEEPING, "check": {"wakeSeconds": 400}})
    assert re.search(r"helm -n search test m --timeout 520s$", waking, flags=re.MULTILINE)
    assert "check.wakeSeconds" not in waking
    assert "check.wakeSeconds" not in notes({})


def test_storage_that_a_cluster_may_not_have_is_told_of() -> None:
    assert "m-millrace-store, which is ReadWriteMany" in notes({})
    assert "ReadWriteMany" not in notes(example("laptop"))
    assert "ReadWriteMany" not in notes({"store": {"url": "s3://bucket"}})
    assert "ReadWriteMany" not in notes({"jobs": {"enabled": False}})


def test_callbacks_that_nobody_sends_are_told_of() -> None:
    assert "wait for a callback worker" in notes({"callbacks": {"enabled": False}})
    assert "wait for a callback worker" not in notes({"callbacks": {"enabled": False}, "jobs": {"enabled": False}})
    assert "wait for a callback worker" not in notes({})


def test_a_prometheus_that_may_be_shut_out_is_told_of() -> None:
    policies = {"enabled": True, "gatewayFrom": [PEER]}
    assert "Is Prometheus among them?" in notes({"networkPolicies": policies})
    assert "Is Prometheus among them?" not in notes({"networkPolicies": {**policies, "metricsFrom": [PEER]}})
