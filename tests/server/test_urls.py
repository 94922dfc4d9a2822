"""URLs that clients can reach, whatever stands between."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from server.urls import UrlBuilder, base_url, is_host
from tests.server.conftest import MakeSettings
from tests.server.support import Client, body_for, serving

NAME = "Vh0Qk3cJx1yTq5m2b8nZr7dL4wGfPsAe.png"


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({}, "http://fallback:1"),
        ({"host": "a.example"}, "http://a.example"),
        ({"host": "a.example:8000"}, "http://a.example:8000"),
        ({"host": "[::1]:8000"}, "http://[::1]:8000"),
        ({"host": "my_service:80"}, "http://my_service:80"),
        ({"host": "a", "x-forwarded-host": "b.example"}, "http://b.example"),
        ({"host": "a", "x-forwarded-host": "b.example, c.example"}, "http://b.example"),
        ({"host": "a", "x-forwarded-proto": "https"}, "https://a"),
        ({"host": "a", "x-forwarded-proto": "HTTPS,http"}, "https://a"),
        ({"host": "a", "x-forwarded-prefix": "/api/"}, "http://a/api"),
        ({"host": "a", "x-forwarded-proto": "javascript"}, "http://a"),
        ({"host": "a", "x-forwarded-prefix": "/../x"}, "http://a"),
        ({"host": "a", "x-forwarded-prefix": "//evil.example"}, "http://a"),
        ({"host": "a", "x-forwarded-prefix": "/a?b"}, "http://a"),
        ({"host": "a", "x-forwarded-host": "b/evil"}, "http://a"),
        ({"host": "user@evil"}, "http://fallback:1"),
        ({"host": "a:99999"}, "http://fallback:1"),
        ({"host": "[::::]"}, "http://fallback:1"),
        ({"host": "a\nb"}, "http://fallback:1"),
        ({"host": "a b"}, "http://fallback:1"),
    ],
)
def test_base_url(headers: dict[str, str], base: str) -> None:
    assert base_url("http", Headers(headers), "fallback:1") == base


header = st.text(st.characters(max_codepoint=255), max_size=30) | st.from_regex(
    r"[a-z.:/\[\]@?#%0-9]{1,20}", fullmatch=True
)


@given(host=header, forwarded=header, proto=header, prefix=header)
def test_no_header_breaks_out_of_the_url(host: str, forwarded: str, proto: str, prefix: str) -> None:
    raw = {"host": host, "x-forwarded-host": forwarded, "x-forwarded-proto": proto, "x-forwarded-prefix": prefix}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in raw.items()]
    base = base_url("http", Headers(raw=encoded), "fallback:1")
    parts = urlsplit(f"{base}/files/x")
    assert parts.scheme in ("http", "https")
    assert is_host(parts.netloc)
    assert parts.port is None or 0 <= parts.port < 65_536
    assert parts.path.endswith("/files/x") and not parts.query and not parts.fragment
    assert base.isascii() and not any(character.isspace() for character in base)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        (f"/files/{NAME}", NAME),
        (f"/files/{NAME}?x=1#y", NAME),
        (f"https://images.example/api/files/{NAME}", NAME),
        (f"http://IMAGES.example:80/api/files/{NAME}", NAME),
        (f"http://10.0.0.5:8000/files/{NAME}", NAME),
        (f"https://images.example/other/{NAME}", None),
        (f"https://images.example:444/api/files/{NAME}", None),
        (f"https://evil.example/files/{NAME}", None),
        (f"https://images.example@evil.example/api/files/{NAME}", None),
        ("https://[broken/files/x", None),
        ("https://images.example:port/api/files/x", None),
        (f"files/{NAME}", None),
    ],
)
def test_own_files(reference: str, name: str | None) -> None:
    urls = UrlBuilder("https://images.example/api", ("http://10.0.0.5:8000", "http://images.example/api"))
    assert urls.file_name(reference) == name


@given(reference=st.text(max_size=60) | st.text(max_size=40).map("http://a.example".__add__))
def test_any_text_may_be_asked_about(reference: str) -> None:
    name = UrlBuilder("http://a.example").file_name(reference)
    assert name is None or name in reference.replace("\n", "").replace("\t", "").replace("\r", "")


def test_a_proxy_is_seen_in_every_url(client: Client) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "api.example", "X-Forwarded-Prefix": "/segmind"}
    body = client.post("/v2/ic-light", json=body_for("ic-light"), headers=headers).json()
    for name in ("poll_url", "status_url", "response_url"):
        assert body[name].startswith("https://api.example/segmind/v")


def test_malformed_hosts_never_reach_a_url(client: Client) -> None:
    body = client.post("/v2/ic-light", json=body_for("ic-light"), headers={"Host": "evil.example/x?"}).json()
    assert "evil" not in body["status_url"]
    assert urlsplit(body["status_url"]).hostname == "127.0.0.1"


def test_public_url_wins(make_settings: MakeSettings) -> None:
    with serving(make_settings(public_url="https://images.example/api/")) as client:
        headers = {"X-Forwarded-Host": "other.example"}
        body = client.post("/v2/ic-light", json=body_for("ic-light"), headers=headers).json()
        assert body["status_url"] == f"https://images.example/api/v2/requests/{body['request_id']}/status"
