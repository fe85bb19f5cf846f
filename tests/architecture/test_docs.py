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


def test_every_reason_to_refuse_what_fits_the_schema_is_in_the_contract() -> None:
    import tomllib

    from shared.errors import MillraceError, _tree

    page = (ROOT / "docs" / "reference" / "contract.md").read_text()
    for code, exclusion in tomllib.loads((ROOT / "tests" / "fuzz" / "exclusions.toml").read_text()).items():
        assert code in _tree(MillraceError)
        assert f"| `{code}` | {exclusion['reason']} |" in page
