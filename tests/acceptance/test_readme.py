"""The README's commands give the README's output."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers.service import Service

README = (Path(__file__).parents[2] / "README.md").read_text()
EXAMPLES = re.findall(r"```console\n\$ (.+?)\n(.+?)\n```", README, re.DOTALL)


def rounded(text: str) -> str:
    """Numbers to four decimals: the last digits differ between processors."""
    return re.sub(r"-?\d+\.\d+", lambda match: f"{float(match.group()):.4f}", text)


def test_the_readme_has_three_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize(("command", "output"), EXAMPLES)
def test_an_example_prints_what_the_readme_says(service: Service, command: str, output: str) -> None:
    here = command.replace("http://127.0.0.1:8080", service.url)

    printed = subprocess.run(here, shell=True, capture_output=True, text=True, timeout=60, check=True).stdout

    if "head -c" in command:  # the last number is cut, and where depends on the digits of those before it
        printed, output = (text.rpartition(",")[0].rpartition(",")[0] for text in (printed, output))
    assert rounded(printed) == rounded(output)
