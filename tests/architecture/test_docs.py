"""The documentation says what the code does."""

from pathlib import Path

import pytest

from docs.generate import FOLDER, PAGES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", PAGES)
def test_reference_pages_are_up_to_date(page: str) -> None:
    assert (FOLDER / page).read_text() == PAGES[page], "run `make docs`"


def test_links_in_the_documentation_lead_somewhere() -> None:
    import re

    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_page_names_a_path_of_somebodys_machine() -> None:
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")]:
        assert "/work/" not in page.read_text()
        assert "/tmp/w" not in page.read_text()
