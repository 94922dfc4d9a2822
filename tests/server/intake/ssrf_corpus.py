"""URLs that lead, or seem to lead, into networks that no stranger may reach through this server.

`{port}` is the port that victims listen on, at several loopback addresses; `{host}` is a web server whose address the
gateway may fetch from, and which redirects from `/to/<status>/<quoted URL>`. Names ending in `.test` are resolved by
the test, as `NAMES` says: one list of addresses per question, the last one for ever.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

PUBLIC: Final = "127.0.0.2"
"""Stands for a public address: the one that the gateway may fetch from."""
VICTIMS: Final = ("127.0.0.1", "127.0.0.3", "127.1.2.3", "::1")
"""Stand for private peers: somebody listens there."""

NAMES: Final[dict[str, list[list[str]]]] = {
    "inside.test": [["127.0.0.1"]],
    "inside-v6.test": [["::1"]],
    "mapped.test": [["::ffff:127.0.0.1"]],
    "ten.test": [["10.0.0.1"]],
    "metadata.test": [["169.254.169.254"]],
    "nat64.test": [["64:ff9b::a9fe:a9fe"]],
    "link-local.test": [["fe80::1"]],
    "mixed.test": [[PUBLIC, "127.0.0.3"]],
    "mixed-first.test": [["127.0.0.3", PUBLIC]],
    "mixed-v6.test": [[PUBLIC, "::1"]],
    "many.test": [[PUBLIC] * 20 + ["10.0.0.1"]],
    "rebind.test": [[PUBLIC], ["127.0.0.1"]],
    "metadata.google.internal.test": [["169.254.169.254"]],
}
"""Addresses of names, question by question."""

_LITERALS: Final = (
    "127.0.0.1",
    "127.0.0.3",
    "127.1",
    "127.1.2.3",
    "127.000.000.001",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0177.0.0.1",
    "0177.0.0.0x1",
    "0",
    "0.0.0.0",
    "127.0.0.1.",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "LocalHost.",
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "１２７.0.0.1",
    "user@127.0.0.1",
    "user:secret@127.0.0.1",
    "photos.example@127.0.0.1",
    "photos.example:80@127.0.0.1",
    "photos.example%23@127.0.0.1",
    "127.0.0.1\\@photos.example",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[fe80::5efe:127.0.0.1]",
    "[2606:4700::5efe:127.0.0.1]",
    "[2606:4700::200:5efe:127.0.0.1]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[::1%25lo]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[ff02::1]",
    "[ff0e::1]",
    "[100::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[5f00::1]",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "0xa9fea9fe",
    "2852039166",
    "0251.0376.0251.0376",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
)
"""Hosts: spellings of loopback, and one address or more of every special network (RFC 6890)."""

_URLS: Final = (
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "ftp://127.0.0.1:{port}/photo.png",
    "gopher://127.0.0.1:{port}/_GET%20/",
    "dict://127.0.0.1:{port}/stat",
    "ldap://127.0.0.1:{port}/",
    "jar:http://127.0.0.1:{port}!/photo.png",
    "netdoc:///etc/passwd",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "redis://127.0.0.1:{port}/0",
    "ws://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/photo.png",
    "http:127.0.0.1:{port}/photo.png",
    "http:/127.0.0.1:{port}/photo.png",
    "http:///127.0.0.1:{port}/photo.png",
    "http:\\\\127.0.0.1:{port}\\photo.png",
    "http://",
    "http://:{port}/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:-1/",
    "http://[::1:{port}/",
    "http://127.0.0.1 .photos.example:{port}/",
    "http://127.0.0.1%00.photos.example:{port}/",
    "http://127.0.0.1%0d%0aHost:photos.example:{port}/",
    "https://127.0.0.1:{port}/photo.png",
    "HTTP://127.0.0.1:{port}/photo.png",
    " http://127.0.0.1:{port}/photo.png",
    "http://127.0.0.1:{port}/photo.png#@photos.example/",
    "http://127.0.0.1:{port}?@photos.example/",
    *(f"http://{name}:{{port}}/photo.png" for name in NAMES),
    "http://INSIDE.test:{port}/photo.png",
    "http://inside.test.:{port}/photo.png",
    "https://inside.test:{port}/photo.png",
)

_TARGETS: Final = (
    "http://127.0.0.1:{port}/photo.png",
    "http://[::1]:{port}/photo.png",
    "//127.0.0.3:{port}/photo.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal.test/computeMetadata/v1/",
    "http://inside.test:{port}/photo.png",
    "http://2130706433:{port}/photo.png",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
    "data:image/png;base64,iVBORw0KGgo=",
)

_REDIRECTS: Final = (
    *(f"{{host}}/to/{status}/{quote(_TARGETS[0], safe='{}')}" for status in (301, 302, 303, 307, 308)),
    *(f"{{host}}/to/302/{quote(target, safe='{}')}" for target in _TARGETS[1:]),
    "{host}/to/302/" + quote("{host}/to/302/" + quote(_TARGETS[0], safe="{}"), safe="{}"),
    "{host}/to/300/" + quote(_TARGETS[0], safe="{}"),
)

CASES: Final = (*(f"http://{literal}:{{port}}/photo.png" for literal in _LITERALS), *_URLS, *_REDIRECTS)
"""All URLs, their blanks still to be filled in."""
