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

import boto3
import httpx
import pytest
from botocore.config import Config
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from tests.live_server import FACELIGHT, free_port
from tests.s3_server import keys
from workers import store_s3
from workers.errors import SettingsError, StoreUnavailable
from workers.store import StoredFile
from workers.stores import open_store

NAME = "a" * 32 + "-4102444800.png"


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are told at once."""
    monkeypatch.setattr(store_s3, "_CONFIG", store_s3._CONFIG.merge(Config(retries={"total_max_attempts": 1})))


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


def test_a_bucket_that_does_not_exist_is_told_at_start(bucket: str) -> None:
    with pytest.raises(SettingsError, match=r"FACELIGHT_STORE: bucket nobodys: .*NoSuchBucket"):
        open_store("s3://nobodys").check()


@pytest.mark.parametrize("process", ["serve", "gateway", "worker"])
def test_every_process_says_so_and_ends(bucket: str, tmp_path: Path, process: str) -> None:
    environment = {**os.environ, "FACELIGHT_STORE": "s3://nobodys", "FACELIGHT_DATA_DIR": str(tmp_path)}
    ended = subprocess.run([FACELIGHT, process], env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode in (1, 2)
    assert "FACELIGHT_STORE: bucket nobodys" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_missing_credentials_are_told_at_start(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SettingsError, match=r"FACELIGHT_STORE: .*Unable to locate credentials"):
        open_store(f"s3://{bucket}").check()


def test_wrong_credentials_are_told_at_start(bucket: str, s3_url: str) -> None:
    httpx.post(f"{s3_url}/moto-api/reset-auth", content=b"0")  # from now on keys are looked at
    try:
        with pytest.raises(SettingsError, match=r"FACELIGHT_STORE: .*InvalidAccessKeyId"):
            open_store(f"s3://{bucket}").check()
    finally:
        httpx.post(f"{s3_url}/moto-api/reset-auth", content=b"inf")


@pytest.mark.parametrize(("name", "value"), [("AWS_ENDPOINT_URL", "minio:9000"), ("AWS_PROFILE", "nobodys")])
def test_settings_of_boto3_that_do_not_fit_are_told(
    bucket: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"FACELIGHT_STORE: .*{value}"):
        open_store(f"s3://{bucket}")


def test_a_server_that_is_away_may_come_back(
    bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    store = open_store(f"s3://{bucket}")
    store.check()
    assert "cannot be used yet" in caplog.text
    for attempt in (
        lambda: store.put(b"x", "png", 60),
        lambda: store.find(NAME),
        lambda: store.read(NAME),
        lambda: store.open(StoredFile(NAME, 1, 60), 0, 1),
        store.sweep,
    ):
        with pytest.raises(StoreUnavailable, match=bucket):
            attempt()
    store.drop(NAME)
    assert "left to expire" in caplog.text


def test_a_server_in_trouble(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(503, b"", 0) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with pytest.raises(StoreUnavailable):
            open_store(f"s3://{bucket}").put(b"x", "png", 60)


def test_a_picture_that_breaks_off_is_not_taken_for_whole(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, b"half a pict", 100) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        store = open_store(f"s3://{bucket}")
        with pytest.raises(StoreUnavailable):
            store.read(NAME)
        chunks = store.open(StoredFile(NAME, 100, 60), 0, 100)
        assert chunks is not None
        with pytest.raises(StoreUnavailable):
            list(chunks)


def test_expired_files_of_many_pages_are_swept_and_nothing_else(bucket: str) -> None:
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for index in range(2100):
        backend.put_object(bucket, f"pictures/{index:032d}-1000000000.png", b"")
    foreign = {"pictures/readme.txt", f"others/{'a' * 32}-1000000000.png", f"pictures/more/{'a' * 32}-1000000000.png"}
    for key in foreign:
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=b"")
    store = open_store(f"s3://{bucket}/pictures/")
    kept = store.put(b"picture", "png", 60)
    assert store.sweep() == 2100
    assert keys(bucket) == {f"pictures/{kept}", *foreign}


def test_without_prefix_files_lie_at_the_top(bucket: str) -> None:
    name = open_store(f"s3://{bucket}").put(b"picture", "png", 60)
    assert keys(bucket) == {name}


def test_boto3_is_loaded_only_where_it_is_used(tmp_path: Path) -> None:
    program = "import sys, server.app, workers.stores as s; s.open_store(sys.argv[1]); sys.exit('boto3' in sys.modules)"
    for location, loaded in ((str(tmp_path), 0), ("s3://bucket", 1)):
        result = subprocess.run([sys.executable, "-c", program, location], cwd=Path(__file__).parents[2])
        assert result.returncode == loaded, location
