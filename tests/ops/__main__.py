"""`python -m tests.ops`: builds the images with an engine of its own, walks through docs/deploy.md, and prints what it saw.

Nothing is pulled from a registry: Debian's image is made from its packages, and so are stand-ins for Valkey, Prometheus and
Alertmanager. Grafana, which Debian does not have, is left out, and so are GPUs.
"""

import argparse
import asyncio
import signal
import sys
from functools import partial
from pathlib import Path

from tests.helpers.valkey import free_port
from tests.ops import air_gap, base_image, checkout, composition, image_checks, packages, questions
from tests.ops.commands import Unavailable, run
from tests.ops.engine import Engine, leftovers, running_engine
from tests.ops.lint import Tools
from tests.ops.load import Load
from tests.ops.report import Report

GATEWAY, WORKER = "millrace-gateway", "millrace-worker:cpu"
#: Of the index of packages. It must not be found in any image.
_INDEX_PASSWORD = "kept-out-of-every-layer"
_PROJECT = "millrace-test"
_LISTENING = ("GATEWAY", "FLOWER", "PROMETHEUS", "ALERTMANAGER")
#: What Prometheus watches, as deploy/prometheus/prometheus.yml has it, and how many processes of each.
_TARGETS = {
    "millrace-gateway": 1,
    "millrace-worker": 2,
    "millrace-jobs": 1,
    "millrace-callbacks": 1,
    "millrace-flower": 1,
    "alertmanager": 1,
    "prometheus": 1,
}


