"""Presigned URLs: how long they are valid, and which are ours."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlsplit

import pytest

from workers.errors import StoreRefused
from workers.store.open import open_presigned

TOKEN = "a" * 32


def name(expires_in_s: float) -> str:
    return f"{TOKEN}-{int(time.time() + expires_in_s)}.png"


@pytest.mark.parametrize(("ttl_s", "valid_s"), [(40, 40), (3600, 3600), (-5, 1), (30 * 86_400, 7 * 86_400)])
def test_they_are_valid_until_the_picture_expires(bucket: str, s3_url: str, ttl_s: int, valid_s: int) -> None:
    url = open_presigned(f"s3://{bucket}", s3_url).of(name(ttl_s), "image/png")
    asked = parse_qs(urlsplit(url).query)
    assert int(asked["X-Amz-Expires"][0]) == pytest.approx(valid_s, abs=2)
    assert asked["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert asked["response-content-type"] == ["image/png"]


@pytest.mark.parametrize("prefix", ["", "/a/b", "/a/b/"])
def test_their_names_are_known(bucket: str, s3_url: str, prefix: str) -> None:
    urls, file = open_presigned(f"s3://{bucket}{prefix}", s3_url), name(60)
    url = urls.of(file, "image/webp")
    assert urls.file_name(url) == file
    assert urls.file_name(url.partition("?")[0]) == file
    for other in (
        url.replace(bucket, "another"),
        url.replace("http://", "https://"),
        url.replace(s3_url, "http://127.0.0.1:1"),
        url.replace(TOKEN, "short"),
        url.replace(f"/{TOKEN}", f"/x/{TOKEN}"),
    ):
        assert urls.file_name(other) is None, other


def test_none_is_made_without_credentials(bucket: str, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreRefused, match="Unable to locate credentials"):
        open_presigned(f"s3://{bucket}", s3_url).of(name(60), "image/png")


def test_a_folder_has_none(s3_url: str) -> None:
    with pytest.raises(ValueError, match="is no bucket"):
        open_presigned("/var/pictures", s3_url)
