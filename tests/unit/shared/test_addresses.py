"""Hosts that an operator allows though they are internal."""

import pytest

from shared.addresses import AllowedHosts
from shared.bulk.webhook_urls import checked_url
from shared.errors import InvalidRequest

ALLOWED = AllowedHosts.listed(" hooks.internal, 127.0.0.1:9000 ,[::1]:9000,10.1.0.0/16, fd00::/8")


@pytest.mark.parametrize(
    ("host", "port", "addresses", "allowed"),
    [
        ("hooks.internal", 443, ["10.9.9.9"], True),
        ("HOOKS.internal", 80, ["10.9.9.9"], True),
        ("127.0.0.1", 9000, ["127.0.0.1"], True),
        ("127.0.0.1", 9001, ["127.0.0.1"], False),
        ("::1", 9000, ["::1"], True),
        ("other.internal", 443, ["10.1.2.3"], True),
        ("other.internal", 443, ["10.1.2.3", "10.2.2.3"], False),
        ("other.internal", 443, ["fd00::5"], True),
        ("other.internal", 443, ["8.8.8.8"], False),
    ],
)
def test_a_host_is_allowed_by_its_name_or_by_all_of_its_addresses(
    host: str, port: int, addresses: list[str], allowed: bool
) -> None:
    assert ALLOWED.allows(host, port, addresses) is allowed


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://hooks.internal/a", True),
        ("http://127.0.0.1:9000/a", True),
        ("http://127.0.0.1/a", False),
        ("http://10.1.2.3/a", True),
        ("https://10.2.2.3/a", False),
        ("http://8.8.8.8/a", False),
        ("https://8.8.8.8/a", True),
        ("http://other.internal/a", True),  # its addresses are looked at when it is connected to
    ],
)
def test_a_webhooks_url_is_https_or_leads_to_an_allowed_host(url: str, allowed: bool) -> None:
    if allowed:
        assert checked_url(url, ALLOWED) == url
    else:
        with pytest.raises(InvalidRequest):
            checked_url(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        *("https://xn--/", "https://xn--a/", "https://exa mple.com/", "https://exa%20mple.com/", "https://a..b/"),
        *(
            "https://.com/",
            "https://-a.com/",
            "https://a,b.com/",
            f"https://{'a' * 64}.com/",
            f"https://{'a.' * 127}com/",
        ),
    ],
)
def test_a_host_that_could_never_be_looked_up_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        checked_url(url, ALLOWED)


@pytest.mark.parametrize("url", ["https://bücher.example/", "https://xn--bcher-kva.example/", "https://a_b.example./x"])
def test_names_in_any_script_and_with_a_dot_at_the_end_are_hosts(url: str) -> None:
    assert checked_url(url, ALLOWED) == url
