"""`millrace redis`: it gets through to whatever the deployment's address names, and the runbook's commands work."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from shared import keys
from tests.helpers.certificates import make_certificates
from tests.helpers.chart import find, rendered
from tests.helpers.sentinels import MASTER, PASSWORD, running_sentinel
from tests.helpers.tcp_proxy import running_proxy
from tests.helpers.valkey import ValkeyServer, free_port

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
COMMANDS = sorted({found.strip() for found in re.findall(r"millrace redis ([^`#\n]+)", RUNBOOK)})


def _run(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "millrace.cli", "redis", *words]
    environment = {**os.environ, "MILLRACE_REDIS_URL": url}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_a_password_without_a_user_is_sent_as_chart_and_compose_write_it(own_valkey: ValkeyServer) -> None:
    with Redis.from_url(own_valkey.url()) as redis:
        redis.config_set("requirepass", "secret")
    asked = _run(f"redis://:secret@127.0.0.1:{own_valkey.port}/0", "ping")
    refused = _run(f"redis://:wrong@127.0.0.1:{own_valkey.port}/0", "ping")

    assert (asked.returncode, asked.stdout) == (0, "PONG\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"millrace: 127.0.0.1:{own_valkey.port}: ")
    assert "wrong" not in refused.stderr


def test_tls_with_an_authority_of_its_own_is_spoken(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    with running_proxy(own_valkey.port, tls=certificates.server_context()) as proxy:
        asked = _run(f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={certificates.authority}", "ping")

    assert (asked.returncode, asked.stdout) == (0, "PONG\n"), asked.stderr


def test_sentinels_are_asked_for_the_primary(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    with running_sentinel(tmp_path, own_valkey.port) as port:
        url = f"sentinel://127.0.0.1:{port}/0?master={MASTER}&sentinel_password={PASSWORD}"
        asked = _run(url, "info", "replication")

    assert asked.returncode == 0, asked.stderr
    assert "role:master" in asked.stdout.splitlines()


def test_a_server_that_is_away_and_a_command_that_it_refuses_are_told(redis_url: str) -> None:
    away, refused = _run(f"redis://127.0.0.1:{free_port()}/0", "ping"), _run(redis_url, "lrange", "a")

    assert (away.returncode, refused.returncode) == (1, 1)
    assert "refused" in away.stderr.lower()
    assert "wrong number of arguments" in refused.stderr


def test_dead_letters_come_a_line_each(own_valkey: ValkeyServer) -> None:
    with Redis.from_url(own_valkey.url()) as redis:
        redis.rpush(keys.DEAD_LETTERS, '{"task": "a"}', '{"task": "b"}')

    asked = _run(own_valkey.url(), "lrange", keys.DEAD_LETTERS, "0", "-1")

    assert asked.stdout.splitlines() == ['{"task": "a"}', '{"task": "b"}']


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_runbook_work(own_valkey: ValkeyServer, command: str) -> None:
    finished = _run(own_valkey.url(), *shlex.split(command))

    assert finished.returncode == 0, finished.stderr


def test_the_runbook_knows_what_it_asks_redis_and_in_which_pods() -> None:
    # Given the names of the chart in a release called `millrace`
    objects = rendered({"flower": {"enabled": False}}, release="millrace")
    wanted = set(re.findall(r"exec (?:-it )?((?:deploy|statefulset)/[\w-]+)", RUNBOOK))

    assert len(COMMANDS) >= 6
    assert wanted
    kinds = {"deploy": "Deployment", "statefulset": "StatefulSet"}
    for each in wanted:
        kind, name = each.split("/")
        assert find(objects, kinds[kind], name)["metadata"]["name"] == name
