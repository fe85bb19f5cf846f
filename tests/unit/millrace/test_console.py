"""What `millrace serve` prints when it is ready."""

import pytest

from millrace.console import print_ready
from millrace.settings import ServeSettings


@pytest.mark.parametrize(
    ("workers", "line"),
    [
        (1, "http://127.0.0.1:9810/metrics (worker)"),
        (8, "http://127.0.0.1:9810/metrics to :9817 (workers, a port each)"),
    ],
)
def test_the_metrics_of_every_worker_are_told(capsys: pytest.CaptureFixture[str], workers: int, line: str) -> None:
    print_ready(ServeSettings.model_validate({"worker_metrics_port": 9810}), workers, 1.0)

    assert line in capsys.readouterr().out
