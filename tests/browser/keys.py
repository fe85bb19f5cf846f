"""The console where keys are asked for: what it says without one, with a wrong one, with a team's and an operator's."""

from typing import Any

from playwright.sync_api import Page, expect
from visiting import Visit, visit


def run(visited: Visit, facts: dict[str, Any]) -> None:
    visited.expected_statuses = {401, 403}
    with visited.page() as page:
        page.goto(visited.url)
        expect(page.locator("#state")).to_have_text("Key needed")
        expect(page.locator("#key-message")).to_have_text("This service asks for an API key.")
        expect(page.locator("#workers-section")).to_be_hidden()
        expect(page.locator("#embed [type=submit]")).to_be_disabled()

        # Letters that a browser cannot send in a header
        _use(page, "ключ")
        expect(page.locator("#key-value:invalid")).to_have_value("ключ")
        assert page.evaluate("sessionStorage.length") == 0

        _use(page, "wrong")
        expect(page.locator("#key-message")).to_contain_text("The key was refused. The API key is not valid here")

        _use(page, facts["team"])
        expect(page.locator("#state")).to_have_text("Limited view")
        expect(page.locator("#key-message")).to_contain_text("This key may not use the routes of `admin`")
        expect(page.locator("#models .badge")).to_have_text("ready")
        _embed(page)

        _use(page, facts["operator"])
        expect(page.locator("#state")).to_have_text("All is well")
        expect(page.locator("#workers .card")).to_have_count(1)
        _shows_markup_as_text(page, facts["markup"])
        _embed(page)
        command = page.locator("#embed pre").inner_text()
        assert '-H "authorization: Bearer $MILLRACE_API_KEY"' in command
        assert facts["operator"] not in page.content()

        # It is kept for the tab, and nowhere else
        page.reload()
        expect(page.locator("#state")).to_have_text("All is well")
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert page.context.cookies() == []
        page.get_by_role("button", name="Forget it").click()
        expect(page.locator("#state")).to_have_text("Key needed")
        assert page.evaluate("sessionStorage.length") == 0
    assert not [url for url in visited.requests if facts["operator"] in url or facts["team"] in url]


def _use(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()


def _embed(page: Page) -> None:
    page.get_by_role("button", name="Embed").click()
    expect(page.locator("#embed .result")).to_contain_text("384 dimensions")


def _shows_markup_as_text(page: Page, markup: str) -> None:
    expect(page.locator("#models")).to_contain_text(markup)
    assert page.locator("#models img").count() == 0
    assert page.title() == "Millrace"


if __name__ == "__main__":
    visit(run)
