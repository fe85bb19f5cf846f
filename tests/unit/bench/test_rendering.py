"""The benchmark of rendering runs, and what it compares is as the claim has it."""

import re

import pytest

from bench import rendering


def test_it_runs_and_shows_each_contender(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["rendering", "--rounds", "1", "--vectors", "2", "--dimensions", "8"])

    assert rendering.main() == 0

    rows = re.findall(r"^(.+?)\s+[\d.]+ ms\s+[\d,]+ KiB$", capsys.readouterr().out, re.MULTILINE)
    assert rows == ["base64", "JSON floats", "FastAPI's default"]
