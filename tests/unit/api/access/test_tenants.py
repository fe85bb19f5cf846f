"""The keys file: what may stand in it, and what is said of one that is wrong."""

from pathlib import Path
from typing import Any

import pytest

from api.access.tenants import read_tenants
from shared.access import ORDINARY_ROUTES, RouteGroup, Scope
from shared.model_config import ConfigurationError
from shared.queues import Lane
from tests.helpers.keys_files import sha256, tenant, write_keys_file

KEY = {"name": "x", "sha256": sha256("k")}


def test_a_tenant_that_says_nothing_may_use_all_but_the_routes_of_operators(tmp_path: Path) -> None:
    (found,) = read_tenants(write_keys_file(tmp_path / "keys.yaml", tenant("search", "k")))

    assert found.allowed == Scope(models=None, routes=ORDINARY_ROUTES, lanes=frozenset(Lane))
    assert RouteGroup.ADMIN not in found.allowed.routes


def test_a_tenant_may_use_what_it_names(tmp_path: Path) -> None:
    declared = tenant("search", "k", models=["m"], routes=["embed", "admin"], lanes=["bulk"])

    (found,) = read_tenants(write_keys_file(tmp_path / "keys.yaml", declared))

    assert found.allowed == Scope(
        models=frozenset({"m"}),
        routes=frozenset({RouteGroup.EMBED, RouteGroup.ADMIN}),
        lanes=frozenset({Lane.BULK}),
    )


@pytest.mark.parametrize(
    ("tenants", "sentence"),
    [
        ([{**tenant("a", "k"), "colour": "red"}], r"tenants\.0\.colour: Extra inputs are not permitted"),
        ([tenant("a b", "k")], r"tenants\.0\.name: String should match pattern"),
        ([tenant("a", "k", routes=["embd"])], r"tenants\.0\.routes\.0: Input should be 'embed'"),
        ([tenant("a", "k"), tenant("a", "l")], "two tenants have one name"),
        ([tenant("a", "k"), tenant("b", "k")], "the keys a/key-1 and b/key-1 are the same"),
        ([tenant("default", "k")], "the tenant of MILLRACE_API_KEY is called 'default'; take another name"),
        ([{"name": "a", "keys": [{"name": "x", "sha256": "mr_plain"}]}], r"keys\.0\.sha256: String should match"),
        ([{"name": "a", "keys": [{"name": "x", "sha256": sha256(k)} for k in "kl"]}], "two keys of one name"),
        (
            [{**tenant("a", "k"), "keys": [{**KEY, "routes": ["admin"]}]}],
            "key x names admin in routes, which its tenant",
        ),
        ([{**tenant("a", "k"), "keys": [{**KEY, "models": ["n"]}], "models": ["m"]}], "key x names n in models"),
        ([{**tenant("a", "k"), "keys": [{**KEY, "lanes": ["bulk"]}], "lanes": ["interactive"]}], "names bulk in lanes"),
        (
            [tenant("a", "k", limits={"requests": "many"})],
            r"limits\.requests: Value error, must be an amount per interval",
        ),
        ([tenant("a", "k", limits={"requests": "9/minute;1/second"})], "must be an amount per interval, one of them"),
        ([tenant("a", "k", limits={"tokens": "10 per 0 minutes"})], "must have an interval longer than nothing"),
        ([tenant("a", "k", limits={"concurrency": 0})], r"limits\.concurrency: Input should be greater than"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path: Path, tenants: list[Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as raised:
        read_tenants(write_keys_file(tmp_path / "keys.yaml", *tenants))

    assert str(raised.value).startswith(f"{tmp_path}/keys.yaml: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        *("tenants: [mr_secret", "mr_secret: [", "tenants: mr_secret", "\x00mr_secret", "- mr_secret"),
        # What YAML takes for dates and numbers, and Python does not
        *(
            "mr_secret: 2026-02-30",
            "mr_secret: 2026-01-01T00:00:00+99:00",
            "mr_secret: 0b_",
            "mr_secret: " + "9" * 5000,
        ),
        "[" * 3000,
    ],
    ids=range(10),
)
def test_what_is_said_of_a_wrong_file_repeats_nothing_that_is_in_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as raised:
        read_tenants(path)

    assert "mr_secret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_file_that_is_not_there_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"keys.yaml \(MILLRACE_KEYS_FILE\) cannot be read: No such file"):
        read_tenants(tmp_path / "keys.yaml")


def test_scopes_intersect() -> None:
    one = Scope(models=frozenset({"a", "b"}), lanes=frozenset({Lane.BULK}))
    other = Scope(models=frozenset({"b"}), routes=frozenset({RouteGroup.EMBED, RouteGroup.ADMIN}))

    both = one.within(other)

    assert both == Scope(models=frozenset({"b"}), routes=frozenset({RouteGroup.EMBED}), lanes=frozenset({Lane.BULK}))
    assert Scope().within(Scope()).models is None
