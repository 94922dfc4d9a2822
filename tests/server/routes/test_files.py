"""Downloads, from a folder and from S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import RangeNotSatisfiable
from server.routes.ranges import matches, parse_range
from server.settings import GatewaySettings
from tests.s3_server import environment, new_bucket
from tests.server.support import PNG, Client, FakeWorker, serving


@pytest.fixture(scope="module", params=["folder", "s3"])
def settings(
    request: pytest.FixtureRequest, redis_socket: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewaySettings]:
    """Settings of a gateway that all tests of a kind of store share."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        location = None
        if request.param == "s3":
            for name, value in environment(request.getfixturevalue("s3_url")).items():
                patch.setenv(name, value)
            location = f"s3://{new_bucket()}/pictures"
        yield GatewaySettings(redis_url=f"unix://{redis_socket}", data_dir=folder, store=location)


@pytest.fixture(scope="module")
def client(settings: GatewaySettings) -> Iterator[Client]:
    with serving(settings) as client:
        yield client


@pytest.fixture
def name(worker: FakeWorker) -> str:
    return worker.store.put(PNG, "png", 3600)


def test_whole(client: Client, name: str) -> None:
    answer = client.get(f"/files/{name}")
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(PNG))
    assert answer.headers["etag"] == f'"{name.partition(".")[0]}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    kept, immutable, age = answer.headers["cache-control"].split(", ")
    assert (kept, immutable) == ("private", "immutable")
    assert 3000 < int(age.removeprefix("max-age=")) <= 3600


def test_head(client: Client, name: str) -> None:
    answer = client.head(f"/files/{name}")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", str(len(PNG)))


def test_a_proxy_that_asks_for_it_is_told_the_path(client: Client, settings: GatewaySettings, name: str) -> None:
    asked = {"X-Sendfile-Type": "X-Accel-Redirect"}
    for headers in (asked, {**asked, "Range": "bytes=1-2"}, {**asked, "If-Range": '"other"'}):
        answer = client.get(f"/files/{name}", headers=headers)
        assert answer.status_code == (206 if "s3" in settings.store_location and "Range" in headers else 200)
        assert answer.headers["etag"] == f'"{name.partition(".")[0]}"'
        assert answer.headers["content-type"] == "image/png"
        if settings.store_location.startswith("s3://"):
            assert "x-accel-redirect" not in answer.headers and answer.content
        else:
            assert answer.content == b""
            path = Path(settings.store_location, answer.headers["x-accel-redirect"].removeprefix("/"))
            assert path.read_bytes() == PNG
    assert client.get("/files/none.png", headers=asked).status_code == 404
    assert client.get(f"/files/{name}", headers={**asked, "Range": "bytes=99999-"}).status_code == 416
    assert "x-accel-redirect" not in client.get(f"/files/{name}", headers={"X-Sendfile-Type": "X-Sendfile"}).headers


def test_not_modified(client: Client, name: str) -> None:
    etag = client.get(f"/files/{name}").headers["etag"]
    for tag in (etag, f"W/{etag}", "*", f'"other", {etag}'):
        answer = client.get(f"/files/{name}", headers={"If-None-Match": tag})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert client.get(f"/files/{name}", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=10-", slice(10, None)),
        ("bytes=-5", slice(-5, None)),
        ("bytes=0-99999", slice(None)),
    ],
)
def test_parts(client: Client, name: str, wanted: str, part: slice) -> None:
    answer = client.get(f"/files/{name}", headers={"Range": wanted})
    start, stop, _ = part.indices(len(PNG))
    assert (answer.status_code, answer.content) == (206, PNG[part])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(PNG)}"
    assert answer.headers["content-length"] == str(stop - start)


def test_part_beyond_the_end(client: Client, name: str) -> None:
    answer = client.get(f"/files/{name}", headers={"Range": "bytes=99999-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(PNG)}")
    assert answer.json() == {"error": "The file ends before that range."}


def test_part_of_another_file_is_the_whole(client: Client, name: str) -> None:
    etag = client.get(f"/files/{name}").headers["etag"]
    for tag, status in ((etag, 206), ('"other"', 200)):
        answer = client.get(f"/files/{name}", headers={"Range": "bytes=0-9", "If-Range": tag})
        assert answer.status_code == status


def test_gone(client: Client, worker: FakeWorker, name: str) -> None:
    assert client.get(f"/files/{name}").status_code == 200
    worker.store.delete(name)
    expired = worker.store.put(PNG, "png", -1)
    private = worker.store.put(PNG, "bin", 3600)
    for missing in (name, expired, private, "x", "..%2F..%2Fetc%2Fpasswd", "%00", "x" * 40 + ".png"):
        answer = client.get(f"/files/{missing}")
        assert answer.status_code == 404
        assert "error" in answer.json()
        assert client.head(f"/files/{missing}").status_code == 404


bounds = st.integers(0, 60) | st.none()


@given(first=bounds, last=bounds, size=st.integers(1, 50))
def test_ranges_are_slices(first: int | None, last: int | None, size: int) -> None:
    data = bytes(range(size))
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    if first is None and last is None:
        expected: bytes | None = None
    elif first is None:
        expected = data[max(0, size - (last or 0)) :]
    elif last is not None and last < first:
        expected = None
    else:
        expected = data[first : None if last is None else last + 1]
    if expected == b"":
        with pytest.raises(RangeNotSatisfiable):
            parse_range(header, size)
        return
    part = parse_range(header, size)
    assert (part and data[part.start : part.start + part.length]) == expected


@given(header=st.text(max_size=30) | st.from_regex(r"bytes=[-0-9, a]{0,40}", fullmatch=True))
def test_any_range_is_understood_ignored_or_refused(header: str) -> None:
    try:
        part = parse_range(header, 100)
    except RangeNotSatisfiable:
        return
    assert part is None or (0 <= part.start < 100 and 0 < part.length <= 100 - part.start)


def test_entity_tags() -> None:
    assert not matches(None, '"a"')
    assert not matches("", '"a"')
    assert not matches("a", '"a"')
