"""What hosts of image URLs answer: pictures whatever they are called, and everything else told as what it is."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from server.settings import GatewaySettings
from tests.server.conftest import MakeSettings
from tests.server.support import PNG, SLUGS, Client, FakeWorker, Host, body_for, image_field, picture, serving

HTML = b"<!DOCTYPE html>\n<html><body>Please sign in</body></html>"
JPEG = picture(40, 40, "JPEG")


def ask(client: Client, url: str, slug: str = "ic-light") -> Any:
    return client.post(f"/v2/{slug}", json=body_for(slug, **{image_field(slug): url}))


def refusal(answer: Any) -> str:
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"])


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        ({"Content-Type": "text/html; charset=utf-8"}, HTML, "text/html, not a picture"),
        ({"Content-Type": "TEXT/HTML"}, b"gone", "text/html, not a picture"),
        ({"Content-Type": "image/png"}, b"\xef\xbb\xbf\r\n<html lang=en>", "text/html, not a picture"),
        ({}, b"  " + HTML.lower(), "text/html, not a picture"),
        ({"Content-Type": "application/json"}, b'{"error": "expired"}', "application/json, not a picture"),
        ({"Content-Type": "application/xml"}, b"<Error/>", "application/xml, not a picture"),
        ({"Content-Type": "text/plain"}, b"no", "text/plain, not a picture"),
        ({"Content-Type": "video/mp4"}, b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video/mp4, not a picture"),
        ({"Content-Type": "a <b>\u00fc"}, b"what?", "an unknown media type, not a picture"),
        (
            {"Content-Type": "image/png", "Content-Encoding": "gzip"},
            gzip.compress(PNG, mtime=0),
            "image/png compressed with gzip, which this server does not expand",
        ),
        (
            {"Content-Type": "text/html", "Content-Encoding": "gzip"},
            gzip.compress(HTML, mtime=0),
            "text/html compressed with gzip, which this server does not expand",
        ),
        ({}, gzip.compress(PNG, mtime=0), "a body compressed with gzip, which this server does not expand"),
        (
            {"Content-Type": "image/jpeg", "Content-Encoding": "br"},
            b"\x0b\x02\x80",
            "image/jpeg compressed with br, which this server does not expand",
        ),
        ({"Content-Type": "image/png"}, b"", "an empty body"),
        ({"Content-Type": "text/html", "Content-Length": "0"}, b"", "an empty body"),
    ],
)
def test_what_is_no_picture_is_told(
    client: Client, host: Host, slug: str, headers: dict[str, str], body: bytes, words: str
) -> None:
    host.pages["/answer"] = (200, headers, body)
    assert refusal(ask(client, f"{host.url}/answer", slug)) == f"{image_field(slug)}: the URL was answered with {words}"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "text/html"},
        {"Content-Type": "image/gif"},
        {"Content-Type": "no media type"},
        {"Content-Type": "image/png", "Content-Encoding": "gzip"},
    ],
    ids=str,
)
def test_a_picture_is_taken_whatever_it_is_called(
    client: Client, worker: FakeWorker, host: Host, headers: dict[str, str], form: str
) -> None:
    data = picture(40, 40, form)
    for status in (200, 203):
        host.pages["/mislabelled"] = (status, headers, data)
        record = worker.record(client.submit(subject_image=f"{host.url}/mislabelled"))
        assert worker.store.read(record.params["subject_image"]) == data


def test_a_broken_picture_is_told_as_one(client: Client, host: Host) -> None:
    host.pages["/broken"] = (200, {"Content-Type": "image/png"}, b"\x01\x02\x03")
    assert "is not a readable" in refusal(ask(client, f"{host.url}/broken"))
    host.pages["/cut"] = (200, {"Content-Type": "text/plain"}, JPEG[:-200])
    assert "text/plain" not in refusal(ask(client, f"{host.url}/cut"))


def test_ten_redirects_each_of_them_checked(client: Client, worker: FakeWorker, host: Host) -> None:
    def chain(length: int, end: str) -> str:
        for hop in range(length):
            path = f"/hop{length}-{hop}"
            host.pages[path] = ((301, 302, 303, 307, 308)[hop % 5], {"Location": end}, b"")
            end = path if hop % 2 else host.url + path
        return end if end.startswith("http") else host.url + end

    record = worker.record(client.submit(subject_image=chain(10, "/photo.png")))
    assert worker.store.read(record.params["subject_image"]) == PNG
    assert "the URL redirects more than 10 times" in refusal(ask(client, chain(11, "/photo.png")))
    private = f"http://10.0.0.1/{quote('secret')}"
    assert "an address that is not public" in refusal(ask(client, chain(9, private)))


@dataclass
class Authority:
    """A certificate authority of a company, and files for those who trust it and those whom it has certified."""

    folder: Path
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Authority {self.folder.name}")])
        self.folder.mkdir()
        certificate = self._sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))
        self.file = self.folder / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context_for(self, host: str) -> ssl.SSLContext:
        """What a server needs that has a certificate for the address or the name `host`."""
        key = ec.generate_private_key(ec.SECP256R1())
        known = x509.DNSName(host) if host.endswith("example") else x509.IPAddress(ip_address(host))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._sign(subject, key, x509.SubjectAlternativeName([known]))
        pem = self.folder / f"{host}.pem"
        private = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        pem.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, *private)
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).add_extension(extension, critical=True)
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        return builder.sign(self.key, hashes.SHA256())


class SecureHosts:
    """https servers on this machine; `agents` are the User-Agents by which they were asked."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.agents: list[str] = []

    def start(self, context: ssl.SSLContext) -> str:
        """URL of a picture on a new one."""
        agents = self.agents

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                agents.append(self.headers["User-Agent"])
                self.send_response(200)
                self.end_headers()
                self.wfile.write(PNG)

            def log_message(self, *_args: object) -> None:
                """Keep the test output clean."""

        server = self._stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(server.shutdown)
        return f"https://127.0.0.1:{server.server_port}/photo.png"


