"""A fresh clone, and the commands of docs/deploy.md, which are run in it as they stand there."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.ops.commands import run

ROOT = Path(__file__).parents[2]


def make(folder: Path) -> None:
    """Copy what git would have: no ignored files, nobody's .env."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], timeout_s=60, folder=ROOT
    ).split("\0")
    for name in filter(None, listed):
        source = ROOT / name
        if source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


class Walk:
    """A section of the page, command by command."""

    def __init__(self, folder: Path, section: str, environment: Mapping[str, str], replaced: Mapping[str, str]) -> None:
        """Read the section.

        Args:
            folder: Where its commands are run.
            section: Its heading.
            environment: All that they know of the environment.
            replaced: What stands for what in them: addresses that may be in use here.
        """
        page = (ROOT / "docs" / "deploy.md").read_text()
        text = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        self._blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
        self._folder, self._environment, self._replaced = folder, environment, replaced
        self._log = folder.parent / "walk.log"

    def run(self, beginning: str, timeout_s: float) -> str:
        """Run the block of commands that begins so; what it printed."""
        (block,) = (block for block in self._blocks if block.startswith(beginning))
        for old, new in self._replaced.items():
            block = block.replace(old, new)
        return run(
            ["bash", "-euo", "pipefail", "-c", block],
            timeout_s=timeout_s,
            environment=self._environment,
            folder=self._folder,
            log=self._log,
        )


def setting(folder: Path, name: str) -> str:
    """The value of a line of `.env`."""
    lines = (folder / ".env").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith(f"{name}="))
