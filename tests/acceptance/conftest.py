"""One service for all tests that only ask it questions."""

from collections.abc import Iterator

import pytest

from tests.helpers.service import Service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service on embedded defaults, with Flower (whose API is opened for the tests)."""
    service = Service(tmp_path_factory.mktemp("service"), {"FLOWER_UNAUTHENTICATED_API": "true"})
    service.environment["MILLRACE_FLOWER_PORT"] = str(service.flower_port)
    service.start()
    yield service
    service.stop()
