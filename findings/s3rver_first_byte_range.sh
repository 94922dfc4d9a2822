#!/usr/bin/env bash
# s3rver 3.7.1 (npm; an S3-compatible server that projects test their S3 code with) takes the last byte of a range for
# "none given" if its number is 0: `Range: bytes=0-0` gets status 206 and the whole object, while `bytes=0-1` and
# `bytes=1-1` get two bytes and one. S3 sends the one byte (RFC 9110, 14.1.2: both ends are included).
# Why it matters: probing for a size or for support of ranges by `bytes=0-0` is common, by players and download tools
# too; a proxy that has promised its caller one byte and copies what comes breaks its own answer. So what an S3 server
# sends has to be compared with what was asked for; facelight's store refuses it in words.
# Ends with status 0 while that is so.
set -euo pipefail
folder=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" s3rver@3.7.1
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check botocore==1.44.5
mkdir "$folder/objects"
: >"$folder/log"
node "$folder/node_modules/.bin/s3rver" -d "$folder/objects" -a 127.0.0.1 -p 0 --configure-bucket bucket >"$folder/log" &
server=$!
until grep -q 'listening on' "$folder/log"; do sleep 0.1; done

cat > "$folder/get.py" <<'PYTHON'
import sys

import botocore
import botocore.session

client = botocore.session.Session().create_client(
    "s3", "us-east-1", endpoint_url=sys.argv[1], aws_access_key_id="S3RVER", aws_secret_access_key="S3RVER"
)
client.put_object(Bucket="bucket", Key="key", Body=b"abcdefgh")
found = {}
for part in ("bytes=0-0", "bytes=0-1", "bytes=1-1"):
    answer = client.get_object(Bucket="bucket", Key="key", Range=part)
    found[part] = (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Body"].read())
    print(part, *found[part], answer.get("ContentRange"))
told = {"bytes=0-0": (206, b"abcdefgh"), "bytes=0-1": (206, b"ab"), "bytes=1-1": (206, b"b")}
print(f"botocore {botocore.__version__}:", "as described" if found == told else "s3rver behaves in another way now")
sys.exit(found != told)
PYTHON
url="http://$(sed -n 's/.*listening on //p' "$folder/log")"
env -u AWS_PROFILE AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null \
  "$folder/venv/bin/python" "$folder/get.py" "$url"
