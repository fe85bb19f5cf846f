"""Archives that were changed or cut on their way, and what the installer says of them."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def refusals(archive: Path, to: Path) -> dict[str, str]:
    """The refusal of each damage, without and with the checksum beside the archive; empty where there was none."""
    beside = archive.with_name(f"{archive.name}.sha256")
    checksum = beside.read_text()
    with tarfile.open(archive) as opened:
        weights = max(opened.getmembers(), key=lambda member: member.size)
    found: dict[str, str] = {}
    with _changed_byte(archive, weights.offset_data + weights.size // 2):
        found["a byte of it changed, checksum beside it"] = _refusal(archive, to)
        beside.unlink()
        found[f"a byte of {Path(weights.name).name} changed"] = _refusal(archive, to)
    os.truncate(archive, archive.stat().st_size // 2)
    found["cut in half"] = _refusal(archive, to)
    beside.write_text(checksum)
    found["cut in half, checksum beside it"] = _refusal(archive, to)
    return found


@contextmanager
def _changed_byte(path: Path, place: int) -> Iterator[None]:
    def flip() -> None:
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))

    flip()
    try:
        yield
    finally:
        flip()


def _refusal(archive: Path, to: Path) -> str:
    command = [sys.executable, "-m", "bundle.installer", str(archive), "--to", str(to)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    return done.stderr.strip() if done.returncode == 1 and not any(to.iterdir()) else ""
