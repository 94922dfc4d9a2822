"""The page's files over HTTP: conditional, compressed, complete, and absent where it is switched off."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from posixpath import dirname, join, normpath

import pytest

from server.settings import GatewaySettings
from tests.server.conftest import MakeSettings
from tests.server.support import Client, serving

WEB = Path(str(files("server") / "web"))
MODULES = sorted(path.relative_to(WEB).as_posix() for path in WEB.rglob("*.js") if "vendor" not in path.parts)
ADDRESSES = ["/", "/web/app.js", "/web/page.css", "/web/icon.svg", "/openapi.json"]
_IMPORT = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["'](\.[^"']+)["']""")


@pytest.fixture(scope="module")
def off(tmp_path_factory: pytest.TempPathFactory, redis_socket: Path) -> Iterator[Client]:
    """A gateway without the page."""
    folder = tmp_path_factory.mktemp("off")
    settings = GatewaySettings(redis_url=f"unix://{redis_socket}", data_dir=folder, page=False, janitor_interval_s=9999)
    with serving(settings) as client:
        yield client


@pytest.mark.parametrize("address", ADDRESSES)
def test_it_is_sent_again_only_if_it_has_changed(client: Client, address: str) -> None:
    first = client.get(address)
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    etag = first.headers["etag"]
    for condition in (etag, etag.removeprefix("W/"), "*", f'"other", {etag}'):
        again = client.get(address, headers={"If-None-Match": condition})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert client.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("deflate, gzip ; q=1.0", True),
        ("identity", False),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, identity", False),
        ("xgzip", False),
    ],
)
def test_it_is_compressed_for_those_who_accept_that(
    client: Client, address: str, accepted: str, is_compressed: bool
) -> None:
    plain = client.get(address, headers={"Accept-Encoding": "identity"})
    with client.stream("GET", address, headers={"Accept-Encoding": accepted}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers.get("content-encoding") == ("gzip" if is_compressed else None)
    assert (gzip.decompress(raw) if is_compressed else raw) == plain.content
    assert not is_compressed or len(raw) < len(plain.content)


def test_a_photo_is_compressed_already(client: Client) -> None:
    answer = client.get("/web/sample.jpg", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.content == (WEB / "sample.jpg").read_bytes()


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_head_says_what_get_would(client: Client, address: str, encoding: str) -> None:
    headers = {"Accept-Encoding": encoding}
    head, get = client.head(address, headers=headers), client.get(address, headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-type", "content-length", "content-encoding", "vary"):
        assert head.headers.get(name) == get.headers.get(name)


@pytest.mark.parametrize(
    ("address", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/web/app.js", "text/javascript; charset=utf-8"),
        ("/web/page.css", "text/css; charset=utf-8"),
        ("/web/icon.svg", "image/svg+xml"),
        ("/web/sample.jpg", "image/jpeg"),
    ],
)
def test_files_say_what_they_are(client: Client, address: str, media_type: str) -> None:
    answer = client.get(address)
    assert answer.headers["content-type"] == media_type
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_browsers_are_told_to_load_nothing_else(client: Client) -> None:
    policy = client.get("/").headers["content-security-policy"]
    directives = {words[0]: set(words[1:]) for words in (part.split() for part in policy.split(";"))}
    assert directives.pop("img-src") == {"'self'", "blob:", "data:"}
    assert set().union(*directives.values()) == {"'self'", "'none'"}
    assert directives["default-src"] == directives["frame-ancestors"] == {"'none'"}


def _named_by(name: str) -> set[str]:
    """Files that a file of the page names, from the page's folder."""
    text = (WEB / name).read_text()
    if name == "index.html":
        return {address.removeprefix("web/") for address in re.findall(r'(?:src|href)="(web/[^"]+)"', text)}
    return {normpath(join(dirname(name), address)) for address in _IMPORT.findall(text)}


def test_every_file_that_the_page_names_is_there(client: Client) -> None:
    named = {name: by for by in ("index.html", *MODULES) for name in _named_by(by)}
    assert len(named) > 20
    missing = {name: by for name, by in named.items() if client.get(f"/web/{name}").status_code != 200}
    assert not missing


def test_every_module_is_named_by_another() -> None:
    named = set().union(*map(_named_by, ("index.html", *MODULES)))
    assert set(MODULES) <= named


def test_what_the_page_needs_first_is_asked_for_at_once() -> None:
    """Modules that are imported at the start are named in the page itself: none waits for the one that imports it."""
    at_once, new = set[str](), {"app.js"}
    while new:
        at_once |= new
        new = {name for module in new for name in _imported_at_once(module)} - at_once
    assert at_once == {name for name in _named_by("index.html") if name.endswith(".js")}


def _imported_at_once(module: str) -> set[str]:
    if module.startswith("vendor/"):
        return set()
    found = re.findall(r"""^import [^;]*?["']([^"']+)["'];""", (WEB / module).read_text(), re.MULTILINE)
    return {normpath(join(dirname(module), address)) for address in found}


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_short(module: str) -> None:
    assert len((WEB / module).read_text().splitlines()) <= 200


def test_every_file_is_served(client: Client) -> None:
    """One of an unknown kind would be left out, as the list of what others have made is on purpose."""
    names = {path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.is_file()} - {
        "index.html",
        "vendor/vendor.toml",
    }
    assert len(names) > 20
    for name in names:
        assert client.get(f"/web/{name}").content == (WEB / name).read_bytes()
    assert client.get("/").content == (WEB / "index.html").read_bytes()


@pytest.mark.parametrize(
    "address",
    [
        "/web",
        "/web/",
        "/web/index.html",
        "/web/x.js",
        "/web/vendor",
        "/web/../app.py",
        "/web/..%2fapp.py",
        "/web//app.js",
    ],
)
def test_nothing_else_is_served(client: Client, address: str) -> None:
    answer = client.get(address)
    assert (answer.status_code, answer.json()) == (404, client.get("/unknown").json())


@pytest.mark.parametrize("address", ["/", "/web/app.js", "/web/"])
def test_the_page_can_be_switched_off(off: Client, address: str) -> None:
    answer, unknown = off.get(address), off.get("/unknown")
    assert (answer.status_code, answer.json()) == (unknown.status_code, unknown.json())
    assert unknown.status_code == 404


@pytest.mark.parametrize("address", ["/docs", "/openapi.json", "/health/live"])
def test_the_rest_stays(off: Client, address: str) -> None:
    assert off.get(address).status_code == 200


def test_its_setting_is_a_word(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELIGHT_PAGE", "off")
    assert make_settings().page is False
    monkeypatch.delenv("FACELIGHT_PAGE")
    assert make_settings().page is True
