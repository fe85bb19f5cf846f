"""The Celery application that workers and Flower share. It imports no task."""

from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection

from shared.redis_patience import ANSWER_S, CONNECT_S, TEST_AFTER_S
from shared.settings import Settings


class _Connection(Connection):
    """Reconnects quickly: Celery's own schedule (2, 4, 6 … 30 s) would add up to half a minute to an outage of Redis."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.update(interval_start=0.2, interval_step=0.2, interval_max=1.0)
        return super().ensure_connection(*args, **kwargs)


class _Amqp(AMQP):
    Connection = _Connection


def make_celery(settings: Settings) -> Celery:
    """A Celery application on the settings' Redis. Each setting that differs from Celery's default has its reason here."""
    url = _verifying(settings.redis_url.get_secret_value())
    app = Celery("millrace", broker=url, backend=url, amqp=_Amqp, set_as_current=False)
    app.conf.update(
        # Vectors are bytes: msgpack carries them as they are. Never pickle.
        task_serializer="msgpack",
        result_serializer="msgpack",
        accept_content=["msgpack", "json"],
        result_expires=settings.result_ttl_s,
        # A worker that dies keeps its messages unacknowledged, so they come back.
        task_acks_late=True,
        # The default drops the tasks that run when the connection breaks; the pool finishes and answers them instead.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Celery would ask for fewer messages after each reconnect; the lanes' token caps already bound what is held.
        worker_enable_prefetch_count_reduction=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A command that Redis refuses, as a full disk or a replica does, would end the worker; it is a lost connection.
        broker_channel_error_retry=True,
        # We configure logging ourselves.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # Celery's "received" and "succeeded" lines would cost 60 µs a message and say nothing that our events do not.
        worker_send_task_events=True,
        task_send_sent_event=False,
        # The lists that we consume are exactly those that we name.
        task_create_missing_queues=True,
        broker_transport_options={
            "socket_timeout": ANSWER_S,
            "socket_connect_timeout": CONNECT_S,
            "socket_keepalive": True,
            # A half-open connection is noticed after brpop_timeout + twice this.
            "health_check_interval": TEST_AFTER_S,
            # One Redis list per queue: we have lanes, not Celery priorities.
            "priority_steps": [0],
        },
        redis_socket_timeout=ANSWER_S,
        redis_socket_connect_timeout=CONNECT_S,
        redis_socket_keepalive=True,
        redis_backend_health_check_interval=TEST_AFTER_S,
    )
    return app


def _verifying(url: str) -> str:
    """The same address; for `rediss://` Celery wants to be told to verify certificates, which redis-py does by itself."""
    parts = urlsplit(url)
    if parts.scheme != "rediss" or "ssl_cert_reqs" in parse_qs(parts.query):
        return url
    return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, "ssl_cert_reqs=required"]))))
