"""Keys: what is made, what is kept, and where they are looked for in a request."""

import hashlib

import pytest

from api.access.keys import PREFIX, digest_of, new_key, presented
from millrace.cli import main
from millrace.keys import first_key


def test_a_fresh_key_is_long_random_and_easy_to_find_in_a_repository() -> None:
    keys = {new_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(key.startswith(PREFIX) and len(key) == len(PREFIX) + 43 for key in keys)


def test_what_is_kept_of_a_key_is_its_sha256() -> None:
    assert digest_of(b"mr_abc").hex() == hashlib.sha256(b"mr_abc").hexdigest()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"authorization", b"Bearer mr_k"),
        (b"authorization", b"bearer  mr_k"),
        (b"authorization", b"BEARER mr_k"),
        (b"authorization", b"mr_k"),
        (b"x-api-key", b"mr_k"),
        (b"api-key", b"mr_k"),
    ],
)
def test_a_key_is_found_wherever_clients_put_it(name: bytes, value: bytes) -> None:
    assert list(presented([(b"host", b"h"), (name, value)])) == [b"mr_k"]


def test_every_key_that_a_request_brings_is_looked_at() -> None:
    assert list(presented([(b"authorization", b"Basic eDp5"), (b"api-key", b"mr_k")])) == [b"Basic eDp5", b"mr_k"]


@pytest.mark.parametrize("value", [b"", b"Bearer", b"Bearer ", b"x" * 513])
def test_nothing_and_what_is_too_long_to_be_a_key_is_passed_over(value: bytes) -> None:
    assert list(presented([(b"authorization", value)])) == []


def test_the_command_line_prints_a_key_and_the_entry_with_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    # When
    assert main(["keys", "create", "--tenant", "search", "--name", "backend"]) == 0

    # Then
    lines = capsys.readouterr().out.splitlines()
    (key,) = [line for line in lines if line.startswith(PREFIX)]
    assert lines[-5:] == [
        "tenants:",
        "  - name: search",
        "    keys:",
        "      - name: backend",
        f"        sha256: {hashlib.sha256(key.encode()).hexdigest()}",
    ]


def test_a_client_sends_the_first_of_several_keys() -> None:
    assert [first_key(listed) for listed in ("a, b", " a", "", None)] == ["a", "a", None, None]
