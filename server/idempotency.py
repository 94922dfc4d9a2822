"""The `Idempotency-Key` header: a submission that is sent again, since its answer got lost, is made only once.

An extension after the IETF's draft-ietf-httpapi-idempotency-key-header. The key is the caller's own; what else was
sent with it is remembered as a digest, so that a key which is used for something else is noticed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Final

from fastapi import Header

from models.params import CommonParams
from server.errors import BadRequest

_KEY: Final = re.compile(r"[ -~]{1,255}")


IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Extension: up to 255 characters of your own, such as a UUID. A second call with the same key "
        "and the same body is given the first one's request instead of making another; with another body it is "
        "refused with 409.",
        json_schema_extra={"pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},  # blanks at the ends are no part of a header
    ),
]
"""The header's value, in a route; None if it was not sent."""


def check_key(key: str | None) -> None:
    """Raise `BadRequest` for a key that is too long or not printable."""
    if key is not None and not _KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key must have 1 to 255 printable ASCII characters.")


def fingerprint(slug: str, params: CommonParams, images: Mapping[str, bytes]) -> str:
    """Digest of all that a caller asks for: model, parameters, and the pictures themselves, however they were sent."""
    fields = params.model_dump(mode="json", exclude=set(params.image_fields))
    digests = {name: sha256(data).hexdigest() for name, data in images.items()}
    return sha256(json.dumps([slug, fields, digests], sort_keys=True).encode()).hexdigest()
