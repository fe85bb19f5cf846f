"""Prometheus and Alertmanager of Debian: those on the path, else unpacked into a folder; the machine stays as it is."""

import os
import shutil
import subprocess
from pathlib import Path

#: The programs, and the packages that have them.
_PROGRAMS = ("prometheus", "promtool", "alertmanager")
_PACKAGES = ("prometheus", "prometheus-alertmanager")
#: How long the archive may take, in seconds.
_TIMEOUT_S = 600.0


class Tools:
    """Paths of the programs."""

    def __init__(self, folder: Path) -> None:
        """Find them.

        Args:
            folder: Where they are unpacked, and found the next time.
        """
        self._usr = folder.resolve() / "unpacked" / "usr"
        if any(self._found(program) is None for program in _PROGRAMS):
            _unpack(folder)

    def path(self, program: str) -> str:
        """Of one of them.

        Raises:
            FileNotFoundError: The package has it no more.
        """
        found = self._found(program)
        if found is None:
            raise FileNotFoundError(f"{program} is in none of Debian's packages {', '.join(_PACKAGES)}")
        return found

    def alertmanager(self) -> list[str]:
        """How Alertmanager is called. Debian's looks for its templates at a fixed place, which it is shown ours at."""
        program = self.path("alertmanager")
        if not program.startswith(str(self._usr)):
            return [program]
        shown = 'mount --bind "$0" /usr/share && exec "$@"'
        return ["unshare", "--map-root-user", "--mount", "sh", "-c", shown, str(self._usr / "share"), program]

    def _found(self, program: str) -> str | None:
        names = (program, f"prometheus-{program}")  # as Debian calls Alertmanager
        return next(
            (path for name in names if (path := shutil.which(name, path=f"{self._usr / 'bin'}:{os.environ['PATH']}"))),
            None,
        )


def _unpack(folder: Path) -> None:
    state = folder.resolve() / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    # Lists and cache of our own: no need to be root, and nothing of the machine's changes.
    apt = ["apt-get", "-qq", "-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::Cache={state}/cache"]
    packages = state / "packages"
    packages.mkdir(exist_ok=True)
    subprocess.run([*apt, "update"], check=True, timeout=_TIMEOUT_S)
    subprocess.run([*apt, "download", *_PACKAGES], check=True, timeout=_TIMEOUT_S, cwd=packages)
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "unpacked"], check=True, timeout=_TIMEOUT_S)
