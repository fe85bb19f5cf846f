"""A real Prometheus and a real Alertmanager, with the documentation's scrape configuration and the chart's rules."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.helpers.valkey import free_port
from tests.helpers.waiting import wait_until
from tests.monitoring.rules import ROOT, loaded
from tests.monitoring.tools import Tools

#: In the place of the minutes that rules wait, so that a run of a minute sees them fire.
_FOR = "2s"
_EVERY_SECOND = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0


def documented_scrapes() -> list[dict[str, Any]]:
    """The jobs that docs/howto/monitoring.md tells people to scrape."""
    page = (ROOT / "docs" / "howto" / "monitoring.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (block,) = (block for block in blocks if "scrape_configs" in block)
    scrapes: list[dict[str, Any]] = yaml.safe_load(block)["scrape_configs"]
    return scrapes


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now, each with its `metric` and its `value`; those that are no numbers are left out.

        Raises:
            ValueError: Prometheus does not understand it.
        """
        answer = self._client.get("/api/v1/query", params={"query": expression}).json()
        if answer["status"] != "success":
            raise ValueError(f"{answer['error']}: {expression}")
        return [series for series in answer["data"]["result"] if series["value"][1] != "NaN"]

    def close(self) -> None:
        """Give up the connection."""
        self._client.close()


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/ready", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def running(tools: Tools, folder: Path, ports: Mapping[str, int], webhook: str) -> Iterator[Prometheus]:
    """Prometheus and Alertmanager until the block ends.

    Args:
        tools: Where the programs are.
        folder: For their files.
        ports: Of the service's parts, by scrape job.
        webhook: Where alerts go.
    """
    prometheus_port, alertmanager_port = free_port(), free_port()
    _configure(folder, ports, webhook, alertmanager_port)
    alertmanager = [
        *(*tools.alertmanager(), f"--config.file={folder / 'alertmanager.yaml'}"),
        *(f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address="),
        f"--web.listen-address=127.0.0.1:{alertmanager_port}",
    ]
    server = _server(tools, folder, prometheus_port)
    prometheus = Prometheus(prometheus_port)
    with _process(alertmanager, folder / "alertmanager.log"), _process(server, folder / "prometheus.log"):
        for port in (prometheus_port, alertmanager_port):
            wait_until(
                lambda port=port: _is_ready(port), timeout_s=_START_TIMEOUT_S, what="Prometheus and Alertmanager"
            )
        yield prometheus
    prometheus.close()


@contextmanager
def scraping(tools: Tools, folder: Path, ports: Mapping[str, int], labels: Mapping[str, str]) -> Iterator[Prometheus]:
    """Prometheus alone, without rules, until the block ends.

    Args:
        tools: Where the program is.
        folder: For its files.
        ports: Of the service's parts, by scrape job.
        labels: Of all series, as a cluster's operator sets them.
    """
    scrapes = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": dict(labels)}]}
        for job, port in ports.items()
    ]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump({"global": _EVERY_SECOND, "scrape_configs": scrapes}))
    port = free_port()
    prometheus = Prometheus(port)
    with _process(_server(tools, folder, port), folder / "prometheus.log"):
        wait_until(lambda: _is_ready(port), timeout_s=_START_TIMEOUT_S, what="Prometheus")
        yield prometheus
    prometheus.close()


def _server(tools: Tools, folder: Path, port: int) -> list[str]:
    return [
        *(tools.path("prometheus"), f"--config.file={folder / 'prometheus.yaml'}"),
        *(f"--storage.tsdb.path={folder / 'prometheus'}", f"--web.listen-address=127.0.0.1:{port}"),
    ]


def _configure(folder: Path, ports: Mapping[str, int], webhook: str, alertmanager_port: int) -> None:
    rules = loaded()
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = _FOR
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules, sort_keys=False))
    scrapes = documented_scrapes()
    for scrape in scrapes:
        scrape["static_configs"] = [{"targets": [f"127.0.0.1:{ports[scrape['job_name']]}"]}]
    prometheus = {
        "global": _EVERY_SECOND,
        "rule_files": ["rules.yaml"],
        "scrape_configs": scrapes,
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]},
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(prometheus))
    route = {"receiver": "hook", "group_by": ["..."], "group_wait": "1s", "group_interval": "1s"}
    receivers = [{"name": "hook", "webhook_configs": [{"url": webhook, "send_resolved": True}]}]
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump({"route": route, "receivers": receivers}))


@contextmanager
def _process(command: list[str], log_file: Path) -> Iterator[None]:
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
