#!/usr/bin/env bash
# botocore 1.44.5 (all of boto3's S3 calls) sends one and the same `put_object` in two forms, by the scheme of the URL:
#   http:  the object is the body, and its checksum a header;
#   https: the body is the object between `aws-chunked` frames with the checksum behind it, inside HTTP's own chunks.
# A server that does not know the second form (older S3-compatible ones) undoes HTTP's chunks, keeps the frames as part
# of the object, answers 200, and nobody notices before somebody reads it. Tests over http do not show it.
# AWS_REQUEST_CHECKSUM_CALCULATION=when_required gives the first form over https, too.
# Ends with status 0 while that is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check botocore==1.44.5 trustme==1.2.1

cat > "$folder/put.py" <<'PYTHON'
import os
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore
import botocore.session
import trustme

kept, sent = [], []


class Handler(BaseHTTPRequestHandler):
    """Keeps what is left of a body when HTTP's own coding is undone, as any web framework hands it on."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        if self.headers["Transfer-Encoding"] == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        kept.append(body)
        sent.append({name: self.headers[name] for name in ("Content-Encoding", "x-amz-checksum-crc32", "X-Amz-Trailer")})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def put(scheme, setting):
    os.environ["AWS_REQUEST_CHECKSUM_CALCULATION"] = setting
    server, authority = ThreadingHTTPServer(("127.0.0.1", 0), Handler), trustme.CA()
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with authority.cert_pem.tempfile() as trusted:
        client = botocore.session.Session().create_client(
            "s3", "us-east-1", endpoint_url=f"{scheme}://127.0.0.1:{server.server_port}", verify=trusted,
            aws_access_key_id="key", aws_secret_access_key="secret",
        )
        client.put_object(Bucket="bucket", Key="key", Body=b"picture")
    server.shutdown()
    print(f"{scheme:5} {setting:14} kept {kept[-1]!r}\n{'':20} headers {sent[-1]}")
    return kept[-1]


print("botocore", botocore.__version__)
plain = put("http", "when_supported") == b"picture"
framed = put("https", "when_supported")
mended = put("https", "when_required") == b"picture"
as_told = framed.startswith(b"7\r\npicture\r\n0\r\nx-amz-checksum-crc32:") and plain and mended
print("as described" if as_told else "botocore behaves in another way now")
sys.exit(not as_told)
PYTHON
env -u AWS_PROFILE AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null "$folder/venv/bin/python" "$folder/put.py"
