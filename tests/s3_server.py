"""S3-compatible servers on this machine, and buckets on them."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import secrets
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from moto.server import ThreadedMotoServer

from tests.packages import packages

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDFACELIGHTTESTS00", "AWS_SECRET_ACCESS_KEY": "secret"}


@contextmanager
def s3_server() -> Iterator[ThreadedMotoServer]:
    """Run a server on a free port; it forgets everything at its end."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def node_s3_server(folder: Path) -> Iterator[str]:
    """Run s3rver, an S3-compatible server for Node.js, on a free port; yields its URL. Skips the test without npm."""
    program = packages(Path(__file__).parent / "workers" / "store" / "s3rver") / "node_modules" / ".bin" / "s3rver"
    command = ["node", program, "--directory", folder, "--address", "127.0.0.1", "--port", "0"]
    log = folder.with_suffix(".log")
    with log.open("w") as output, subprocess.Popen(command, stdout=output) as process:
        try:
            while not (listening := re.search(r"listening on (\S+)\n", log.read_text())):
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            yield f"http://{listening[1]}"
        finally:
            process.kill()


def url_of(server: ThreadedMotoServer) -> str:
    """Where the server listens."""
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def environment(url: str) -> dict[str, str]:
    """What an operator sets for boto3 to use the server at `url`, and nothing else of this machine's settings."""
    return {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def new_bucket() -> str:
    """Make a bucket where the environment says; returns its name."""
    name = f"facelight-{secrets.token_hex(6)}"
    client = boto3.session.Session().client("s3")  # the default session would keep the first credentials
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name


def keys(bucket: str) -> set[str]:
    """Keys of all objects of a bucket."""
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {entry["Key"] for page in pages for entry in page.get("Contents", ())}


class PlainHandler(BaseHTTPRequestHandler):
    """Objects as an S3 server keeps them that knows no trailing checksums: what the body of a PUT is, is the object."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.objects[self.path] = self.server.kept(body)
        self._answer(200)

    def do_GET(self) -> None:
        data = self.server.objects.get(self.path)
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if "list-type" in self.path:
            self._answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        elif data is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif part and self.server.ranges:
            self._answer(206, data[int(part[1]) : int(part[2]) + 1])
        else:
            self._answer(200, data)

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        self.server.objects.pop(self.path, None)
        self._answer(204)

    def _chunk(self) -> bytes:
        """The next chunk of HTTP's own transfer coding; empty at the end."""
        data = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return data

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test output clean."""


class PlainServer(ThreadingHTTPServer):
    """The server of `PlainHandler`: `kept` is what becomes of a body, `objects` what there is, by path."""

    def __init__(self, certificate: Path | None, kept: Callable[[bytes], bytes], ranges: bool) -> None:
        super().__init__(("127.0.0.1", 0), PlainHandler)
        self.objects: dict[str, bytes] = {}
        self.kept, self.ranges = kept, ranges
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)


@contextmanager
def plain_server(
    certificate: Path | None = None, kept: Callable[[bytes], bytes] = bytes, ranges: bool = True
) -> Iterator[PlainServer]:
    """Run a `PlainServer`, over https with a certificate."""
    with PlainServer(certificate, kept, ranges) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def write_certificate(path: Path) -> None:
    """A key and a certificate, signed by itself, for 127.0.0.1: both in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
