"""Whatever arrives is answered: in words, without a defect, and without a look behind the scenes."""

from __future__ import annotations

import json
import random
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import checks

from models.catalog import MODELS
from server.settings import GatewaySettings
from tests.conftest import empty_redis
from tests.server.conftest import NEVER
from tests.server.support import PNG, SLUGS, Client, body_for, image_field, serving, working

_HERE = re.escape(str(Path(__file__).parents[2]))
_LEAK = re.compile(
    rf'{_HERE}|Traceback|File "|\.py\b|site-packages|/home/|/root/|/tmp/|/var/|redis://|unix://|line \d+'
)
_PATHS = (*(f"/{version}/{slug}" for version in ("v1", "v2") for slug in SLUGS), "/upload-asset")
_STRANGE = (
    None, True, 0, -1, 1e308, 10**30, "", " ", "\0", "\ud800", "é" * 50, "x" * 20_000, "None", "NaN", "-0", "٣", "1_0",
    "../../etc/passwd", "data:,", "data:image/png;base64,AAAA", "http://[", "file:///etc/passwd", "%00", "{{7*7}}",
    [], [[]], {}, {"a": {"b": []}}, ["x"] * 100, {"$ref": "#"}, {"__proto__": 1},
)  # fmt: skip
_BOUNDARY = "b0undary"
_CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


def _json_body(chance: random.Random, slug: str) -> tuple[str, bytes]:
    body = body_for(slug)
    names = [*MODELS[slug].params.model_fields, "data_urls", "", "a" * 300, "__class__"]
    for _ in range(chance.randint(1, 4)):
        body[chance.choice(names)] = chance.choice(_STRANGE)
    return "application/json", json.dumps(body).encode()


def _form_body(chance: random.Random, slug: str) -> tuple[str, bytes]:
    fields = [(name, chance.choice(_STRANGE)) for name in chance.sample(list(MODELS[slug].params.model_fields), 4)]
    text = [(name, str(value).encode("utf-8", "replace")) for name, value in fields]
    return "application/x-www-form-urlencoded", urlencode(text).encode()


def _multipart_body(chance: random.Random, slug: str) -> tuple[str, bytes]:
    parts = [
        f'form-data; name="{image_field(slug)}"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'.encode() + PNG,
        b'form-data; name="prompt"\r\n\r\na portrait',
        b'form-data; name="seed"\r\nContent-Transfer-Encoding: base64\r\n\r\n' + bytes(chance.randbytes(8)),
        b"form-data; filename*=UTF-8''%e2%82%ac\r\n\r\nx",
        b"attachment\r\n\r\n",
        b'form-data; name="' + b"n" * chance.choice([1, 5000]) + b'"\r\n\r\n' + b"y",
    ]
    chosen = chance.choices(parts, k=chance.randint(1, 6))
    lines = b"".join(f"--{_BOUNDARY}\r\n".encode() + b"Content-Disposition: " + part + b"\r\n" for part in chosen)
    return f"multipart/form-data; boundary={_BOUNDARY}", lines + f"--{_BOUNDARY}--\r\n".encode()


_MAKERS: tuple[Callable[[random.Random, str], tuple[str, bytes]], ...] = (_json_body, _form_body, _multipart_body)


def _damaged(chance: random.Random, data: bytes) -> bytes:
    """Bytes cut off, flipped, repeated or put in, at some place."""
    place = chance.randrange(len(data) + 1)
    match chance.randrange(6):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
        case 2:
            return data[:place] + chance.randbytes(chance.randint(1, 40)) + data[place:]
        case 3:
            return data[:place] + data[place // 2 :]
        case 4:
            return data[:place] + b"[" * chance.choice([10, 50_000]) + data[place:]
        case _:
            return data


def _request(chance: random.Random) -> tuple[str, dict[str, str], bytes]:
    media_type, data = chance.choice(_MAKERS)(chance, chance.choice(SLUGS))
    other = chance.choice(
        ["", "application/json", "multipart/form-data", "text/plain", "application/json; charset=\x7f"]
    )
    headers = {"Content-Type": media_type if chance.random() < 0.8 else other}
    if chance.random() < 0.1:
        headers["Idempotency-Key"] = chance.choice(["", "k", "x" * 300, "a\tb"])
    return chance.choice(_PATHS), headers, _damaged(chance, data)


def _is_well_answered(answer: httpx.Response) -> bool:
    """2xx, or a refusal in the one shape; nothing of the machine or the code shows."""
    if answer.is_success:
        return True
    body = answer.json()
    refused = answer.status_code < 500 and isinstance(body["error"], str)
    return (
        refused
        and set(body) <= {"error", "detail", "status", "request_id", "metrics"}
        and not _LEAK.search(answer.text)
    )


@pytest.fixture(scope="module")
def busy(redis_socket: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A gateway whose requests are served as they come."""
    settings = GatewaySettings(
        redis_url=empty_redis(redis_socket),  # its worker would try to serve the requests of other tests
        data_dir=tmp_path_factory.mktemp("fuzz"),
        janitor_interval_s=NEVER,
        queue_limit=1_000_000,
        max_body_mb=1,
    )
    with serving(settings) as client, working(settings):
        yield client


@pytest.mark.parametrize("count", [400, pytest.param(6000, marks=pytest.mark.slow)])
def test_malformed_bodies(busy: Client, count: int) -> None:
    chance, codes = random.Random(count), dict[int, int]()
    for number in range(count):
        path, headers, data = _request(chance)
        answer = busy.post(path, content=data, headers=headers)
        codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
        assert _is_well_answered(answer), (number, path, headers, data[:500], answer.status_code, answer.text[:500])
    assert codes[400] > count / 2
    assert codes[200] > 0


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_malformed_http(busy: Client, count: int) -> None:
    """Damaged heads of requests: each connection ends, with an answer that fits or without one."""
    chance = random.Random(count)
    address = (busy.base_url.host, busy.base_url.port)
    head = (
        b"POST /v2/ic-light?a=%00 HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nRange: bytes=0-\r\n\r\n"
        b"2\r\n{}\r\n0\r\n\r\n"
    )
    for _ in range(count):
        with socket.create_connection(address, timeout=15) as client:
            client.sendall(_damaged(chance, _damaged(chance, head)))
            client.shutdown(socket.SHUT_WR)
            answer = b""
            with suppress(ConnectionResetError):
                while data := client.recv(65536):
                    answer += data
        assert not answer or answer.startswith(b"HTTP/1.1 ")
        assert not re.match(rb"HTTP/1.1 5", answer), answer
        assert not _LEAK.search(answer.decode("latin-1"))
    assert busy.get("/health/live").status_code == 200


@pytest.mark.parametrize("examples", [8, pytest.param(150, marks=pytest.mark.slow)])
def test_walks_through_the_document(busy: Client, examples: int) -> None:
    """Calls that follow from each other's answers, made up from the OpenAPI document."""
    schema = schemathesis.openapi.from_url(str(busy.base_url.join("/openapi.json")))

    class Walk(schema.as_state_machine()):  # type: ignore[misc]
        def validate_response(self, response: schemathesis.Response, case: schemathesis.Case, **_: object) -> None:
            """No defect, no outage, a body that fits the document, nothing of the machine."""
            case.validate_response(response, checks=_CHECKS)
            assert not _LEAK.search(response.text), response.text

    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=12,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    Walk.run(settings=settings)
