"""The container images that `compose.yaml` names, as one file that `docker load` reads."""

import subprocess
from pathlib import Path


class NoImages(Exception):
    """The images cannot be had; the message is one sentence."""


def save_images(root: Path, folder: Path) -> None:
    """Save the images of all profiles, which the engine has to have already.

    Raises:
        NoImages: There is no engine, no `compose.yaml`, or an image is missing.
    """
    listed = _docker("compose", "--project-directory", str(root), "--profile", "*", "config", "--images")
    images = sorted(set(listed.split()))
    folder.mkdir()
    _docker("save", "--output", str(folder / "images.tar"), *images)


def _docker(*arguments: str) -> str:
    try:
        return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout  # noqa: S607
    except FileNotFoundError as err:
        raise NoImages("images were asked for, and there is no `docker` here") from err
    except subprocess.CalledProcessError as err:
        reason = (err.stderr.strip().splitlines() or ["no reason given"])[0]
        raise NoImages(f"`docker {arguments[0]}` failed: {reason}") from err
