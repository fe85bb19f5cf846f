"""The console: browsers get it at `/`, nobody else does, and it reaches nothing but its gateway."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.app import create_app
from api.console.page import CONSOLE_PATHS, prefers_html
from api.settings import ApiSettings

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "api" / "console"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix not in {".py", ".pyc"} and path.is_file())
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)

CHROMIUM = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(create_app(ApiSettings(access_log=False)))


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (CHROMIUM, True),
        (FIREFOX, True),
        ("text/html", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("text/*, application/json;q=0.5", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0, */*", False),
        ("text/html;q=nonsense", False),
        ("application/*;q=0.9, text/html;q=0.8", False),
    ],
)
def test_who_would_rather_have_html_gets_the_page_and_all_others_what_they_always_got(
    client: TestClient, accept: str, page: bool
) -> None:
    answer = client.get("/", headers={"accept": accept})

    assert prefers_html(accept) is page
    assert answer.status_code == 200
    assert answer.headers["vary"] == "Accept"
    if page:
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "<title>Millrace</title>" in answer.text
    else:
        assert answer.json().keys() == {"status", "version", "unix"}
        assert "content-security-policy" not in answer.headers


def test_posts_to_the_root_are_still_the_models(client: TestClient) -> None:
    answer = client.post("/", headers={"accept": CHROMIUM}, json={"inputs": ""})

    assert answer.headers["content-type"] == "application/json"
    assert answer.status_code >= 400


def test_a_head_is_answered_as_the_get_is(client: TestClient) -> None:
    for accept in (CHROMIUM, "*/*"):
        head, get = (client.request(method, "/", headers={"accept": accept}) for method in ("HEAD", "GET"))

        assert head.headers["content-type"] == get.headers["content-type"]


def test_a_browser_is_told_to_run_nothing_that_is_not_ours(client: TestClient) -> None:
    for path in ["/", *CONSOLE_PATHS]:
        headers = client.get(path, headers={"accept": CHROMIUM}).headers

        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy.pop("default-src") == policy.pop("frame-ancestors") == policy.pop("form-action") == "'none'"
        assert policy.pop("base-uri") == "'none'"
        assert set(policy.values()) == {"'self'"}
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", sorted(CONSOLE_PATHS))
def test_every_file_is_there_and_asked_for_again_only_when_it_has_changed(client: TestClient, path: str) -> None:
    first = client.get(path)
    again = client.get(path, headers={"if-none-match": first.headers["etag"]})

    assert (first.status_code, again.status_code) == (200, 304)
    assert first.content == (FOLDER / path.rsplit("/", 1)[1]).read_bytes()
    assert again.content == b""


def test_the_page_links_to_files_that_are_there_relative_to_itself(client: TestClient) -> None:
    page = client.get("/", headers={"accept": CHROMIUM}).text
    links = re.findall(r'(?:src|href)="([^"#]+)"', page)
    imports = [name for path in FOLDER.glob("*.js") for name in re.findall(r'from "\./([\w.]+)"', path.read_text())]

    assert len(links) > 3
    assert not [link for link in links if link.startswith("/")]
    for link in [*links, *(f"console/{name}" for name in imports)]:
        assert client.get(f"/{link}").status_code == 200, link


def test_the_page_and_its_files_need_no_key_and_what_they_show_does() -> None:
    client = TestClient(create_app(ApiSettings(api_key=SecretStr("k"), access_log=False)))

    assert client.get("/", headers={"accept": CHROMIUM}).status_code == 200
    assert {client.get(path).status_code for path in CONSOLE_PATHS} == {200}
    assert client.get("/v1/status").status_code == 401


@each_file
def test_no_file_names_another_host(path: Path) -> None:
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", path.read_text())

    assert [address for address in addresses if not address.startswith("http://www.w3.org/2000/svg")] == []


@each_file
def test_no_text_can_become_markup_or_code(path: Path) -> None:
    text = path.read_text()

    if path.suffix == ".js":
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "srcdoc",
        ):
            assert word not in text, word
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", text)


@each_file
def test_every_file_is_in_the_package(path: Path) -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]

    assert "api.console" in setuptools["packages"]
    assert any(fnmatch(path.name, pattern) for pattern in setuptools["package-data"]["api.console"])


def test_every_field_of_the_page_has_a_label() -> None:
    page = (FOLDER / "index.html").read_text()
    fields = re.findall(r"<(?:input|select|textarea)\b[^>]*\bid=\"([\w-]+)\"", page)

    assert len(fields) == 7
    assert set(fields) == set(re.findall(r'<label for="([\w-]+)"', page))
