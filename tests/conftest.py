"""Fixtures of all tiers. The environment is cleared before anything of ours is imported: no test depends on the shell."""

import gc
import os
from collections.abc import Iterator

for _name in [name for name in os.environ if name.startswith("MILLRACE_")]:
    del os.environ[_name]
# No test fetches anything; the hub's client reads these when it is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from redis import Redis  # noqa: E402

from tests.helpers.valkey import ValkeyServer, running_valkey  # noqa: E402

# Shared cores make single examples slow now and then; that is not what the properties are about.
settings.register_profile("millrace", deadline=None, print_blob=True)
settings.load_profile("millrace")


@pytest.fixture(scope="module", autouse=True)
def _what_is_left_open() -> Iterator[None]:
    """Tell of sockets and event loops that a module's tests leave open there, not wherever garbage is next collected."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A real server for the whole session; that it cannot start is a failure, never a skip."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_url(valkey: ValkeyServer) -> str:
    """Its address."""
    return valkey.url()


@pytest.fixture
def redis_url(valkey_url: str) -> str:
    """The session's server, emptied."""
    with Redis.from_url(valkey_url) as client:
        client.flushall()
    return valkey_url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of the emptied server."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A server of one test's own, to be stopped and started at will."""
    with running_valkey(tmp_path_factory.mktemp("own-valkey")) as server:
        yield server
