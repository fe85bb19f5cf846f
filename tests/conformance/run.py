"""Running the clients, some at a time: each in a process of its own, case after case."""

import queue
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.conformance.cases import CASES, Case, Target, arguments
from tests.conformance.client_files import FOLDER, NODE, REQUIREMENTS, ClientFile
from tests.conformance.conversation import ClientDied, Conversation
from tests.conformance.judge import Numbers, Outcome, Verdict, judge
from tests.conformance.matrix import Row, not_a_case, totals
from tests.conformance.targets import OPENAI_TABLE, requests_answered

#: Longest call, in seconds; clients that wait for Retry-After take a few.
_TIMEOUT_S = 60.0


class Environments:
    """Where the clients' packages are."""

    def __init__(self, python: Path, folder: Path) -> None:
        """Describe them.

        Args:
            python: Folder with a virtual environment for each file of `requirements/`.
            folder: Where the packages of JavaScript clients go, if there are such clients.
        """
        self._python = python
        self._folder = folder / NODE

    def install_node(self) -> bool:
        """Install JavaScript packages beside a copy of the clients' files, where imports look; False without node."""
        if shutil.which("node") is None:
            return False
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("node is here but npm is not: install npm, or the JavaScript clients cannot be tested")
        ignored = shutil.ignore_patterns("*.py", "__pycache__")
        shutil.copytree(FOLDER, self._folder / "clients", ignore=ignored, dirs_exist_ok=True)
        for file in (REQUIREMENTS / "package.json", FOLDER.parent / "probe.mjs"):
            shutil.copy(file, self._folder)
        command = [npm, "install", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=self._folder, check=True, timeout=300)
        return True

    def command(self, client: ClientFile, environment: str) -> list[str]:
        """What starts a client."""
        if environment == NODE:
            return ["node", str(self._folder / "probe.mjs"), str(self._folder / "clients" / client.path.name)]
        python = self._python / environment / "bin" / "python"
        if not python.exists():
            raise SystemExit(f"{python} does not exist; `make conformance` installs it")
        return [str(python), str(FOLDER.parent / "probe.py"), str(client.path)]


def run(
    clients: Sequence[tuple[ClientFile, str]],
    environments: Environments,
    folder: Path,
    addresses: Sequence[Mapping[Target, str]],
    reference: Numbers,
    say: Callable[[str], None],
) -> list[Row]:
    """Run clients in their environments, as many at a time as there are addresses; the rows in the given order."""
    free: queue.SimpleQueue[Mapping[Target, str]] = queue.SimpleQueue()
    for one in addresses:
        free.put(one)

    def run_one(client: ClientFile, environment: str) -> list[Row]:
        started, urls = time.monotonic(), free.get()
        try:
            rows = _rows(client, environment, environments.command(client, environment), folder, urls, reference)
        finally:
            free.put(urls)
        say(f"{client.name} ({environment}): {totals(rows)}, {time.monotonic() - started:.0f} s")
        return rows

    # The longest files first: they have the most to do, and alone at the end they would keep all waiting.
    order = sorted(range(len(clients)), key=lambda number: -len(clients[number][0].text))
    with ThreadPoolExecutor(len(addresses)) as pool:
        running = {number: pool.submit(run_one, *clients[number]) for number in order}
        return [row for number in range(len(clients)) for row in running[number].result()]


def _rows(
    client: ClientFile,
    environment: str,
    command: Sequence[str],
    folder: Path,
    urls: Mapping[Target, str],
    reference: Numbers,
) -> list[Row]:
    rows = [Row(client.name, "?", "")]
    try:
        log_file = folder / f"{client.name}-{environment}.log"
        table = {"TIKTOKEN_CACHE_DIR": str(folder / OPENAI_TABLE)}
        with Conversation(command, log_file, timeout_s=_TIMEOUT_S, environment=table) as conversation:
            described = conversation.described()
            rows = [Row(client.name, described["version"], surface["name"]) for surface in described["surfaces"]]
            for number, (row, surface) in enumerate(zip(rows, described["surfaces"], strict=True)):
                for case in CASES:
                    row.verdicts[case.name] = _verdict(conversation, number, surface, case, urls, reference)
    except ClientDied as error:
        for row in rows:
            for case in CASES:
                row.verdicts.setdefault(case.name, Verdict("FAIL", str(error)))
    return rows


def _verdict(
    conversation: Conversation,
    number: int,
    surface: Mapping[str, Any],
    case: Case,
    urls: Mapping[Target, str],
    reference: Numbers,
) -> Verdict:
    if case.of_ranks and surface["kind"] == "embed":
        return Verdict("-")
    for name in (case.name, case.follows):
        if name in surface["without"]:
            return not_a_case(surface["without"][name])
    url, is_counted = urls[case.target], case.target is not Target.SERVICE
    before, started = requests_answered(url) if is_counted else 0, time.monotonic()
    answer = conversation.call(number, arguments(case, surface["kind"], url))
    seconds = time.monotonic() - started
    tries = requests_answered(url) - before if is_counted else None
    return judge(case, surface, Outcome(answer, tries, seconds), reference)
