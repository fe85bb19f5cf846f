"""The callback worker's Celery application: its queue and its one task. No logic."""

from celery import Celery
from kombu import Exchange, Queue

from shared import keys
from shared.celery_app import make_celery
from shared.queues import CALLBACK_QUEUE, CALLBACK_TASK
from workers import transport
from workers.callbacks.courier import Courier
from workers.callbacks.settings import CallbackSettings


def make_callback_app(settings: CallbackSettings, courier: Courier, worker: str) -> Celery:
    """The application of one callback worker process.

    Args:
        settings: The deployment's.
        courier: Does the work.
        worker: This process's id.
    """
    transport.install()
    app = make_celery(settings)
    app.conf.update(
        task_queues=[Queue(CALLBACK_QUEUE, Exchange(""), routing_key=CALLBACK_QUEUE)],
        task_default_queue=CALLBACK_QUEUE,
        # So that threads that end together find work at once; what waits here too long is given to another worker.
        worker_prefetch_multiplier=2,
        worker_consumer="workers.consumer:Consumer",
    )
    app.conf.broker_transport_options.update(
        unacked_key=keys.unacked(worker), unacked_index_key=keys.unacked_index(worker)
    )
    app.drain_s = settings.drain_s

    def deliver(event: str, token: int) -> str:
        return courier.carry(event, token)

    # Acknowledged when it begins: from then on the event's own lease brings it back.
    app.task(deliver, name=CALLBACK_TASK, acks_late=False, ignore_result=True)
    return app
