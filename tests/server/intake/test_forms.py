"""Forms as browsers and HTTP libraries send them, and numbers as other languages write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from models.catalog import MODELS
from tests.server.support import DATA_URI, PNG, SLUGS, Client, FakeWorker, body_for, image_field, picture
from tests.workers.state.support import unfinished

JSON = {"content-type": "application/json"}
MULTIPART = {"content-type": "multipart/form-data; boundary=frontier"}
SAFE_INTEGER = 2**53 - 1
"""JavaScript's Number.MAX_SAFE_INTEGER."""
Part = tuple[str, bytes]
"""(what stands behind `form-data; `, and further header fields; the content)"""


def multipart(*parts: Part, closing: bytes = b"--frontier--\r\n") -> bytes:
    lines = (
        b"--frontier\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (head.encode(), data)
        for head, data in parts
    )
    return b"".join(lines) + closing


def text_parts(**fields: str) -> list[Part]:
    return [(f'name="{name}"', value.encode()) for name, value in fields.items()]


def params_of(worker: FakeWorker, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return dict(worker.record(answer.json()["request_id"]).params)


def refused(answer: Any) -> str:
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"])


@pytest.mark.parametrize("encoding", ["multipart", "urlencoded"])
@pytest.mark.parametrize("slug", SLUGS)
def test_optional_fields_left_empty_are_absent(client: Client, worker: FakeWorker, slug: str, encoding: str) -> None:
    shape = MODELS[slug].params
    said = params_of(worker, client.post(f"/v2/{slug}", json=body_for(slug)))
    texts = {"prompt", "negative_prompt", "appended_prompt"} & set(shape.model_fields)
    for empty in ("", " "):
        fields = body_for(
            slug, **{name: empty for name in shape.model_fields if name not in (*texts, image_field(slug))}
        )
        sent = {"files": {name: (None, value) for name, value in fields.items()}} if encoding == "multipart" else {}
        found = params_of(worker, client.post(f"/v2/{slug}", **(sent or {"data": fields})))
        assert 0 <= found.pop("seed") < 2**32, "a random one"
        found.pop(image_field(slug))
        assert found == {name: value for name, value in said.items() if name in found}
        assert set(said) - set(found) == {"seed", image_field(slug)}


@pytest.mark.parametrize("encoding", ["multipart", "urlencoded"])
def test_empty_prompts_are_prompts(client: Client, worker: FakeWorker, encoding: str) -> None:
    """Whoever empties the field of what the picture must not show means just that."""
    fields = body_for("ic-light", prompt="", negative_prompt="", appended_prompt="")
    sent = {"files": {name: (None, value) for name, value in fields.items()}} if encoding == "multipart" else {}
    params = params_of(worker, client.post("/v2/ic-light", **(sent or {"data": fields})))
    assert (params["prompt"], params["negative_prompt"], params["appended_prompt"]) == ("", "", "")


def test_of_a_file_and_a_url_field_of_one_name_the_one_that_was_filled_in_counts(
    client: Client, worker: FakeWorker
) -> None:
    file = ('name="subject_image"; filename="a.png"\r\nContent-Type: image/png', PNG)
    no_file = ('name="subject_image"; filename=""\r\nContent-Type: application/octet-stream', b"")
    prompt = ('name="prompt"', b"p")
    for parts in (
        (file, *text_parts(subject_image="")),
        (no_file, *text_parts(subject_image=DATA_URI)),
        (*text_parts(subject_image=DATA_URI), no_file),
    ):
        answer = client.post("/v2/ic-light", content=multipart(*parts, prompt), headers=MULTIPART)
        assert worker.store.read(params_of(worker, answer)["subject_image"]) == PNG
    answer = client.post("/v2/ic-light", content=multipart(no_file, prompt), headers=MULTIPART)
    assert refused(answer) == "subject_image: is required"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "media_type", ["image/png", "IMAGE/jpeg; charset=binary", "application/octet-stream", "image/*", None]
)
@pytest.mark.parametrize("slug", SLUGS)
def test_a_file_without_a_name(
    client: Client, worker: FakeWorker, slug: str, media_type: str | None, form: str
) -> None:
    data = picture(40, 40, form)
    header = f"\r\nContent-Type: {media_type}" if media_type else ""
    part = (f'name="{image_field(slug)}"{header}', data)
    answer = client.post(f"/v2/{slug}", content=multipart(*text_parts(prompt="p"), part), headers=MULTIPART)
    assert worker.store.read(params_of(worker, answer)[image_field(slug)]) == data


@pytest.mark.parametrize("media_type", ["text/plain", "text/plain; charset=utf-8", "application/json"])
def test_text_with_a_media_type_is_text(client: Client, worker: FakeWorker, media_type: str) -> None:
    """As clients send it that give every part a Content-Type."""
    fields = {"subject_image": DATA_URI, "prompt": "Zoë", "width": "640", "seed": "7"}
    parts = [(f'name="{name}"\r\nContent-Type: {media_type}', value.encode()) for name, value in fields.items()]
    params = params_of(worker, client.post("/v2/ic-light", content=multipart(*parts), headers=MULTIPART))
    assert (params["prompt"], params["width"], params["seed"]) == ("Zoë", 640, 7)
    assert worker.store.read(params["subject_image"]) == PNG


def test_text_in_the_charset_that_its_part_names(client: Client, worker: FakeWorker) -> None:
    prompt = ('name="prompt"\r\nContent-Type: text/plain; charset=ISO-8859-15', "5 € für Zoë".encode("iso-8859-15"))
    content = multipart(prompt, *text_parts(subject_image=DATA_URI))
    assert params_of(worker, client.post("/v2/ic-light", content=content, headers=MULTIPART))["prompt"] == "5 € für Zoë"


