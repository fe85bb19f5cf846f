"""The register: whose key it is, and following the file."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

import api.access.register
from api.access.caller import NO_LIMITS
from api.access.register import KeyRegister
from shared.access import RouteGroup, Scope
from shared.errors import Forbidden, Unauthenticated
from shared.model_config import ConfigurationError
from tests.helpers.keys_files import sha256, tenant, write_keys_file

NO_KEY = SecretStr("")


def test_keys_of_the_variable_may_do_everything() -> None:
    register = KeyRegister(SecretStr("first, second,"), None)

    callers = [register.authenticate([key]) for key in (b"first", b"second")]

    assert {caller.tenant for caller in callers} == {"default"}
    assert all(caller.scope.routes == frozenset(RouteGroup) for caller in callers)


def test_nothing_is_asked_for_where_nothing_is_declared() -> None:
    assert not KeyRegister(NO_KEY, None).is_on
    assert not KeyRegister(SecretStr(" , "), None).is_on


def test_a_file_without_tenants_lets_nobody_in(tmp_path: Path) -> None:
    register = KeyRegister(NO_KEY, write_keys_file(tmp_path / "keys.yaml"))

    assert register.is_on
    with pytest.raises(Unauthenticated, match="is not valid here"):
        register.authenticate([b"any"])


def test_a_request_without_a_key_is_told_how_to_send_one() -> None:
    with pytest.raises(Unauthenticated, match="none was sent: send one as `Authorization: Bearer <key>`"):
        KeyRegister(SecretStr("k"), None).authenticate([])


def test_a_wrong_key_is_not_repeated() -> None:
    key = secrets.token_hex()

    with pytest.raises(Unauthenticated) as raised:
        KeyRegister(SecretStr("k"), None).authenticate([key.encode()])

    assert key not in str(raised.value)


def test_one_valid_key_among_several_counts() -> None:
    assert KeyRegister(SecretStr("k"), None).authenticate([b"Basic eDp5", b"k"]).tenant == "default"


def test_a_key_whose_hash_begins_alike_is_another_key(tmp_path: Path) -> None:
    # Given a key of which only the first half of the hash is that of `k`
    entry = {"name": "x", "sha256": sha256("k")[:32] + "0" * 32}
    register = KeyRegister(NO_KEY, write_keys_file(tmp_path / "keys.yaml", {"name": "a", "keys": [entry]}))

    with pytest.raises(Unauthenticated):
        register.authenticate([b"k"])


def test_a_key_has_no_more_than_its_tenant(tmp_path: Path) -> None:
    entry = {"name": "x", "sha256": sha256("k"), "routes": ["embed"]}
    declared = {"name": "a", "keys": [entry], "models": ["m"], "routes": ["embed", "rerank"]}
    register = KeyRegister(NO_KEY, write_keys_file(tmp_path / "keys.yaml", declared))

    scope = register.authenticate([b"k"]).scope

    assert (scope.routes, scope.models) == (frozenset({RouteGroup.EMBED}), frozenset({"m"}))


def test_a_tenant_without_limits_has_nothing_counted(tmp_path: Path) -> None:
    tenants = [tenant("a", "k", limits={}), tenant("b", "l", limits={"concurrency": 2})]
    register = KeyRegister(SecretStr("m"), write_keys_file(tmp_path / "keys.yaml", *tenants))

    assert [register.authenticate([key]).limits is NO_LIMITS for key in (b"k", b"l", b"m")] == [True, False, True]


def test_a_job_may_use_what_its_tenant_may_now_and_its_key_might_then(tmp_path: Path) -> None:
    declared = tenant("a", "k", models=["m", "n"])
    register = KeyRegister(NO_KEY, write_keys_file(tmp_path / "keys.yaml", declared))

    owner = register.owner("a", Scope(models=frozenset({"n", "gone"})))

    assert (owner.tenant, owner.scope.models) == ("a", frozenset({"n"}))
    with pytest.raises(Forbidden, match="tenant 'b' is not among"):
        register.owner("b", None)


def test_a_job_made_without_a_key_runs_where_keys_are_asked_for_since() -> None:
    assert KeyRegister(SecretStr("k"), None).owner(None, None).scope.models is None


@asynccontextmanager
async def _watched(register: KeyRegister) -> AsyncIterator[Callable[[bytes], bool]]:
    """The register while it follows its file; tells whether it knows a key."""
    watching = asyncio.create_task(register.watch())

    def knows(key: bytes) -> bool:
        try:
            return bool(register.authenticate([key]))
        except Unauthenticated:
            return False

    try:
        yield knows
    finally:
        watching.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (the register has no event to wait for)
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.access.register, "WATCH_S", 0.01)


def test_a_key_is_replaced_while_a_store_that_hangs_has_all_threads(tmp_path: Path) -> None:
    path = write_keys_file(tmp_path / "keys.yaml", tenant("a", "old"))
    register = KeyRegister(NO_KEY, path)
    answers = threading.Event()

    async def replace() -> None:
        hanging = [asyncio.ensure_future(asyncio.to_thread(answers.wait)) for _ in range(100)]
        try:
            async with _watched(register) as knows:
                write_keys_file(path, tenant("a", "new"))
                await _until(lambda: knows(b"new") and not knows(b"old"))
        finally:
            answers.set()
            await asyncio.gather(*hanging)

    asyncio.run(replace())


def test_a_key_is_replaced_without_a_restart(tmp_path: Path) -> None:
    path = write_keys_file(tmp_path / "keys.yaml", tenant("a", "old"))
    register = KeyRegister(NO_KEY, path)

    async def replace() -> None:
        async with _watched(register) as knows:
            assert knows(b"old")
            write_keys_file(path, tenant("a", "old", "new"))
            await _until(lambda: knows(b"new"))
            assert knows(b"old")
            write_keys_file(path, tenant("a", "new"))
            await _until(lambda: not knows(b"old"))
            assert knows(b"new")

    asyncio.run(replace())


def test_a_broken_version_keeps_the_old_one_and_a_right_one_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_keys_file(tmp_path / "keys.yaml", tenant("a", "old"))
    register = KeyRegister(NO_KEY, path)
    refused: list[ConfigurationError] = []
    read = register._read

    def noting() -> object:
        try:
            return read()
        except ConfigurationError as err:
            refused.append(err)
            raise

    monkeypatch.setattr(register, "_read", noting)

    async def break_it() -> None:
        async with _watched(register) as knows:
            path.write_text("tenants: [")
            await _until(lambda: len(refused) == 1)
            assert knows(b"old")
            path.unlink()
            await _until(lambda: len(refused) == 2)
            assert knows(b"old")
            write_keys_file(path, tenant("a", "new"))
            await _until(lambda: knows(b"new"))
            assert not knows(b"old")

    asyncio.run(break_it())


def test_a_broken_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        KeyRegister(NO_KEY, tmp_path / "none.yaml")
