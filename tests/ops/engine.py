"""A container engine of the test's own: its data, its socket and its addresses are nobody else's."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.helpers.waiting import wait_until
from tests.ops.commands import CommandFailed, Unavailable, run

#: The host's address on the engine's bridge; builds reach the host there.
HOST_ADDRESS = "10.77.0.1"
_BRIDGE = f"{HOST_ADDRESS}/24"
_POOL = "base=10.78.0.0/16,size=24"
_START_TIMEOUT_S, _STOP_TIMEOUT_S = 60.0, 60.0
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
#: Rules and chains that the engine leaves behind.
_LEFT_BEHIND = re.compile(r"DOCKER|docker0|br-[0-9a-f]{12}|10\.7[78]\.")
_BRIDGES = re.compile(r"\d+: (docker0|br-[0-9a-f]{12})[:@]")


class Engine:
    """One engine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.config = folder / "config"
        #: Of the client.
        self.environment: Mapping[str, str] = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_"))},
            "DOCKER_HOST": f"unix://{folder}/docker.sock",
            "DOCKER_CONFIG": str(self.config),
            "DOCKER_BUILDKIT": "1",
        }

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            Unavailable: It does not start here, or another one runs, whose rules would be in the way.
        """
        if Path("/sys/class/net/docker0").exists():
            raise Unavailable("a container engine runs here already (docker0 is there); `make test-ops` starts its own")
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "engine.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    f"--data-root={self._folder}/data",
                    f"--exec-root={self._folder}/exec",
                    f"--pidfile={self._folder}/engine.pid",
                    f"--host=unix://{self._folder}/docker.sock",
                    f"--bip={_BRIDGE}",
                    f"--default-address-pool={_POOL}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the test, which then stops the engine in order
            )
        try:
            wait_until(self._answers, timeout_s=_START_TIMEOUT_S, what="the engine")
        except TimeoutError as err:
            said = (self._folder / "engine.log").read_text(errors="replace").strip().splitlines()[-3:]
            raise Unavailable(f"no container engine starts here: {' / '.join(said)}") from err

    def docker(self, *arguments: str, timeout_s: float = 120, folder: Path | None = None) -> str:
        """Run the client; what it printed."""
        environment = self.environment
        return run(["docker", *arguments], timeout_s=timeout_s, environment=environment, folder=folder)

    def build(
        self, dockerfile: Path, context: Path, tag: str, arguments: Mapping[str, str] | None = None, *, log: Path
    ) -> None:
        """Build an image."""
        given = [part for name, value in (arguments or {}).items() for part in ("--build-arg", f"{name}={value}")]
        run(
            ["docker", "build", "--progress=plain", "-f", str(dockerfile), "-t", tag, *given, str(context)],
            timeout_s=1800,
            environment=self.environment,
            log=log,
        )

    def stop(self) -> None:
        """End it, and take away its rules and links."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def forget(self) -> None:
        """Delete images and volumes."""
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise TimeoutError
        try:
            self.docker("version", timeout_s=10)
        except (CommandFailed, subprocess.TimeoutExpired):
            return False
        return True


@contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """An engine until the block ends; then the machine's network is as it was."""
    engine = Engine(folder)
    forwarding, policy = _FORWARDING.read_text(), _forward_policy()
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
        _remove_bridges()
        _remove_rules(policy)
        _FORWARDING.write_text(forwarding)


def leftovers() -> list[str]:
    """Links and rules of an engine that are on the machine."""
    links = _BRIDGES.findall(run(["ip", "-oneline", "link"], timeout_s=10))
    return [*links, *(line for line in _rules() if _LEFT_BEHIND.search(line))]


def _rules() -> list[str]:
    return run(["iptables-save"], timeout_s=10).splitlines()


def _forward_policy() -> str:
    found = [line for line in _rules() if line.startswith(":FORWARD")]
    return found[0].split()[1] if found else "ACCEPT"


def _remove_bridges() -> None:
    for name in _BRIDGES.findall(run(["ip", "-oneline", "link"], timeout_s=10)):
        run(["ip", "link", "delete", name], timeout_s=10)


def _remove_rules(policy: str) -> None:
    """Put back all rules but the engine's."""
    kept = "\n".join(line for line in _rules() if not _LEFT_BEHIND.search(line))
    subprocess.run(["iptables-restore"], input=kept + "\n", text=True, timeout=10, check=True)
    run(["iptables", "--policy", "FORWARD", policy], timeout_s=10)
