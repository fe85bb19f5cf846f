"""Traces, sent by OTLP over HTTP. Off unless an address is set; nothing of OpenTelemetry is imported before that."""

import os
from typing import Any

from shared import __version__
from shared.model_config import ConfigurationError

#: Below the collector's address, by the protocol.
_PATH = "/v1/traces"
#: The service's name where OTEL_SERVICE_NAME does not say another.
_NAME = "OTEL_SERVICE_NAME"


class Tracing:
    """Where the spans of a process are made, and sent from; what has no setting of ours follows the OTEL_* variables."""

    def __init__(self, endpoint: str, service: str, instance: str, *, chooses: bool) -> None:
        """Start sending.

        Args:
            endpoint: The collector's address, without the path.
            service: What the process is.
            instance: Which one.
            chooses: Whether it decides which traces are kept, as OTEL_TRACES_SAMPLER says; else it keeps what it makes.

        Raises:
            ConfigurationError: The packages for it are not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        except ImportError as err:
            raise ConfigurationError(
                "MILLRACE_OTLP_ENDPOINT is set, and what sends traces is not installed: pip install 'millrace[otel]'"
            ) from err
        attributes = {
            "service.name": os.environ.get(_NAME) or service,
            "service.version": __version__,
            "service.instance.id": instance,
        }
        self._provider = TracerProvider(
            sampler=None if chooses else ALWAYS_ON, resource=Resource.create(attributes), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + _PATH)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer: Any = self._provider.get_tracer("millrace", __version__)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
