"""What `docker compose` needs beside images on a machine without a network: compose.yaml, its files, a list of models."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: What compose.yaml mounts. `deploy/millrace` is left out: keys may lie there, which are nobody else's.
_FOLDERS = ("deploy", "helm/millrace/files")
_OWN = "deploy/millrace"
#: Where the containers see that folder.
_OWN_INSIDE = "/etc/millrace"


def gather_compose(root: Path, bundle: Path, models: Sequence[dict[str, Any]]) -> None:
    """Put them into a bundle, as the folder `compose`.

    Args:
        root: The source tree.
        bundle: The bundle's folder, with models in it.
        models: What `bundle.models.gather_models` says of them; the default one where it is empty.
    """
    compose = bundle / "compose"
    for folder in _FOLDERS:
        shutil.copytree(root / folder, compose / folder, ignore=_but_own(root))
    shutil.copy(root / "compose.yaml", compose)
    shutil.copy(root / "bundle" / "load.sh", compose)
    (compose / ".env.example").write_text(_with_choices((root / ".env.example").read_text(), _choices(root)))
    own = compose / _OWN
    own.mkdir()
    if not models:
        shutil.copy(root / _OWN / "models.yaml", own)
        return
    entries = [_entry(model, bundle, own) for model in models]
    (own / "models.yaml").write_text("# The models of the bundle, in the volume `models`.\n" + _lines(entries))


def _but_own(root: Path) -> Any:
    def ignored(folder: str, _: list[str]) -> list[str]:
        return [Path(_OWN).name] if Path(folder) == (root / _OWN).parent else []

    return ignored


def _choices(root: Path) -> dict[str, str]:
    """Which images there are, and whose: what `.env` and the environment say of it here is so on the other end."""
    settings = root / ".env"
    lines = settings.read_text().splitlines() if settings.exists() else []
    given = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line)) | os.environ
    return {name: value for name, value in given.items() if name.endswith("_IMAGE") or name == "COMPOSE_PROFILES"}


def _with_choices(example: str, choices: dict[str, str]) -> str:
    return re.sub(
        r"^#?([A-Z_]+)=.*$",
        lambda line: f"{line[1]}={choices[line[1]]}" if line[1] in choices else line[0],
        example,
        flags=re.MULTILINE,
    )


def _entry(model: dict[str, Any], bundle: Path, own: Path) -> dict[str, Any]:
    """A model as the containers see it."""
    entry = dict(model)
    if "folder" in entry:
        entry["source"] = f"/{entry.pop('folder')}"
    if "int8_ranges" in entry:
        ranges = bundle / entry["int8_ranges"]
        shutil.copy(ranges, own)
        entry["int8_ranges"] = f"{_OWN_INSIDE}/{ranges.name}"
    return entry


def _lines(entries: Sequence[dict[str, Any]]) -> str:
    """JSON is YAML too; a line for each model."""
    return "".join(["models:\n", *(f"  - {json.dumps(entry)}\n" for entry in entries)])
