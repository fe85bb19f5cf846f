"""Images and compose file say what the code does."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from api.health import LIVENESS_PATHS, READINESS_PATHS
from millrace.cli import _parser
from millrace.settings import ServeSettings
from millrace.supervision import STOP_SLACK_S
from shared.operations import LIVENESS_PATH, TARGETS_PATH
from shared.settings import PREFIX
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = [ROOT / "api" / "Dockerfile", ROOT / "workers" / "Dockerfile"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Parts of ours, by the images that they run from.
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
#: Made by other parts of the repository than these files.
_CHARTS_FILES = "./helm/millrace/files/"

FIELDS = {**ServeSettings.model_fields, **WorkerSettings.model_fields}
PORTS = {
    "gateway": FIELDS["port"].default,
    "jobs": FIELDS["runner_metrics_port"].default,
    "callbacks": FIELDS["callbacks_metrics_port"].default,
    "flower": FIELDS["flower_port"].default,
    "worker-cpu": FIELDS["worker_metrics_port"].default,
    "worker-gpu": FIELDS["worker_metrics_port"].default,
}


def _environment_example() -> dict[str, str]:
    """Every variable of `.env.example`, those that are commented out too."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", "\n".join(lines), flags=re.MULTILINE))


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
    elif isinstance(node, str):
        yield node


def _settings_files(name: str) -> list[str]:
    """The files that a part's variables come from, in compose's order: what stands in a later one wins."""
    return [file if isinstance(file, str) else file["path"] for file in OURS[name]["env_file"]]


def _lines(file: str) -> list[str]:
    return [line for line in (ROOT / file).read_text().splitlines() if line and line[0] != "#"]


def _substituted() -> dict[str, set[str]]:
    """Every variable that compose fills in, and its defaults; none where it is handed on as it is."""
    found: dict[str, set[str]] = {}
    lines = [line for file in (ROOT / "deploy" / "environment").iterdir() for line in _lines(str(file))]
    for text in [*_texts(COMPOSE), *lines]:
        for name, default in re.findall(r"(?<!\$)\$\{([A-Z_]+)(?::?-([^}]*))?", text):
            found.setdefault(name, set()).add(default)
    for service in OURS.values():
        for name, value in service["build"]["args"].items():
            if value is None:
                found.setdefault(name, set())
    for line in lines:
        if "=" not in line:
            found.setdefault(line, set())
    return found


def test_compose_fills_in_what_the_example_shows_and_with_the_same_defaults() -> None:
    shown, used = _environment_example(), _substituted()

    assert set(used) == set(shown) - {"COMPOSE_PROFILES"}
    for name, defaults in used.items():
        assert defaults - {""} <= {shown[name]}, name


@pytest.mark.parametrize("name", OURS)
def test_what_stands_in_millrace_env_takes_effect(name: str) -> None:
    # In compose whatever `environment` names wins over files, though it has no value there: the variable is then taken away.
    assert OURS[name].get("environment", {}) == {}
    assert _settings_files(name)[-1] == "millrace.env"
    assert all((ROOT / file).exists() for file in _settings_files(name)[:-1])


@pytest.mark.parametrize(
    ("secret", "parts"), [("HF_TOKEN", {"worker-cpu", "worker-gpu"}), ("MILLRACE_FLOWER_PASSWORD", {"flower"})]
)
def test_a_secret_is_given_to_who_needs_it(secret: str, parts: set[str]) -> None:
    given = {
        name
        for name in OURS
        if any(re.match(rf"{secret}\b", line) for file in _settings_files(name)[:-1] for line in _lines(file))
    }

    assert given == parts
    for name, service in SERVICES.items():
        assert name in OURS or secret not in service.get("environment", {})


def test_every_setting_that_containers_are_given_is_one() -> None:
    settings = {PREFIX + name.upper() for name in FIELDS}
    files = [ROOT / "compose.yaml", ROOT / ".env.example", ROOT / "docs" / "deploy.md", *DOCKERFILES]
    files += (ROOT / "deploy" / "environment").iterdir()
    named = {name for file in files for name in re.findall(r"\bMILLRACE_[A-Z_]*[A-Z]\b", file.read_text())}

    assert len(named) > 10
    assert named <= settings


def test_no_password_has_a_default() -> None:
    shown = _environment_example()

    assert [name for name in shown if name.endswith("PASSWORD") and shown[name]] == []
    given = [*_texts(COMPOSE), *_lines("deploy/environment/flower.env")]
    asked_for = {name for text in given for name in re.findall(r"(?<!\$)\$\{([A-Z_]*PASSWORD):\?", text)}
    assert asked_for == {name for name in shown if name.endswith("PASSWORD")}
    for text in given:
        assert not re.search(r"PASSWORD:?-", text)


@pytest.mark.parametrize("name", OURS)
def test_a_part_runs_a_command_that_there_is(name: str) -> None:
    command = OURS[name].get("command", ["worker"])

    assert _parser().parse_args(command)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_an_image_runs_a_command_that_there_is(file: Path) -> None:
    (command,) = re.findall(r'^CMD \["(\w+)"\]$', file.read_text(), flags=re.MULTILINE)

    assert _parser().parse_args([command])


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.parent.name)
def test_what_a_linter_is_not_to_say_has_its_reason(file: Path) -> None:
    lines = file.read_text().splitlines()

    excused = [index for index, line in enumerate(lines) if "hadolint ignore" in line]
    assert excused
    for index in excused:
        assert re.match(r"# (?!hadolint)", lines[index - 1]), f"{file.parent.name}, line {index + 1}"


