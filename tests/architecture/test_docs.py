"""The documentation says what the code does."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from docs.generate import FOLDER, PAGES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", PAGES)
def test_reference_pages_are_up_to_date(page: str) -> None:
    assert (FOLDER / page).read_text() == PAGES[page], "run `make docs`"


def test_links_in_the_documentation_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("helm/*/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_page_names_a_path_of_somebodys_machine() -> None:
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")]:
        assert "/work/" not in page.read_text()
        assert "/tmp/w" not in page.read_text()


def test_every_reason_to_refuse_what_fits_the_schema_is_in_the_contract() -> None:
    import tomllib

    from shared.errors import MillraceError, _tree

    page = (ROOT / "docs" / "reference" / "contract.md").read_text()
    for code, exclusion in tomllib.loads((ROOT / "tests" / "fuzz" / "exclusions.toml").read_text()).items():
        assert code in _tree(MillraceError)
        assert f"| `{code}` | {exclusion['reason']} |" in page


@pytest.mark.parametrize(("page", "least"), [("security.md", 20), ("reliability.md", 21)])
def test_every_test_that_a_promise_names_is_there(page: str, least: int) -> None:
    # Given the tests by their files
    tests: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        tests[path.name] = tests.get(path.name, "") + path.read_text()
    lines = (ROOT / "docs" / page).read_text().splitlines()
    rows = [row for line, row in pairwise(lines) if row.startswith("| ") and line.startswith("|")]

    # Then each threat or complaint has some, and those are there
    assert len(rows) >= least
    for row in rows:
        named = re.findall(r"`(?:(test_\w+\.py))?(?:::(test_\w+))?`", row.split(" | ")[-1])
        file = ""
        assert any(name or test for name, test in named), row
        for name, test in named:
            file = name or file
            if name or test:
                assert not test or f"def {test}(" in tests[file], f"{file}::{test}"
