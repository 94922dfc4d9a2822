"""What only S3 has: buckets, credentials, pages of a listing, and a network in between."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from tests.live_server import FACELIGHT, free_port
from tests.s3_server import PlainServer, environment, keys, plain_server, write_certificate
from workers.errors import SettingsError, StoreUnavailable
from workers.store import s3
from workers.store.base import StoredFile
from workers.store.open import open_store

NAME = "a" * 32 + "-4102444800.png"


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are raised without retries."""
    monkeypatch.setattr(s3, "_CONFIG", s3._CONFIG.merge(Config(retries={"total_max_attempts": 1})))


class _Forgetful(dict[str, bytes]):
    """Objects that are gone as soon as they are kept."""

    def __setitem__(self, key: str, value: bytes) -> None:
        pass


@contextmanager
def answering(status: int, body: bytes, promised: int) -> Iterator[str]:
    """A server that answers everything in one way, and breaks off after `body` of `promised` bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_missing_bucket_is_refused_at_start(bucket: str) -> None:
    with pytest.raises(SettingsError, match=r"FACELIGHT_STORE: bucket nobodys: .*NoSuchBucket"):
        open_store("s3://nobodys").check()


@pytest.mark.parametrize(
    "process", ["serve", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gateway", "worker"))]
)
def test_every_process_reports_it_and_exits(bucket: str, tmp_path: Path, process: str) -> None:
    environment = {**os.environ, "FACELIGHT_STORE": "s3://nobodys", "FACELIGHT_DATA_DIR": str(tmp_path)}
    ended = subprocess.run([FACELIGHT, process], env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode in (1, 2)
    assert "FACELIGHT_STORE: bucket nobodys" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of an https server on this machine; boto3 trusts it, and has no other settings than its own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    write_certificate(path := tmp_path / "certificate.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(path))
    return path


@contextmanager
def plain_store(certificate: Path | None, monkeypatch: pytest.MonkeyPatch, **faults: Any) -> Iterator[PlainServer]:
    """A server that knows no trailing checksums, which the environment names."""
    with plain_server(certificate, **faults) as server:
        for name, value in environment(server.url).items():
            monkeypatch.setenv(name, value)
        yield server


def test_a_server_that_keeps_checksum_frames_is_refused_at_start_with_the_remedy(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with plain_store(certificate, monkeypatch) as server:
        words = r"FACELIGHT_STORE: bucket some: .* AWS_REQUEST_CHECKSUM_CALCULATION=when_required"
        with pytest.raises(SettingsError, match=words):
            open_store("s3://some/pictures").check()
        assert server.objects == {}, "the check leaves nothing behind"
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        store = open_store("s3://some/pictures")
        store.check()
        name = store.put(b"picture", "png", 60)
        assert server.objects == {f"/some/pictures/{name}": b"picture"}
        assert store.read(name) == b"picture"


@pytest.mark.parametrize("process", ["gateway", pytest.param("worker", marks=pytest.mark.slow)])
def test_no_process_starts_on_a_server_that_keeps_checksum_frames(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, process: str
) -> None:
    with plain_store(certificate, monkeypatch):
        settings = {"FACELIGHT_STORE": "s3://some", "FACELIGHT_DATA_DIR": str(tmp_path), "FACELIGHT_PORT": "0"}
        ended = subprocess.run(
            [FACELIGHT, process], env={**os.environ, **settings}, capture_output=True, text=True, timeout=60
        )
    assert ended.returncode == 1
    assert "AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        pytest.param({"kept": lambda body: body[:-1]}, "4096 bytes were written, and 4095 other ones", id="cut"),
        pytest.param({"kept": lambda body: body + b"\n"}, "4096 bytes were written, and 4097 other ones", id="longer"),
        pytest.param({"kept": lambda body: b""}, "4096 bytes were written, and 0 other ones", id="empty"),
        pytest.param({"kept": lambda body: body[::-1]}, "4096 bytes were written, and 4096 other ones", id="others"),
        pytest.param({"ranges": False}, "a part of 2048 bytes was asked for, and 4096 bytes", id="no ranges"),
    ],
)
def test_a_server_that_returns_other_bytes_is_refused_at_start(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, faults: dict[str, Any], words: str
) -> None:
    with plain_store(None, monkeypatch, **faults) as server:
        with pytest.raises(SettingsError, match=f"FACELIGHT_STORE: bucket some: {words}"):
            open_store("s3://some").check()
        assert server.objects == {}


def test_a_server_that_loses_files_is_refused_at_start(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with plain_store(None, monkeypatch) as server:
        server.objects = _Forgetful()
        with pytest.raises(SettingsError, match="FACELIGHT_STORE: bucket some: a file that was written is not there"):
            open_store("s3://some").check()


def test_a_server_with_wrong_checksums_is_refused_at_start(
    bucket: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    put = backend.put_object

    def put_changed(*args: Any, **options: Any) -> Any:
        stored = put(*args, **options)
        stored.value = stored.value[::-1]
        return stored

    monkeypatch.setattr(backend, "put_object", put_changed)
    with pytest.raises(SettingsError, match=rf"FACELIGHT_STORE: bucket {bucket}: what was written comes back changed"):
        open_store(f"s3://{bucket}").check()


def test_missing_credentials_are_refused_at_start(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SettingsError, match=r"FACELIGHT_STORE: .*Unable to locate credentials"):
        open_store(f"s3://{bucket}").check()


def test_wrong_credentials_are_refused_at_start(bucket: str, s3_url: str) -> None:
    httpx.post(f"{s3_url}/moto-api/reset-auth", content=b"0")  # from now on keys are looked at
    try:
        with pytest.raises(SettingsError, match=r"FACELIGHT_STORE: .*InvalidAccessKeyId"):
            open_store(f"s3://{bucket}").check()
    finally:
        httpx.post(f"{s3_url}/moto-api/reset-auth", content=b"inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_ENDPOINT_URL", "minio:9000"), ("AWS_PROFILE", "nobodys"), ("AWS_REQUEST_CHECKSUM_CALCULATION", "never")],
)
def test_invalid_boto3_settings_are_refused(
    bucket: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"FACELIGHT_STORE: .*{value}"):
        open_store(f"s3://{bucket}")


def test_an_unreachable_server_is_only_logged(
    bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    store = open_store(f"s3://{bucket}")
    store.check()
    assert "not available yet" in caplog.text
    for attempt in (
        lambda: store.put(b"x", "png", 60),
        lambda: store.find(NAME),
        lambda: store.read(NAME),
        lambda: store.open(StoredFile(NAME, 1, 60), 0, 1),
        store.purge_expired,
    ):
        with pytest.raises(StoreUnavailable, match=bucket):
            attempt()
    store.delete(NAME)
    assert "cannot be deleted before it expires" in caplog.text


def test_server_errors(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(503, b"", 0) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(StoreUnavailable):
            open_store(f"s3://{bucket}").put(b"x", "png", 60)


def test_a_truncated_download_is_an_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, b"half a pict", 100) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        store = open_store(f"s3://{bucket}")
        with pytest.raises(StoreUnavailable):
            store.read(NAME)
        chunks = store.open(StoredFile(NAME, 100, 60), 0, 100)
        assert chunks is not None
        with pytest.raises(StoreUnavailable):
            list(chunks)


def test_expired_files_of_many_pages_are_purged_and_nothing_else(bucket: str) -> None:
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for index in range(2100):
        backend.put_object(bucket, f"pictures/{index:032d}-1000000000.png", b"")
    foreign = {"pictures/readme.txt", f"others/{'a' * 32}-1000000000.png", f"pictures/more/{'a' * 32}-1000000000.png"}
    for key in foreign:
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=b"")
    store = open_store(f"s3://{bucket}/pictures/")
    kept = store.put(b"picture", "png", 60)
    assert store.purge_expired() == 2100
    assert keys(bucket) == {f"pictures/{kept}", *foreign}


def test_without_a_prefix_keys_are_names(bucket: str) -> None:
    name = open_store(f"s3://{bucket}").put(b"picture", "png", 60)
    assert keys(bucket) == {name}


def test_boto3_is_loaded_only_where_it_is_used(tmp_path: Path) -> None:
    program = (
        "import sys, server.app, workers.store.open as s; s.open_store(sys.argv[1]); sys.exit('boto3' in sys.modules)"
    )
    for location, loaded in ((str(tmp_path), 0), ("s3://bucket", 1)):
        result = subprocess.run([sys.executable, "-c", program, location], cwd=Path(__file__).parents[3])
        assert result.returncode == loaded, location
