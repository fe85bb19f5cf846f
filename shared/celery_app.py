"""The Celery application that workers and Flower share. It imports no task."""

from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit, urlunsplit

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection

from shared.redis_address import KEEPALIVE, sentinels_of
from shared.settings import Settings


class _Connection(Connection):
    """Reconnects quickly: Celery's own schedule (2, 4, 6 … 30 s) would add up to half a minute to an outage of Redis."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.update(interval_start=0.2, interval_step=0.2, interval_max=1.0)
        return super().ensure_connection(*args, **kwargs)

    def info(self) -> dict[str, Any]:
        """What a worker tells Flower and `celery inspect stats` of its connection.

        Sentinels' addresses and the transport's options stay here: they hold passwords, and the options' keys are numbers,
        which could not be read back.
        """
        return {**super().info(), "alternates": [], "transport_options": {}}


class _Amqp(AMQP):
    Connection = _Connection


def make_celery(settings: Settings) -> Celery:
    """A Celery application on the settings' Redis. Each setting that differs from Celery's default has its reason here."""
    url = settings.redis_url.get_secret_value()
    sentinels = sentinels_of(url)
    url = _verifying(url) if sentinels is None else sentinels.celery_url()
    options = {} if sentinels is None else sentinels.celery_options()
    tls = None if sentinels is None or sentinels.tls is None else dict(sentinels.tls)
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
        # We configure logging ourselves.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # Celery's "received" and "succeeded" lines would cost 60 µs a message and say nothing that our events do not.
        worker_send_task_events=True,
        task_send_sent_event=False,
        # The lists that we consume are exactly those that we name.
        task_create_missing_queues=True,
        broker_transport_options={
            # A consumer that has lost its connections without being told is back after twice the interval, the second
            # of its BRPOP, and the timeout of what it does on another connection.
            "health_check_interval": 2,
            "socket_timeout": 3.0,
            "socket_connect_timeout": 2.0,
            **KEEPALIVE,
            # One Redis list per queue: we have lanes, not Celery priorities.
            "priority_steps": [0],
            **options,
        },
        result_backend_transport_options=options,
        # Of an address without sentinels its scheme and query say it, but Flower looks here only, for the lengths of queues.
        broker_use_ssl=tls or _tls_of(url),
        redis_backend_use_ssl=tls,
        redis_socket_timeout=5.0,
        redis_socket_connect_timeout=2.0,
        redis_socket_keepalive=True,
        redis_backend_health_check_interval=5,
    )
    return app


def _verifying(url: str) -> str:
    """The same address; for `rediss://` Celery wants to be told to verify certificates, which redis-py does by itself."""
    parts = urlsplit(url)
    if parts.scheme != "rediss" or "ssl_cert_reqs" in parse_qs(parts.query):
        return url
    return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, "ssl_cert_reqs=required"]))))


def _tls_of(url: str) -> dict[str, str] | None:
    """How certificates are verified, of a `rediss://` address that says it in its query; None for another one."""
    parts = urlsplit(url)
    options = {name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl_")}
    return options if parts.scheme == "rediss" else None
