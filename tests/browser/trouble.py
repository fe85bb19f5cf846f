"""The console of a service whose worker does not answer: it says so, loudly and in words."""

from pathlib import Path
from typing import Any

from playwright.sync_api import expect
from visiting import DESKTOP, Visit, shoot, visit


def run(visited: Visit, facts: dict[str, Any]) -> None:
    with visited.page(DESKTOP) as page:
        page.goto(visited.url)
        expect(page.locator("#state")).to_have_text("1 problem")
        problems = page.get_by_role("alert").filter(has=page.get_by_role("heading", name="Problems"))
        expect(problems).to_contain_text("No worker runs sentence-transformers/all-MiniLM-L6-v2: requests for it wait")
        expect(page.locator("#models .badge")).to_have_text("not served")
        expect(page.locator("#workers")).to_have_text("No worker is alive.")
        assert page.title().startswith("(!) 1 problem")
        shoot(page, Path(facts["images"]) / "console-trouble.png", full=False)


if __name__ == "__main__":
    visit(run)
