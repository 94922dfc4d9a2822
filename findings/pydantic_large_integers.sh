#!/usr/bin/env bash
# pydantic 2.14.4 takes integers of any size for an `int`, from numbers and from strings, but not if the number was
# written with an exponent, and then says that a string could not be parsed.
#
# JavaScript writes every integer from 10^21 on with an exponent: JSON.stringify(1e21) is 1e+21, which is an integer to
# JSON (RFC 8259 knows no other kind of number). pydantic accepts 1e+18 for an int, and 1000000000000000000000 too, but
# refuses 1e+19 and 1e+21 with "Unable to parse input string as an integer, exceeded maximum size". The limit of that
# path is 64 bits; the others have none. It matters for seeds and ids, which clients in JavaScript draw as large as they
# like: the same value is accepted or refused by how it is spelled. This project turns whole floats into integers before
# validation (models/params.py).
#
# Exits with 0 as long as the behaviour is as described.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pydantic==2.14.4
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from pydantic import TypeAdapter, ValidationError

integer = TypeAdapter(int)


def outcome(document: str) -> int | str:
    try:
        return integer.validate_json(document)
    except ValidationError as error:
        return error.errors()[0]["msg"]


print("pydantic", version("pydantic"), "pydantic-core", version("pydantic-core"))
documents = ("1e+18", "1e+19", "1e+21", "10000000000000000000", "1000000000000000000000", '"1000000000000000000000"')
found = {document: outcome(document) for document in documents}
for document, result in found.items():
    print(f"{document:26} {result}")
refused = "Unable to parse input string as an integer, exceeded maximum size"
assert found["1e+18"] == 10**18
assert found["1e+19"] == found["1e+21"] == refused
assert found["10000000000000000000"] == 10**19
assert found["1000000000000000000000"] == found['"1000000000000000000000"'] == 10**21
print("as described: one value, accepted or refused by its spelling")
PYTHON
