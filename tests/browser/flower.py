"""Flower: asks for its password, and shows each task's lane, model, requests and tokens."""

from pathlib import Path
from typing import Any

from playwright.sync_api import expect
from visiting import Visit, shoot, visit

_LOOKS = 20
#: All of its columns.
_WIDE = {"width": 1500, "height": 800}


def run(visited: Visit, facts: dict[str, Any]) -> None:
    user, password = facts["credentials"].split(":", 1)
    visited.expected_statuses = {401}
    with visited.page(_WIDE) as page:
        refused = page.request.get(f"{visited.url}/tasks")
        assert refused.status == 401
    with visited.page(_WIDE, http_credentials={"username": user, "password": password}) as page:
        page.goto(f"{visited.url}/tasks")
        row = (
            page.locator("#tasks-table tbody tr")
            .filter(has_text="bulk all-MiniLM-L6-v2 requests=1 items=16")
            .filter(has_text="SUCCESS")
            .first
        )
        expect(row).to_contain_text("model=sentence-transformers/all-MiniLM-L6-v2")
        expect(row).to_contain_text("tokens=")
        assert "mill turns" not in page.content()
        shoot(page, Path(facts["images"]) / "flower-tasks.png", full=False)


if __name__ == "__main__":
    visit(run)
