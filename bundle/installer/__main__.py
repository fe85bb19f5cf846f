"""`python -m installer BUNDLE`, as `install.sh` runs it; `make install-bundle` in the source tree."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import Refused
from .contents import opened
from .release import install


def main() -> int:
    """Install a bundle.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description="Install Millrace from a bundle, without a network.")
    parser.add_argument("bundle", type=Path, help="the archive, or the folder that it was unpacked into")
    parser.add_argument("--to", type=Path, default=Path("~/millrace"), help="where it goes (default: %(default)s)")
    parser.add_argument("--sha256", help="the archive's, from a place that you trust")
    options = parser.parse_args()
    try:
        to = options.to.expanduser().resolve()
        to.mkdir(parents=True, exist_ok=True)
        with _held(to), opened(options.bundle, options.sha256, to) as folder:
            install(folder, to)
    except Refused as err:
        sys.stderr.write(f"install: {err}\n")
        return 1
    except OSError as err:
        sys.stderr.write(f"install: {err.filename or options.to}: {err.strerror or err}\n")
        return 1
    return 0


@contextmanager
def _held(to: Path) -> Iterator[None]:
    """Keep a second installation out."""
    place = os.open(to, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise Refused(f"another installation into {to} is going on") from err
        yield
    finally:
        os.close(place)


if __name__ == "__main__":
    sys.exit(main())
