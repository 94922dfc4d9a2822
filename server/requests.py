"""Accepts a request: parameters checked, pictures stored, record put into the queue, a worker called."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from hashlib import sha256
from typing import Annotated, Final

from anyio.to_thread import run_sync
from fastapi import Header

from models.catalog import Model
from models.errors import UnreadableImage
from models.params import RANDOM_SEED, CommonParams
from server.auth import ANYONE
from server.dependencies import Gateway
from server.errors import BadRequest, ImageUnavailable, InvalidParameters, NotFound
from server.intake.body import Body
from server.intake.images import PRIVATE_EXTENSION, is_at_hand, load_image
from server.intake.params import References, parse_params
from server.schemas import FieldError
from server.urls import UrlBuilder
from workers.errors import StoreUnavailable
from workers.state.record import Idempotency, QueueLimits, Record, Status
from workers.state.registry import served_variants

_log = logging.getLogger(__name__)
_RANDOM_SEEDS: Final = 2**32
"""Each of them starts another picture on every device: a CPU's generator looks at no more bits of a seed."""
_IDEMPOTENCY_KEY: Final = re.compile(r"[ -~]{1,255}")
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


async def submit(
    new_id: str,
    model: Model,
    body: Body,
    owner: str,
    gateway: Gateway,
    urls: UrlBuilder,
    idempotency_key: str | None = None,
) -> str:
    """Accept a request as `new_id` and return its id; that of an earlier one, if it was sent with its key before.

    Raises `InvalidParameters` for what the caller must mend, `QueueFull`, `OutOfCredits`, `IdempotencyConflict` or
    `RedisError`; nothing is left behind then.
    """
    params, references = parse_params(model, body, gateway.settings.max_output_megapixels)
    if not all(is_at_hand(reference, urls) for reference in references.values()):
        await run_sync(_check_acceptable, model.slug, owner, params, idempotency_key, gateway)
    images = {field: await _load(field, references, owner, gateway, urls) for field in references}
    return await run_sync(_accept, new_id, model.slug, owner, params, images, idempotency_key, gateway)


def _check_acceptable(
    slug: str, owner: str, params: CommonParams, idempotency_key: str | None, gateway: Gateway
) -> None:
    """Refuse what `_accept` would refuse now, before pictures are fetched for nothing."""
    _check_servable(slug, params, gateway)
    if idempotency_key is None:  # what was accepted already needs no room
        gateway.records.check_room(slug, owner, _limits(owner, gateway))


def _check_servable(slug: str, params: CommonParams, gateway: Gateway) -> None:
    """Refuse what the living workers have no weights for; raises `InvalidParameters`.

    While no worker serves the model nothing is refused: what the next one can do is not known.
    """
    served = served_variants(gateway.registry.live_workers(), slug)
    if served is not None and params.variant not in served:
        message = f"cannot be served: no worker of this server has the weights for {params.variant!r}"
        raise InvalidParameters([FieldError(field=params.variant_field, message=message)])


async def _load(field: str, references: References, owner: str, gateway: Gateway, urls: UrlBuilder) -> bytes:
    try:
        return await load_image(references[field], owner, gateway, urls)
    except (ImageUnavailable, UnreadableImage) as error:
        raise InvalidParameters([FieldError(field=field, message=str(error))]) from error


def _accept(
    new_id: str,
    slug: str,
    owner: str,
    params: CommonParams,
    images: Mapping[str, bytes],
    idempotency_key: str | None,
    gateway: Gateway,
) -> str:
    _check_servable(slug, params, gateway)
    once = Idempotency(idempotency_key, fingerprint(slug, params, images)) if idempotency_key else None
    seed = secrets.randbelow(_RANDOM_SEEDS) if params.seed == RANDOM_SEED else params.seed
    request_id = None
    try:
        with ExitStack() as files:  # at whose end they are durable, while a worker reads them already
            stored = {field: files.enter_context(_placed(data, gateway)) for field, data in images.items()}
            settled = params.model_copy(update={**stored, "seed": seed})
            request_id = _enqueue(new_id, slug, owner, settled, once, gateway)
    except StoreUnavailable:
        if request_id == new_id:
            cancel(new_id, gateway)
        raise
    if request_id != new_id:  # no file may be left without its request
        for name in stored.values():
            gateway.store.delete(name)
    _log.info("accepted %s for %s", request_id, slug)
    return request_id


def _placed(data: bytes, gateway: Gateway) -> AbstractContextManager[str]:
    return gateway.store.staged(data, PRIVATE_EXTENSION, gateway.settings.request_ttl_s)


def _enqueue(
    new_id: str, slug: str, owner: str, params: CommonParams, once: Idempotency | None, gateway: Gateway
) -> str:
    cost = gateway.settings.cost_of(slug, params.number_of_images)
    fields, limits = params.model_dump(mode="json"), _limits(owner, gateway)
    return gateway.records.create(new_id, slug, params.variant, owner, fields, cost, once, limits, params.batch_hint)


def _limits(owner: str, gateway: Gateway) -> QueueLimits:
    """A server that asks for no keys has one owner, whom the limit per key does not mean."""
    settings = gateway.settings
    return QueueLimits(settings.queue_limit, None if owner == ANYONE else settings.queue_limit_per_key)


def find_record(request_id: str, owner: str, gateway: Gateway) -> Record:
    """Read the record of a request; raises `NotFound` if there is none, it has expired, or it is another caller's."""
    record = gateway.records.get(request_id)
    if record is None or record.owner != owner:
        raise NotFound(f"Request {request_id} not found")
    return record


def cancel(request_id: str, gateway: Gateway) -> Record | None:
    """End a request that waits, ask the worker to end one that runs; returns the record as it is now, if any is left.

    The pictures of one that will not run are removed.
    """
    record = gateway.records.cancel(request_id)
    if record is not None and record.status is Status.FAILED:
        for name in record.stored_images.values():
            gateway.store.delete(name)
    return record


def check_key(key: str | None) -> None:
    """Raise `BadRequest` for a key that is too long or not printable."""
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key must have 1 to 255 printable ASCII characters.")


def fingerprint(slug: str, params: CommonParams, images: Mapping[str, bytes]) -> str:
    """Digest of all that a caller asks for: model, parameters, and the pictures themselves, however they were sent."""
    fields = params.model_dump(mode="json", exclude=set(params.image_fields))
    digests = {name: sha256(data).hexdigest() for name, data in images.items()}
    return sha256(json.dumps([slug, fields, digests], sort_keys=True).encode()).hexdigest()
