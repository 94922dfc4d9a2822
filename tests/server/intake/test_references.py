"""Every spelling of a picture that is named in a body, through the door: what is stored are the picture's bytes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.server.support import SLUGS, Client, FakeWorker, Host, image_field, picture

ENCODINGS = ("json", "multipart", "urlencoded")
FORM = {"content-type": "application/x-www-form-urlencoded"}
JPEG = picture(48, 40, "JPEG", quality=97)
BASE64 = base64.b64encode(JPEG).decode()
URI = f"data:image/jpeg;base64,{BASE64}"
Wrap = Callable[[str], str]
AROUND = ("{}\n", "\r\n{}\r\n", "  {}\t", "\f\v{} \n", "\u00a0{}\u2028")


def with_plus_at_the_end() -> bytes:
    """A picture, and bytes behind it that no decoder looks at, whose base64 ends with a plus sign."""
    data = JPEG + b"\0" * (-len(JPEG) % 3) + b"\0\0\x3e"
    assert base64.b64encode(data).endswith(b"+")
    return data


def send(client: Client, encoding: str, reference: str, slug: str = "ic-light") -> Any:
    fields = {"prompt": "p", image_field(slug): reference}
    if encoding == "json":
        return client.post(f"/v2/{slug}", json=fields)
    if encoding == "multipart":
        return client.post(f"/v2/{slug}", files={name: (None, value) for name, value in fields.items()})
    return client.post(f"/v2/{slug}", data=fields)


def stored(worker: FakeWorker, answer: Any) -> bytes | None:
    """The picture as a worker finds it."""
    assert answer.status_code == 200, answer.text
    record = worker.record(answer.json()["request_id"])
    return worker.store.read(record.params[image_field(record.slug)])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("slug", SLUGS)
def test_white_space_around_a_reference(
    client: Client, worker: FakeWorker, host: Host, encoding: str, slug: str
) -> None:
    host.pages["/face.jpg"] = (200, {"Content-Type": "image/jpeg"}, JPEG)
    for around in AROUND:
        for reference in (URI, BASE64, f"{host.url}/face.jpg"):
            assert stored(worker, send(client, encoding, around.format(reference), slug)) == JPEG, (around, reference)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_white_space_around_a_picture_of_this_server(client: Client, worker: FakeWorker, encoding: str) -> None:
    url = client.post("/upload-asset", json={"data_urls": [f"\n {URI}\t\r\n"]}).json()["urls"][0]
    for reference in (f"{url}\n", f" /files/{url.rpartition('/')[2]} "):
        assert stored(worker, send(client, encoding, reference)) == JPEG


HEADERS = (
    "data:image/jpeg; base64,",
    "data:image/jpeg ;base64 ,",
    "DATA:image/jpeg;BASE64,",
    "data:;base64,",
    "data:image/jpeg;charset=utf-8;base64,",
    "data:image/jpeg;name=me.jpg;base64,",
    'data:image/jpeg;name="me, again.jpg";base64,',
    "data:image/jpeg;base64;charset=utf-8,",
    "data:image/jpeg; charset=utf-8 ; name=me%20too.jpg ; base64,",
)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_headers_of_data_uris(client: Client, worker: FakeWorker, encoding: str) -> None:
    for header in HEADERS:
        assert stored(worker, send(client, encoding, header + BASE64)) == JPEG, header


def _lines(by: str, width: int = 76) -> Wrap:
    return lambda text: by.join(text[start : start + width] for start in range(0, len(text), width))


PAYLOADS: dict[str, Wrap] = {
    "percent": lambda text: quote(text, safe=""),
    "percent in lower case": lambda text: quote(text, safe="").replace("%2B", "%2b").replace("%2F", "%2f"),
    "percent and lines": lambda text: quote(_lines("\n")(text), safe=""),
    "percent everywhere": lambda text: "".join(f"%{ord(letter):02x}" for letter in text),
    "url-safe": lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
    **{f"wrapped by {by!r}": _lines(by) for by in ("\n", "\r\n", "\t", "\f", "\v", "\n\n  ")},
    "a blank after the comma": lambda text: " " + text,
}


@pytest.mark.parametrize("prefix", ["data:image/jpeg;base64,", ""], ids=["data URI", "bare"])
@pytest.mark.parametrize("spelling", PAYLOADS)
def test_spellings_of_base64(client: Client, worker: FakeWorker, prefix: str, spelling: str) -> None:
    assert {"+", "/", "="} <= set(BASE64), "or nothing is tried"
    reference = prefix + PAYLOADS[spelling](BASE64)
    assert stored(worker, send(client, "json", reference)) == JPEG
    assert stored(worker, send(client, "multipart", reference)) == JPEG
    if "  " not in reference:  # which stands for plus signs there
        assert stored(worker, send(client, "urlencoded", reference)) == JPEG
    answer = client.post("/upload-asset", json={"data_urls": [f"data:image/jpeg;base64,{PAYLOADS[spelling](BASE64)}"]})
    assert client.get(answer.json()["urls"][0]).content == JPEG


def test_a_blank_is_nothing_in_json_and_a_plus_sign_in_urlencoded_forms(client: Client, worker: FakeWorker) -> None:
    spaced = _lines(" ")
    for reference in (spaced(BASE64), f"data:image/jpeg;base64,{spaced(BASE64)}"):
        assert stored(worker, send(client, "json", reference)) == JPEG
        assert stored(worker, send(client, "multipart", reference)) == JPEG
    for data in (JPEG, with_plus_at_the_end()):
        for prefix in ("data:image/png;base64,", "data:image/png; base64,", ""):
            raw = f"prompt=p&subject_image={prefix}{base64.b64encode(data).decode()}"
            assert "+" in raw
            assert stored(worker, client.post("/v2/ic-light", content=raw, headers=FORM)) == data


def test_data_uris_that_are_not_base64(client: Client, worker: FakeWorker) -> None:
    for header in ("data:image/jpeg,", "data:,", "data:image/jpeg;charset=US-ASCII,", 'data:image/jpeg;name="a,b",'):
        reference = header + quote(JPEG, safe="")
        assert stored(worker, client.post("/v2/ic-light", json=_named(reference))) == JPEG, header
        assert stored(worker, client.post("/v2/ic-light", content=urlencode(_named(reference)), headers=FORM)) == JPEG


def _named(reference: str) -> dict[str, str]:
    return {"prompt": "p", "subject_image": reference}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nothing_but_white_space_is_no_picture(client: Client, encoding: str) -> None:
    answer = send(client, encoding, " \n\t ")
    assert answer.status_code == 400
    words = "must have at least 1 character" if encoding == "json" else "is required"
    assert answer.json()["error"] == f"subject_image: {words}"
