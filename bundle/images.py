"""The container images that `compose.yaml` names, as one file that `docker load` reads."""

import os
import subprocess
from pathlib import Path

#: compose does not say what images there are until these are filled in. They are in no image.
_PASSWORDS = ("GRAFANA_PASSWORD", "MILLRACE_FLOWER_PASSWORD", "REDIS_PASSWORD")


class NoImages(Exception):
    """The images cannot be had; the message is one sentence."""


def image_names(root: Path) -> list[str]:
    """The images of the profiles that are switched on (`COMPOSE_PROFILES`), in `.env` or else in `.env.example`.

    Raises:
        NoImages: There is no engine, or no `compose.yaml`.
    """
    settings = root / ".env"
    chosen = settings if settings.exists() else root / ".env.example"
    return sorted(set(_docker(root, "compose", "--env-file", str(chosen), "config", "--images").split()))


def save_images(root: Path, folder: Path) -> None:
    """Save them; the engine has to have them already.

    Raises:
        NoImages: There is no engine, no `compose.yaml`, or an image is missing.
    """
    images = image_names(root)
    folder.mkdir()
    _docker(root, "save", "--output", str(folder / "images.tar"), *images)


def _docker(root: Path, *arguments: str) -> str:
    environment = {**dict.fromkeys(_PASSWORDS, "unused"), **os.environ}
    try:
        done = subprocess.run(  # the operator's PATH says which
            ["docker", *arguments],  # noqa: S607
            check=False,
            capture_output=True,
            text=True,
            cwd=root,
            env=environment,
        )
    except FileNotFoundError as err:
        raise NoImages("images were asked for, and there is no `docker` here") from err
    if done.returncode != 0:
        reason = "; ".join(done.stderr.strip().splitlines()) or f"it ended with status {done.returncode}"
        raise NoImages(f"`docker {arguments[0]}` failed: {reason}")
    return done.stdout
