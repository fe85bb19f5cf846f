"""The console of a service that is well: it shows the model, embeds, reranks, and stops asking when nobody looks."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect
from visiting import DESKTOP, PHONE, Visit, shoot, visit

MARKUP = "<b id='taken'>not bold</b>"
#: Contrast of text and its background that is legible (WCAG 2.2, AA, small text).
_CONTRAST = 4.5
_HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
#: The least contrast of any visible text on the page, and that text.
_LEAST_CONTRAST = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => channels(color).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((channels(color)[3] ?? 1) === 1) return color;
    }
    return getComputedStyle(document.documentElement).backgroundColor;
  };
  const found = [...document.querySelectorAll("body *")]
    .filter((node) => node.checkVisibility() && !node.disabled)
    .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
    .map((node) => {
      const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), node.textContent.slice(0, 60)];
    });
  return found.sort((x, y) => x[0] - y[0])[0];
}"""


def run(visited: Visit, facts: dict[str, Any]) -> None:
    images = Path(facts["images"])
    with visited.page() as page:
        _looks(page, visited)
        _embeds(page)
        _embeds_no_blank(page)
        _reranks(page)
        _shows_texts_as_texts(page)
        _asks_only_while_somebody_looks(page, visited)
        _goes_by_keyboard(page)
    for scheme in ("light", "dark"):
        for name, size, scale in (("desktop", DESKTOP, 1), ("phone", PHONE, 1)):
            with visited.page(size, color_scheme=scheme, device_scale_factor=scale) as page:
                page.goto(visited.url)
                _try_both(page)
                page.wait_for_timeout(14_000)  # the small lines need some looks
                width = page.evaluate("document.scrollingElement.scrollWidth")
                assert width <= size["width"], f"{name} scrolls sideways: {width}"
                contrast, text = page.evaluate(_LEAST_CONTRAST)
                assert contrast >= _CONTRAST, f"{scheme} {name}: contrast {contrast:.2f} of {text!r}"
                shoot(page, images / f"console-{name}-{scheme}.png")


def _looks(page: Page, visited: Visit) -> None:
    response = page.goto(visited.url)
    assert response is not None
    assert "script-src 'self'" in response.headers["content-security-policy"]
    expect(page.locator("#state")).to_have_text("All is well")
    models = page.locator("#models")
    expect(models.get_by_role("heading", name="sentence-transformers/all-MiniLM-L6-v2")).to_be_visible()
    expect(models.get_by_text("ready", exact=True)).to_be_visible()
    expect(models.get_by_text("384 dimensions", exact=False)).to_be_visible()
    expect(models.locator(".lane")).to_have_count(2)
    workers = page.locator("#workers")
    expect(workers.get_by_text("float32", exact=False)).to_be_visible()
    expect(workers.get_by_text("tokens/s", exact=False)).to_be_visible()
    expect(page.locator("#problems")).to_be_hidden()
    expect(page.locator("#key")).to_be_hidden()


def _embeds(page: Page) -> None:
    form = page.locator("#embed")
    form.get_by_role("button", name="Embed").click()
    expect(form.locator(".result")).to_contain_text("384 dimensions")
    expect(form.locator(".numbers")).to_have_count(2)
    similarity = float(form.locator(".similarity strong").inner_text())
    assert 0.4 < similarity < 0.9, similarity

    # The command does the same thing
    command = form.locator("pre").inner_text()
    answer = json.loads(subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=30).stdout)
    assert len(answer["data"]) == 2
    shown = form.locator(".numbers code").first.inner_text().strip("[…] ").rstrip(", ").split(", ")
    assert [float(number) for number in shown] == [round(number, 4) for number in answer["data"][0]["embedding"][:6]]

    # And is what the button copies
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    form.get_by_role("button", name="Copy as curl").click()
    expect(form.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == command


def _embeds_no_blank(page: Page) -> None:
    form = page.locator("#embed")
    form.get_by_label("Text", exact=True).fill("  ")
    form.get_by_role("button", name="Embed").click()
    expect(form.get_by_role("alert")).to_have_text("There is no text to embed.")

    form.get_by_label("Text", exact=True).fill("The weather is lovely today.")
    form.get_by_label("Compare with").fill("")
    form.get_by_role("button", name="Embed").click()
    expect(form.locator(".numbers")).to_have_text(re.compile("^Vector"))


def _reranks(page: Page) -> None:
    form = page.locator("#rerank")
    form.get_by_role("button", name="Rerank").click()
    expect(form.locator(".ranking li")).to_have_count(4)
    assert form.locator(".ranking li").first.inner_text().startswith("It is so sunny outside!")
    scores = [float(text) for text in form.locator(".ranking strong").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    widths = [box["width"] for bar in form.locator(".bar span").all() if (box := bar.bounding_box())]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 0


def _shows_texts_as_texts(page: Page) -> None:
    form = page.locator("#rerank")
    form.get_by_label("Passages").fill(f"{MARKUP}\n<script>document.title='taken'</script>")
    form.get_by_role("button", name="Rerank").click()
    expect(form.locator(".ranking li")).to_have_count(2)
    expect(form.locator(".ranking")).to_contain_text(MARKUP)
    assert page.locator("#taken").count() == 0
    assert page.title() == "Millrace"


def _asks_only_while_somebody_looks(page: Page, visited: Visit) -> None:
    def asked() -> int:
        return sum(url.endswith("/v1/status") for url in visited.requests)

    page.evaluate(_HIDE, True)
    page.wait_for_timeout(1000)
    before = asked()
    page.wait_for_timeout(5000)
    assert asked() == before, "it asks while nobody looks"
    page.evaluate(_HIDE, False)
    since = time.monotonic()
    while asked() == before:
        assert time.monotonic() - since < 2, "it does not ask again"
        page.wait_for_timeout(50)


def _goes_by_keyboard(page: Page) -> None:
    page.goto(page.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the try-out"
    page.keyboard.press("Enter")
    expect(page.locator("#embed-model option").first).to_have_text("sentence-transformers/all-MiniLM-L6-v2")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "embed-model"
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#embed .result")).to_contain_text("384 dimensions")


def _try_both(page: Page) -> None:
    expect(page.locator("#state")).to_have_text("All is well")
    page.locator("#embed").get_by_role("button", name="Embed").click()
    page.locator("#rerank").get_by_role("button", name="Rerank").click()
    expect(page.locator("#embed .similarity")).to_be_visible()
    expect(page.locator(".ranking li")).to_have_count(4)


if __name__ == "__main__":
    visit(run)
