"""Bodies of any shape: parsed, or refused in words."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog import MODELS
from server.errors import BadRequest, InvalidParameters
from server.intake.body import parse_json, parse_urlencoded
from server.intake.images import parse_base64, parse_data_url
from server.intake.params import parse_params

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(sorted({name for model in MODELS.values() for name in model.params.model_fields})) | text


@given(body=st.dictionaries(text, values, max_size=5))
def test_json_objects_come_back(body: dict[str, Any]) -> None:
    assert parse_json(json.dumps(body).encode()) == body


@given(data=st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()))
def test_other_json_is_refused(data: bytes) -> None:
    try:
        body = parse_json(data)
    except BadRequest as error:
        assert str(error).startswith("The request body")
    else:
        assert isinstance(body, dict)


@given(body=st.dictionaries(text, text, max_size=5))
def test_forms_come_back(body: dict[str, str]) -> None:
    assert parse_urlencoded(urlencode(body).encode()) == body


@given(data=st.binary(max_size=60))
def test_any_form_is_read_or_refused(data: bytes) -> None:
    try:
        body = parse_urlencoded(data)
    except BadRequest:
        return
    assert all(isinstance(value, str) for value in body.values())


def test_of_a_repeated_field_the_last_one_counts() -> None:
    assert parse_urlencoded(b"a=1&a=2") == {"a": "2"}
    assert parse_json(b'{"a": 1, "a": 2}') == {"a": 2}


@given(slug=st.sampled_from(sorted(MODELS)), body=st.dictionaries(names, values | st.binary(max_size=9), max_size=8))
def test_any_parameters_are_accepted_or_refused(slug: str, body: dict[str, Any]) -> None:
    try:
        params, references = parse_params(MODELS[slug], body, max_megapixels=64)
    except InvalidParameters as error:
        named = [detail["field"] for detail in error.extra["detail"]]
        assert named
        assert all(field in str(error) for field in named)
    else:
        assert set(references) == {name for name in params.image_fields if getattr(params, name) is not None}
        assert json.dumps(params.model_dump(mode="json"))


@given(data=st.binary(max_size=200), urlsafe=st.booleans(), padded=st.booleans(), lines=st.booleans())
def test_base64_in_every_spelling(data: bytes, urlsafe: bool, padded: bool, lines: bool) -> None:
    encoded = (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode()
    encoded = encoded if padded else encoded.rstrip("=")
    encoded = "\n".join(encoded[start : start + 76] for start in range(0, len(encoded), 76)) if lines else encoded
    assert parse_base64(encoded) == data
    assert parse_data_url(f"data:image/png;base64,{encoded}") == data


@pytest.mark.parametrize("url", ["data:", "data:image/png", "data:image/png;base64,*"])
def test_malformed_data_urls(url: str) -> None:
    with pytest.raises(BadRequest):
        parse_data_url(url)


def test_percent_encoded_data_urls() -> None:
    assert parse_data_url("data:text/plain,a%20b%ff") == b"a b\xff"
