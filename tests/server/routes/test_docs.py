"""The documentation page loads nothing from elsewhere."""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest

from tests.server.support import Client


class _Page(HTMLParser):
    """Collects the addresses that a page names, and the scripts that stand in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action") and value]
        self._in_script = tag == "script" and "src" not in dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)


@pytest.fixture
def page(client: Client) -> _Page:
    return _Page(client.get("/docs").text)


def test_everything_the_page_names_is_here(client: Client, page: _Page) -> None:
    base = str(client.base_url.join("/docs"))
    described = re.findall(r"url: '([^']+)'", page.scripts[0])
    urls = [urljoin(base, address) for address in (*page.addresses, *described)]
    assert len(urls) == 4, "script, style sheet, icon and the description"
    assert {urlsplit(url).netloc for url in urls} == {urlsplit(base).netloc}
    for url in urls:
        answer = client.get(url)
        assert answer.status_code == 200
        assert len(answer.content) > 1000


def test_the_style_sheet_names_nothing_else(client: Client) -> None:
    text = client.get("/docs/swagger-ui.css").text
    assert "@import" not in text
    assert set(re.findall(r"url\(['\"]?(\w+:|//|/)", text)) == {"data:"}


def test_the_page_works_below_a_prefix(page: _Page) -> None:
    assert not any(address.startswith(("/", "http")) for address in page.addresses)


def test_browsers_are_told_to_load_nothing_else_and_run_nothing_else(client: Client, page: _Page) -> None:
    policy = client.get("/docs").headers["content-security-policy"]
    directives = {words[0]: set(words[1:]) for words in (part.split() for part in policy.split(";"))}
    assert directives.pop("default-src") == {"'none'"}
    assert not any("http" in source or "*" in source for sources in directives.values() for source in sources)
    hashes = {f"'sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}'" for script in page.scripts}
    assert directives["script-src"] == {"'self'", *hashes}
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("swagger-ui-bundle.js", "text/javascript"), ("swagger-ui.css", "text/css"), ("favicon.png", "image/png")],
)
def test_assets_say_what_they_are(client: Client, name: str, media_type: str) -> None:
    answer = client.get(f"/docs/{name}")
    assert answer.headers["content-type"].partition(";")[0] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_folder_of_the_assets_is_not_open(client: Client) -> None:
    for name in ("redoc.standalone.js", "..%2f__init__.py", "%2fetc%2fpasswd", "x"):
        answer = client.get(f"/docs/{name}")
        assert (answer.status_code, answer.json()) == (404, {"error": "There is nothing at this address."})


def test_the_page_is_not_part_of_the_description(client: Client) -> None:
    assert not any(path.startswith("/docs") for path in client.get("/openapi.json").json()["paths"])
