"""`python -m tests.chart`: what `make test` leaves out, because it needs more than Python packages.

Each example is rendered by Helm 3 too, and has to come out as Helm 4 has it; custom resources are checked against their
operators' schemas; trivy scans what is rendered.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.helpers.chart import CHART, EXAMPLES, Object, documents, example, rendered

VERSIONS = ("1.28.0", "1.30.0", "1.34.0")
CUSTOM = ("keda.sh/v1alpha1", "monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1")
#: What trivy says that is meant so, with the reason.
MEANT = {
    # A user id above 10000 is only better where the node has users of lower numbers; 999 is the image's own.
    "KSV-0020": "redis",
    "KSV-0021": "redis",
    # Nothing of the default namespace is wanted; the namespace is the caller's.
    "KSV-0110": "",
    # A limit on CPU makes workers and gateways slower than they have to be; memory is limited.
    "KSV-0011": "",
    # Valkey's image; registries are the operator's (`images.registry`).
    "KSV-0125": "",
}


def main() -> int:
    """Check all; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chart")
    parser.add_argument("--helm", required=True, type=Path, help="Helm 3's binary")
    parser.add_argument("--packages", required=True, type=Path, help="folder with node_modules of the schemas")
    parser.add_argument("--trivy", required=True, type=Path, help="trivy's command")
    options = parser.parse_args()
    wrong: list[str] = []
    for name in ("", *EXAMPLES):
        wrong += [f"{name or 'defaults'}: {line}" for line in _check(name, options)]
    sys.stdout.write("\n".join(wrong) + ("\n" if wrong else "") + f"{len(wrong)} faults\n")
    return 1 if wrong else 0


def _check(name: str, options: argparse.Namespace) -> list[str]:
    files = ["--values", str(CHART / "ci" / f"{name}-values.yaml")] if name else []
    wrong = _lint(options.helm, files)
    texts = {version: _helm3(options.helm, files, version) for version in VERSIONS}
    ours = _comparable(rendered(example(name) if name else {}))
    for version, text in texts.items():
        if _comparable(documents(text)) != ours:
            wrong.append(f"Helm 3 renders something else for Kubernetes {version} than Helm 4")
    objects = documents(texts[VERSIONS[0]])
    wrong += _custom(objects, options.packages)
    wrong += _trivy(texts[VERSIONS[0]], options.trivy)
    return wrong


def _lint(helm: Path, files: Sequence[str]) -> list[str]:
    done = subprocess.run(
        [str(helm), "lint", "--strict", str(CHART), *files], capture_output=True, text=True, check=False
    )
    return [] if done.returncode == 0 else [f"helm lint: {done.stdout.strip()}"]


def _helm3(helm: Path, files: Sequence[str], version: str) -> str:
    done = subprocess.run(
        [str(helm), "template", "m", str(CHART), "--namespace", "search", "--kube-version", version, *files],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"Helm 3 cannot render {files[-1:]}: {done.stderr}")
    return done.stdout


def _comparable(objects: list[Object]) -> list[str]:
    """The objects in any order, without what is made up anew each time."""
    for each in objects:
        if each["kind"] == "Secret":
            each["data"] = sorted(each["data"])
        each["metadata"]["labels"].pop("app.kubernetes.io/managed-by", None)
        labels = each.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {})
        labels.pop("app.kubernetes.io/managed-by", None)
        # A checksum of a text whose labels say who renders it.
        each.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations", {}).pop("checksum/models", None)
        if each["kind"] == "Job":
            each["metadata"]["name"] = each["metadata"]["name"].rpartition("-")[0]
    return sorted(json.dumps(each, sort_keys=True) for each in objects)


def _custom(objects: list[Object], packages: Path) -> list[str]:
    custom = [each for each in objects if each["apiVersion"] in CUSTOM]
    done = subprocess.run(
        ["node", str(Path(__file__).with_name("custom_resources.mjs")), str(packages.resolve())],
        input=json.dumps(custom),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return [f"the custom resources could not be checked: {done.stderr[-500:]}"]
    return done.stdout.splitlines()


def _trivy(text: str, trivy: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rendered.yaml").write_text(text)
        done = subprocess.run(
            [str(trivy), "config", "--format", "json", "--quiet", "--skip-check-update", folder],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        return [f"trivy: {done.stderr[-500:]}"]
    wrong = []
    for result in json.loads(done.stdout).get("Results") or []:
        for found in result.get("Misconfigurations") or []:
            meant = MEANT.get(found["ID"])
            if meant is None or meant not in found["Message"].lower():
                wrong.append(f"trivy: {found['ID']} {found['Severity']}: {found['Message']}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