def main() -> int:
    """Run it; the exit status is 1 where something was not as it should be, 2 where this machine cannot run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.ops", description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=checkout.ROOT / "build" / "ops", help="folder for all that it makes"
    )
    parser.add_argument("--keep", action="store_true", help="keep the engine's images for the next run")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what runs is stopped in order
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    report = Report()
    try:
        report.step("Debian's packages", lambda: _install(work))
        tools = Tools(work)
        _lint(report, tools)
        with running_engine(work / "engine") as engine:
            try:
                _prove(report, engine, tools, work)
            finally:
                if not options.keep:
                    engine.stop()
                    engine.forget()
        report.step("the machine's network afterwards", _nothing_is_left)
    except Unavailable as err:
        print(err)  # noqa: T201 (a command line)
        return 2
    except Exception as err:  # noqa: BLE001 - whatever it was, it is in the table, and the table is what this is for
        print(f"{type(err).__name__}: {err}")  # noqa: T201 (a command line)
    print(report.text())  # noqa: T201 (a command line)
    return int(not all(row.passed for row in report.rows))


def _install(work: Path) -> str:
    packages.install()
    packages.unpack_plugins(work / "engine" / "config", work)
    return "engine, compose, buildx"


def _lint(report: Report, tools: Tools) -> None:
    report.step("hadolint", tools.hadolint)
    report.step("trivy: configuration", tools.trivy_configuration)


def _prove(report: Report, engine: Engine, tools: Tools, work: Path) -> None:
    log, clone = work / "build.log", work / "clone"
    log.unlink(missing_ok=True)
    checkout.make(clone)
    report.step("Debian's image, from packages", lambda: _make_images(engine, work, log))
    ports = {name: free_port() for name in _LISTENING}
    torch = next(
        line.removeprefix("torch==").strip()
        for line in (clone / "constraints.txt").read_text().splitlines()
        if line.startswith("torch==")
    )
    with base_image.torch_index(work, torch) as index:
        environment = {
            **engine.environment,
            **base_image.STAND_INS,
            **{f"{name}_LISTEN": f"127.0.0.1:{port}" for name, port in ports.items()},
            "COMPOSE_FILE": f"compose.yaml:{checkout.ROOT}/tests/ops/compose.override.yaml",
            "COMPOSE_PROJECT_NAME": _PROJECT,
            "COMPOSE_PROGRESS": "plain",
            "PIP_EXTRA_INDEX_URL": f"http://builder:{_INDEX_PASSWORD}@{index}",
        }
        replaced = {"127.0.0.1:8080": f"127.0.0.1:{ports['GATEWAY']}"}
        walk = checkout.Walk(clone, "One box", environment, replaced)
        report.step("`.env`, as documented", partial(_walk, walk, "cp .env.example", 60, "filled in"))
        report.step("millrace.env", lambda: composition.settings_take_effect(clone, environment))
        report.step("docker compose build", partial(_walk, walk, "docker compose build", 3600, "both images"))
    _check_images(report, engine, tools, work)
    try:
        report.step(
            "a bundle's images and model", lambda: air_gap.load(engine, base_image.DEBIAN, clone, work, environment)
        )
        report.step("docker compose up --wait", partial(_walk, walk, "docker compose up", 900, "every part is healthy"))
        _ask(report, engine, clone, walk, ports)
    finally:
        (work / "compose.log").write_text(
            run(["docker", "compose", "logs", "--no-color"], timeout_s=60, environment=environment, folder=clone)
        )
        report.step("docker compose down --volumes", partial(_walk, walk, "docker compose down --volumes", 180, "gone"))


def _make_images(engine: Engine, work: Path, log: Path) -> str:
    base_image.make_debian(engine, work, log)
    base_image.make_stand_ins(engine, log)
    return f"{image_checks.size(engine, base_image.DEBIAN) / 1e6:.0f} MB, and {len(base_image.STAND_INS)} stand-ins"


def _check_images(report: Report, engine: Engine, tools: Tools, work: Path) -> None:
    report.step("gateway's image", lambda: image_checks.gateway_is_slim(engine, GATEWAY, work))
    report.step("worker's image (CPU)", lambda: image_checks.torch_is_the_cpu_build(engine, WORKER))
    for name, image in (("gateway", GATEWAY), ("worker", WORKER)):
        report.step(f"{name}, confined", partial(image_checks.runs_confined, engine, image))
        report.step(f"{name}, health check", partial(image_checks.has_health_check_and_labels, engine, image))
        report.step(f"{name}, secrets", partial(_look_for_secrets, engine, tools, image, work))


def _look_for_secrets(engine: Engine, tools: Tools, image: str, work: Path) -> str:
    with image_checks.saved(engine, image, work) as archive:
        return f"{image_checks.holds_no_secret(archive, _INDEX_PASSWORD)}; {tools.trivy_secrets(archive)}"


def _ask(report: Report, engine: Engine, clone: Path, walk: checkout.Walk, ports: dict[str, int]) -> None:
    gateway, prometheus = (f"http://127.0.0.1:{ports[name]}" for name in ("GATEWAY", "PROMETHEUS"))
    flower = f"http://127.0.0.1:{ports['FLOWER']}"
    with questions.client(gateway) as client:
        report.step("curl, as documented", lambda: walk.run("curl", 60))
        report.step("embed", lambda: questions.embed(client))
        report.step("rerank", lambda: questions.rerank(client))
        job = report.step("bulk job", lambda: questions.bulk_job(client))
        report.step("millrace check", lambda: _self_test(gateway))
        report.step("console", lambda: questions.console(client, _TARGETS["millrace-worker"]))
        operator = checkout.setting(clone, "MILLRACE_FLOWER_PASSWORD")
        report.step("Flower", lambda: questions.flower(flower, operator))
        report.step("Prometheus", lambda: questions.targets(prometheus, _TARGETS))
        report.step("docker compose stop, under load", lambda: _stop_under_load(engine, walk))
        report.step(
            "docker compose up --wait, again", partial(_walk, walk, "docker compose up", 900, "every part is healthy")
        )
        report.step("the bulk job's results after that", lambda: f"{questions.results_of(client, job)} documents")


def _walk(walk: checkout.Walk, beginning: str, timeout_s: float, outcome: str) -> str:
    walk.run(beginning, timeout_s)
    return outcome


def _self_test(gateway: str) -> str:
    return run([sys.executable, "-m", "millrace.cli", "check", gateway], timeout_s=120).splitlines()[-1]


def _stop_under_load(engine: Engine, walk: checkout.Walk) -> str:
    # Straight to the gateway: Docker's own proxy of published ports takes connections that nobody will answer.
    container = engine.docker("ps", "--quiet", "--filter", f"name={_PROJECT}-gateway").strip()
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    load = Load(f"http://{engine.docker('inspect', '--format', template, container).strip()}:8080")

    async def stop() -> None:
        running = asyncio.create_task(load.run())
        await asyncio.sleep(5)
        await asyncio.to_thread(walk.run, "docker compose stop", 180)
        load.end()
        await running

    asyncio.run(stop())
    counts = load.outcomes.counts
    assert load.outcomes.lost == 0, counts
    assert counts["answered"] > 50, counts
    assert counts["refused"] > 0, counts
    return (
        f"{counts['answered']} answered (slowest {load.outcomes.slowest_s:.1f} s), {counts['refused']} refused, 0 lost"
    )


def _nothing_is_left() -> str:
    assert not (left := leftovers()), left
    return "no bridge, no chain, no rule left"


if __name__ == "__main__":
    sys.exit(main())