NUMBERS = {
    "ic-light": (
        *("width", "height", "steps", "cfg", "lowres_denoise", "highres_scale"),
        *("highres_denoise", "number_of_images", "seed", "output_quality"),
    ),
    "pulid-lightning": ("width", "height", "number_of_images", "seed", "output_quality"),
}


@pytest.mark.parametrize(("slug", "field"), [(slug, field) for slug, fields in NUMBERS.items() for field in fields])
def test_true_and_false_are_no_numbers(client: Client, slug: str, field: str) -> None:
    for version in ("v1", "v2"):
        for value in (True, False):
            answer = client.post(f"/{version}/{slug}", json=body_for(slug, **{field: value}))
            assert refused(answer) == f"{field}: must not be {str(value).lower()}"


def test_every_number_is_asked_about() -> None:
    for slug, fields in NUMBERS.items():
        schema = MODELS[slug].params.model_json_schema()["properties"]
        assert {name for name, field in schema.items() if field.get("type") in ("integer", "number")} == set(fields)


SEEDS = (
    ("0", 0),
    ("9007199254740991", SAFE_INTEGER),
    ("9007199254740992", 0),
    ("9223372036854775807", 2**63 - 1),
    ("9223372036854775808", 2**63),
    ("18446744073709551615", 2**64 - 1),
    ("18446744073709551621", 2**64 + 5),
    ("-2", -2),
    ("-9223372036854775809", -(2**63) - 1),
    ("1e19", 10**19),
    ("1e+21", 10**21),
    ("9.3e+18", 93 * 10**17),
    ("1" + "0" * 300, 10**300),
)


@pytest.mark.parametrize(("digits", "value"), SEEDS)
def test_integers_of_any_size_are_seeds(client: Client, worker: FakeWorker, digits: str, value: int) -> None:
    """Numbers and numeric strings alike, as JavaScript and others write them; what comes back can be sent again."""
    answers = [
        client.post(
            "/v2/ic-light", content=json.dumps(body_for("ic-light"))[:-1] + f', "seed": {number}}}', headers=JSON
        )
        for number in (digits, f'"{digits}"')
    ]
    answers.append(client.post("/v2/ic-light", data=body_for("ic-light", seed=digits)))
    answers.append(
        client.post(
            "/v2/ic-light", content=multipart(*text_parts(**body_for("ic-light", seed=digits))), headers=MULTIPART
        )
    )
    for answer in answers:
        request_id = answer.json()["request_id"]
        assert params_of(worker, answer)["seed"] == value % 2**53
        worker.complete(request_id)
        told = client.get(f"/v2/requests/{request_id}").json()["seed"]
        assert told == value % 2**53 <= SAFE_INTEGER
        assert float(told) == told, "exact as a JavaScript number"
        again = client.submit(seed=float(told))
        assert worker.record(again).params["seed"] == told


@pytest.mark.parametrize("seed", ["1.5", '"1.5e0"', '"1e400"', '"0x10"', '"' + "9" * 5000 + '"', "[]", "{}"])
def test_what_is_no_integer_is_no_seed(client: Client, seed: str) -> None:
    content = json.dumps(body_for("ic-light"))[:-1] + f', "seed": {seed}}}'
    assert refused(client.post("/v2/ic-light", content=content, headers=JSON)).startswith("seed: must be a")


CUT = "The multipart body was cut short: its closing delimiter is missing."
PATHS = (*(f"/{version}/{slug}" for version in ("v1", "v2") for slug in SLUGS), "/upload-asset")


@pytest.mark.parametrize("path", PATHS)
def test_a_multipart_body_without_its_closing_delimiter(client: Client, worker: FakeWorker, path: str) -> None:
    """Wherever it was cut: nothing of it is taken."""
    parts = text_parts(**body_for(path.rpartition("/")[2], seed="7")) if path != "/upload-asset" else []
    whole = multipart(*parts, ('name="x"; filename="a.png"\r\nContent-Type: image/png', PNG))
    end = whole.rindex(b"--frontier--")
    for length in (0, 1, 12, 40, end - len(PNG), end - 2, end, end + 5, end + 10, end + 11):
        answer = client.post(path, content=whole[:length], headers=MULTIPART)
        assert refused(answer) == CUT, whole[:length][-40:]
    assert refused(client.post(path, content=whole[:end] + b"--frontier\r\n", headers=MULTIPART)) == CUT
    assert unfinished(worker.redis) == []


@pytest.mark.parametrize(
    "closing", [b"--frontier--", b"--frontier--\r\n", b"--frontier--\r\n\r\n", b"--frontier--\r\nand an epilogue\r\n"]
)
def test_what_follows_the_closing_delimiter_does_not_matter(client: Client, worker: FakeWorker, closing: bytes) -> None:
    content = multipart(*text_parts(**body_for("ic-light", seed="7")), closing=closing)
    assert params_of(worker, client.post("/v2/ic-light", content=content, headers=MULTIPART))["seed"] == 7
    piecemeal = (content[start : start + 7] for start in range(0, len(content), 7))
    assert params_of(worker, client.post("/v2/ic-light", content=piecemeal, headers=MULTIPART))["seed"] == 7


def test_percent_encoded_text_that_is_not_utf_8_is_refused(client: Client) -> None:
    header = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/v2/ic-light", content=b"prompt=%E9&subject_image=x", headers=header)
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "The request body is not a valid urlencoded form in UTF-8.",
    )
