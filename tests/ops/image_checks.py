"""What is in an image, and how it runs."""

import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.ops.engine import Engine

MAX_GATEWAY_BYTES = 200_000_000
#: What a container may do at most, as in compose.yaml.
CONFINED = ("--rm", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges:true")
#: Tells who it is, where it may not write, and what the kernel grants it.
_ASK = """
import os, sys
print(os.getuid(), os.getgid())
for folder in sys.argv[1:]:
    try:
        open(folder + "/written", "w").close()
        print(folder, "written")
    except OSError as err:
        print(folder, err.strerror)
print(open("/proc/self/status").read())
"""


def size(engine: Engine, image: str) -> int:
    """Bytes of an image, unpacked."""
    return int(engine.docker("image", "inspect", "--format", "{{.Size}}", image))


def _packed_size(engine: Engine, image: str) -> int:
    with (
        subprocess.Popen(["docker", "save", image], env=dict(engine.environment), stdout=subprocess.PIPE) as saved,
        subprocess.Popen(["gzip", "-6"], stdin=saved.stdout, stdout=subprocess.PIPE) as packed,
    ):
        assert packed.stdout is not None
        return sum(len(block) for block in iter(partial(packed.stdout.read, 1 << 20), b""))


def files(engine: Engine, image: str, work: Path) -> list[str]:
    """Paths of everything in an image."""
    container = engine.docker("create", image).strip()
    archive = work / "image.tar"
    try:
        engine.docker("export", "--output", str(archive), container, timeout_s=600)
        with tarfile.open(archive) as content:
            return content.getnames()
    finally:
        engine.docker("rm", container)
        archive.unlink(missing_ok=True)


def gateway_is_slim(engine: Engine, image: str, work: Path) -> str:
    """Below 200 MB, and without torch, a shell, a package manager and tests."""
    found = files(engine, image, work)
    packages = {Path(path).name.partition("-")[0] for path in found if path.endswith(".dist-info")}
    assert "millrace" in packages
    assert not packages & {"torch", "transformers", "sentence_transformers", "pip", "setuptools"}, packages
    programs = {
        Path(path).name for path in found if Path(path).parent.as_posix() in ("bin", "usr/bin", "opt/millrace/bin")
    }
    assert not programs & {"sh", "bash", "dash", "apt", "apt-get", "dpkg", "pip", "perl"}, programs
    unpacked = size(engine, image)
    assert unpacked < MAX_GATEWAY_BYTES, f"{unpacked / 1e6:.0f} MB"
    packed = _packed_size(engine, image) / 1e6
    return (
        f"{unpacked / 1e6:.0f} MB ({packed:.0f} MB packed), no torch, no shell, no package manager, {len(found)} files"
    )


def torch_is_the_cpu_build(engine: Engine, image: str) -> str:
    """No CUDA in the CPU worker; its size."""
    code = "import torch; print(torch.__version__, torch.version.cuda)"
    version, cuda = engine.docker("run", *CONFINED, "--entrypoint=python", image, "-c", code, timeout_s=300).split()
    assert cuda == "None", cuda
    return f"{size(engine, image) / 1e6:.0f} MB, torch {version}"


def runs_confined(engine: Engine, image: str) -> str:
    """With a number for a user, no rights, and no place to write but /tmp."""
    user = _inspect(engine, image)["Config"]["User"]
    assert user == "10001:10001", user
    version = engine.docker("run", *CONFINED, image, "--version").strip()
    folders = ("/tmp", "/opt/millrace", "/etc/millrace", "/usr")
    told = engine.docker("run", *CONFINED, "--entrypoint=python", image, "-c", _ASK, *folders).splitlines()
    assert told[0] == "10001 10001", told
    assert told[1:5] == ["/tmp written", *(f"{folder} Read-only file system" for folder in folders[1:])], told
    assert {"CapEff:\t0000000000000000", "NoNewPrivs:\t1"} <= set(told), told
    return f"version {version} as 10001:10001, no capabilities, writes nothing but /tmp"


def has_health_check_and_labels(engine: Engine, image: str) -> str:
    """What an orchestrator and a registry read."""
    config = _inspect(engine, image)["Config"]
    labels = {name for name in config["Labels"] if name.startswith("org.opencontainers.image.")}
    assert len(labels) >= 3, labels
    return " ".join(config["Healthcheck"]["Test"][1:])


@contextmanager
def saved(engine: Engine, image: str, work: Path) -> Iterator[Path]:
    """An image's layers and history, as one archive."""
    archive = work / "saved.tar"
    engine.docker("save", "--output", str(archive), image, timeout_s=600)
    try:
        yield archive
    finally:
        archive.unlink()


def holds_no_secret(archive: Path, secret: str) -> str:
    """What the build was given to reach an index is in no layer and no line of the history."""
    needle, layers, read = secret.encode(), 0, 0
    with tarfile.open(archive) as image:
        for member in filter(tarfile.TarInfo.isreg, image):
            content = image.extractfile(member)
            assert content is not None
            if not member.name.endswith("layer.tar"):  # the history is in one of these
                assert needle not in content.read(), f"{member.name} holds the secret"
                continue
            layers += 1
            with tarfile.open(fileobj=content) as layer:
                for file in filter(tarfile.TarInfo.isreg, layer):
                    data = layer.extractfile(file)
                    assert data is not None
                    assert needle not in data.read(), f"{file.name} holds the secret"
                    read += 1
    assert layers > 0
    return f"the index's password is in none of {layers} layers, {read} files, the history"


def _inspect(engine: Engine, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.docker("image", "inspect", image))[0]
    return found