@pytest.fixture
def secure() -> Iterator[SecureHosts]:
    with ExitStack() as stack:
        yield SecureHosts(stack)


DISTRUST = "subject_image: the URL's host has a certificate that this server does not trust"


def test_the_authorities_of_a_company(
    make_settings: MakeSettings, secure: SecureHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both the one of the setting and the one of the environment are trusted, for their own hosts and nobody else's."""
    ours, theirs, strange = (Authority(tmp_path / name) for name in ("ours", "theirs", "strange"))
    urls = [secure.start(authority.context_for("127.0.0.1")) for authority in (ours, theirs, strange)]
    misnamed = secure.start(ours.context_for("photos.example"))
    monkeypatch.setenv("SSL_CERT_FILE", str(theirs.file))
    allowed = {"fetch_allow_cidrs": "127.0.0.0/8"}
    with serving(
        make_settings(**allowed, fetch_ca_file=str(ours.file), fetch_user_agent="me/1 (me@example)")
    ) as client:
        assert [ask(client, url).status_code for url in urls] == [200, 200, 400]
        assert refusal(ask(client, urls[2])) == DISTRUST
        assert refusal(ask(client, misnamed)) == DISTRUST
    assert secure.agents == ["me/1 (me@example)"] * 2
    with serving(make_settings(**allowed)) as client:
        assert [ask(client, url).status_code for url in urls] == [400, 200, 400]
    monkeypatch.delenv("SSL_CERT_FILE")
    with serving(make_settings(**allowed)) as client:
        assert [refusal(ask(client, url)) for url in urls] == [DISTRUST] * 3
    assert secure.agents[2:] == ["facelight"]


def test_files_that_hold_no_certificates_are_refused_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for file, words in ((text, "no certificate"), (tmp_path / "absent.pem", "No such file")):
        with pytest.raises(ValidationError, match=f"FACELIGHT_FETCH_CA_FILE: no certificates can be read.*{words}"):
            GatewaySettings(fetch_ca_file=file)
        with monkeypatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(file))
            with pytest.raises(ValidationError, match=f"SSL_CERT_FILE: no certificates can be read.*{words}"):
                GatewaySettings()


@pytest.mark.parametrize("user_agent", ["", " me", "me\r\nX: y", "m\u00fc", "x" * 201])
def test_user_agents_that_cannot_be_sent_are_refused_at_start(user_agent: str) -> None:
    with pytest.raises(ValidationError, match="printable ASCII"):
        GatewaySettings(fetch_user_agent=user_agent)
