"""Addresses of Redis: one server, or sentinels."""

import pytest

from shared.redis_address import Sentinels, connect, sentinels_of, without_password

SEVERAL = "sentinel://ann:p%40ss@a:1;sentinel://b;c:3/2?master=mill&sentinel_password=watch"


def test_a_servers_address_has_no_sentinels() -> None:
    for url in ("redis://:secret@host:6379/0", "rediss://host", "unix:///run/redis.sock"):
        assert sentinels_of(url) is None


def test_sentinels_are_read_with_all_that_stands_beside_them() -> None:
    assert sentinels_of(SEVERAL) == Sentinels(
        hosts=(("a", 1), ("b", 26379), ("c", 3)),
        master="mill",
        db=2,
        username="ann",
        password="p@ss",
        sentinel_username=None,
        sentinel_password="watch",
    )


def test_one_sentinel_is_enough() -> None:
    found = sentinels_of("sentinel://a:1?master=mill")

    assert found is not None
    assert (found.hosts, found.db, found.password) == ((("a", 1),), 0, None)


def test_tls_is_for_sentinels_and_servers() -> None:
    found = sentinels_of("sentinel://a:1?master=mill&ssl=true&ssl_ca_certs=/ca.pem")

    assert found is not None
    assert found.tls == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}
    for options in (found.server_options(), found.sentinel_options()):
        assert options["ssl"] is True
        assert options["ssl_ca_certs"] == "/ca.pem"


def test_celery_is_given_the_same_sentinels_and_credentials() -> None:
    found = sentinels_of(SEVERAL)

    assert found is not None
    assert found.celery_url() == ";".join(f"sentinel://ann:p%40ss@{host}/2" for host in ("a:1", "b:26379", "c:3"))
    assert found.celery_options()["master_name"] == "mill"
    assert found.celery_options()["sentinel_kwargs"]["password"] == "watch"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sentinel://:secret@a:1/0", "name of the primary"),
        ("sentinel://:secret@a:1/0?master=mill&db=3", "unknown option 'db'"),
        ("sentinel://:secret@a:1/mill?master=mill", "number of a database"),
        ("sentinel://:secret@a:1;redis://b:2/0?master=mill", "separated by semicolons"),
        ("sentinel://:secret@/0?master=mill", "separated by semicolons"),
        ("sentinel://:secret@a:1/0?master=mill&ssl=yes", "true or false"),
        ("sentinel://:secret@a:1/0?master=mill&ssl_ca_certs=/ca.pem", "needs ssl=true"),
    ],
)
def test_a_wrong_address_is_refused_with_its_reason_and_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        sentinels_of(url)

    assert "secret" not in str(raised.value)


def test_no_password_is_shown() -> None:
    assert without_password("redis://ann:secret@host:7/0") == "host:7"
    assert without_password("unix:///run/redis.sock") == "/run/redis.sock"
    assert without_password(SEVERAL) == "the primary 'mill' of the sentinels a:1, b:26379, c:3"


def test_a_client_names_the_database_and_the_user() -> None:
    options = connect("sentinel://ann:secret@a:1/4?master=mill").connection_pool.connection_kwargs

    assert (options["db"], options["username"], options["password"]) == (4, "ann", "secret")