@pytest.mark.parametrize("name", OURS)
def test_a_part_is_asked_for_its_health_where_it_tells_it(name: str) -> None:
    check = OURS[name].get("healthcheck", {}).get("test") or _health_check(ROOT / "workers" / "Dockerfile")
    # Flower's path begins with its prefix, if it has one.
    url = urlsplit(re.sub(r"\$\{\w+:\+[^}]*\}", "", check[-1]))
    known = {"gateway": {*LIVENESS_PATHS, *READINESS_PATHS}, "flower": {"/healthcheck"}}

    assert url.port == PORTS[name]
    assert url.path in known.get(name, {LIVENESS_PATH})


def test_the_gateways_image_is_asked_for_its_health_where_it_tells_it() -> None:
    url = urlsplit(_health_check(ROOT / "api" / "Dockerfile")[-1])

    assert (url.port, url.path) == (PORTS["gateway"], LIVENESS_PATH)


def _health_check(file: Path) -> list[str]:
    (command,) = re.findall(r"^ +CMD (\[.*\])$", file.read_text(), flags=re.MULTILINE)
    check: list[str] = yaml.safe_load(command)
    return check


def test_prometheus_scrapes_parts_at_their_ports() -> None:
    configuration = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    ports = {**PORTS, "alertmanager": 9093, "localhost": 9090}
    targets: list[str] = []
    for job in configuration["scrape_configs"]:
        targets += [target for group in job.get("static_configs", []) for target in group["targets"]]
        for asked in map(urlsplit, (found["url"] for found in job.get("http_sd_configs", []))):
            assert asked.path == TARGETS_PATH
            targets.append(asked.netloc)

    assert {target.partition(":")[0] for target in targets} == ports.keys()
    for target in targets:
        host, _, port = target.partition(":")
        assert int(port) == ports[host], target


def test_every_file_that_is_mounted_is_there() -> None:
    sources = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if volume[0] == "."
    }

    assert len(sources) > 4
    for source in sources:
        assert source.startswith(_CHARTS_FILES) or (ROOT / source).exists(), source


def test_no_part_may_do_more_than_it_has_to() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service
        assert "cap_add" not in service
        if name not in OURS:
            assert re.fullmatch(r"\d+:\d+", service["user"]), name
    for file in DOCKERFILES:
        assert re.findall(r"^USER (.*)$", file.read_text(), flags=re.MULTILINE)[-1] == "10001:10001"


@pytest.mark.parametrize("name", sorted(OURS.keys() - {"flower"}))  # which has nothing to finish
def test_a_part_has_its_drain_time_before_it_is_killed_however_long_that_is(name: str) -> None:
    given = {"MILLRACE_DRAIN_S": "120", "MILLRACE_LEAVE_AFTER_S": "2.5"}

    assert _grace_s(name, {}) > FIELDS["leave_after_s"].default + FIELDS["drain_s"].default + STOP_SLACK_S
    assert _grace_s(name, given) > 122.5 + STOP_SLACK_S
    assert given.keys() <= set(_lines(_settings_files(name)[0]))


def _grace_s(name: str, given: Mapping[str, str]) -> float:
    """Compose's duration, whose terms are added up, with variables filled in."""
    text: str = OURS[name]["stop_grace_period"]
    filled = re.sub(r"\$\{(\w+):-(\w+)\}", lambda found: given.get(found[1], found[2]), text)
    assert re.fullmatch(r"([\d.]+s)+", filled), filled
    return sum(float(term) for term in filled.split("s")[:-1])


def test_what_a_part_needs_is_stopped_after_it() -> None:
    assert {"redis", "worker-cpu", "worker-gpu", "jobs", "callbacks"} == set(SERVICES["gateway"]["depends_on"])
    assert {"redis", "worker-cpu", "worker-gpu", "callbacks"} == set(SERVICES["jobs"]["depends_on"])
    for name in ("worker-cpu", "worker-gpu", "callbacks", "flower"):
        assert set(SERVICES[name]["depends_on"]) == {"redis"}


def test_ports_are_open_to_this_machine_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert len(published) == 5
    for port in published:
        assert re.fullmatch(r"\$\{[A-Z]+_LISTEN:-127\.0\.0\.1:(\d+)\}:\1", port), port


def test_extras_of_images_are_extras_of_the_project() -> None:
    known = set(PROJECT["project"]["optional-dependencies"])
    named = [re.findall(r"^ARG EXTRAS=(.*)$", file.read_text(), flags=re.MULTILINE)[0] for file in DOCKERFILES]
    named += re.findall(r"GATEWAY_EXTRAS=([\w,]+)", (ROOT / "docs" / "deploy.md").read_text())
    named.append(_environment_example()["GATEWAY_EXTRAS"])

    for extras in named:
        assert set(extras.split(",")) <= known, extras


def test_images_can_send_traces() -> None:
    for file in DOCKERFILES:
        (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", file.read_text(), flags=re.MULTILINE)
        assert "otel" in extras.split(","), file
    assert "otel" in _environment_example()["GATEWAY_EXTRAS"].split(",")


def test_an_images_build_sees_the_service_and_what_it_is_built_by() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}

    assert let_in == packages | {"pyproject.toml", "constraints.txt", PROJECT["project"]["readme"], "LICENSE"}


def test_models_that_images_bring_are_pinned() -> None:
    (models,) = re.findall(r"^ARG MODELS=(.*)$", (ROOT / "workers" / "Dockerfile").read_text(), flags=re.MULTILINE)
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}

    assert set(shlex.split(models)) <= pinned
