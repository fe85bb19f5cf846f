"""The worker's Celery application: queues, transport and task names. No logic."""

from typing import Any, NoReturn

from celery import Celery
from kombu import Exchange, Queue

from shared import keys
from shared.celery_app import make_celery
from shared.queues import Lane, Operation, queue_name, task_name
from workers import transport
from workers.runtime import Runtime

#: Messages that a worker takes ahead. The lanes' token limits are what really bounds it (see `workers.transport`).
_PREFETCH = 256


def make_worker_app(runtime: Runtime) -> Celery:
    """The application of one worker process."""
    transport.install()
    app = make_celery(runtime.settings)
    models = runtime.settings.models()
    # All interactive lanes before all bulk lanes: BRPOP looks at its keys in order.
    names = [queue_name(model.name, lane) for lane in Lane for model in models]
    app.conf.update(
        task_queues=[Queue(name, Exchange(""), routing_key=name) for name in names],
        task_default_queue=names[0],
        worker_prefetch_multiplier=_PREFETCH,
        worker_consumer="workers.consumer:Consumer",
        worker_send_task_events=runtime.settings.task_events,
    )
    app.conf.broker_transport_options.update(
        queue_order_strategy="workers.transport:OpenLanes",
        unacked_key=keys.unacked(runtime.worker),
        unacked_index_key=keys.unacked_index(runtime.worker),
    )
    app.runtime = runtime
    for operation in Operation:
        app.task(_run_by_the_pool, name=task_name(operation), acks_late=True, Request="workers.consumer:Request")
    return app


def _run_by_the_pool(**_: Any) -> NoReturn:
    """Body of the batched tasks: never called, because `workers.pool.BatchPool` takes their messages."""
    raise RuntimeError("this task runs in workers.pool:BatchPool only")
