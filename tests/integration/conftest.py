"""What tests on a real server share."""

from collections.abc import Iterator

import pytest
from celery import Celery
from kombu import Exchange, Queue
from pydantic import SecretStr

from shared.celery_app import make_celery
from shared.jobs import EmbedRequest, Task
from shared.queues import Lane, Operation, queue_name
from shared.settings import Settings
from workers.transport import FLOW

MODEL = "org/model"


@pytest.fixture
def celery_app(redis_url: str) -> Iterator[Celery]:
    """A plain Celery client of the service, with the queues declared as the workers declare them."""
    app = make_celery(Settings(redis_url=SecretStr(redis_url)))
    names = [queue_name(MODEL, lane) for lane in Lane]
    app.conf.task_queues = [Queue(name, Exchange(""), routing_key=name) for name in names]
    yield app
    app.backend.result_consumer.stop()
    app.backend.client.close()
    app.backend.client.connection_pool.disconnect()
    app.close()


@pytest.fixture
def embed_task() -> Task:
    """A task with texts of several scripts."""
    requests = [
        EmbedRequest(request_id="r1", deadline=2e9, texts=["one", "zwei ✓", "три"]),
        EmbedRequest(request_id="r2", deadline=2.1e9, texts=["four"], truncate=False, dimensions=8),
    ]
    return Task(model=MODEL, lane=Lane.INTERACTIVE, operation=Operation.EMBED, requests=requests)


@pytest.fixture
def flow() -> Iterator[None]:
    """The transport's switches, put back when the test ends."""
    yield
    FLOW.closed = frozenset()
    FLOW.settled = set()
    FLOW.restore_on_close = False
