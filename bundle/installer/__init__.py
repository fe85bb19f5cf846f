"""Installs a bundle on a machine without a network. A bundle carries this package; the standard library is all it needs.

TO/millrace       the command, with access to the model hub switched off
TO/current        the release that it runs
TO/releases/      the last two: an environment, models.yaml and bundle.json of each
TO/models/        models, by name and a part of their manifests' hashes
"""

from __future__ import annotations

import sys


class Refused(Exception):
    """The bundle is not installed; one sentence that says why."""


def say(line: str) -> None:
    """Tell the person who installs."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
