"""Accepts a request: parameters checked, pictures stored, record written, job put before the workers."""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import Mapping
from typing import Final

from anyio.to_thread import run_sync

from models.catalog import Model
from models.errors import UnreadableImage
from models.params import RANDOM_SEED, CommonParams
from server.bodies import Body
from server.context import Gateway
from server.errors import ImageUnavailable, InvalidParameters
from server.inputs import PRIVATE_EXTENSION, load_image
from server.links import Links
from server.parameters import References, parse_params
from server.schemas import FieldError
from workers.presence import served_variants

_log = logging.getLogger(__name__)
_RANDOM_SEEDS: Final = 2**32


async def submit(model: Model, body: Body, owner: str, gateway: Gateway, links: Links) -> str:
    """Accept a request and return its id.

    Raises `InvalidParameters` for what the caller must mend, `QueueFull`, or `RedisError`; nothing is left behind then.
    """
    params, references = parse_params(model, body, gateway.settings.max_output_megapixels)
    await run_sync(_check_servable, model.slug, params, gateway)
    await run_sync(gateway.queue.check_room, model.slug)
    images = {field: await _load(field, references, owner, gateway, links) for field in references}
    return await run_sync(_accept, model.slug, owner, params, images, gateway)


def _check_servable(slug: str, params: CommonParams, gateway: Gateway) -> None:
    """Refuse what the living workers have no weights for; raises `InvalidParameters`.

    While no worker serves the model nothing is refused: what the next one can do is not known.
    """
    served = served_variants(gateway.presence.workers(), slug)
    if served is not None and params.variant not in served:
        message = f"cannot be served: no worker of this server has the weights for {params.variant!r}"
        raise InvalidParameters([FieldError(field=params.variant_field, message=message)])


async def _load(field: str, references: References, owner: str, gateway: Gateway, links: Links) -> bytes:
    try:
        return await load_image(references[field], owner, gateway, links)
    except (ImageUnavailable, UnreadableImage) as error:
        raise InvalidParameters([FieldError(field=field, message=str(error))]) from error


def _accept(slug: str, owner: str, params: CommonParams, images: Mapping[str, bytes], gateway: Gateway) -> str:
    request_id = str(uuid.uuid4())
    seed = secrets.randbelow(_RANDOM_SEEDS) if params.seed == RANDOM_SEED else params.seed
    stored: dict[str, str] = {}
    try:
        for field, data in images.items():
            stored[field] = gateway.store.put(data, PRIVATE_EXTENSION, gateway.settings.request_ttl_s)
        settled = params.model_copy(update={**stored, "seed": seed})
        _enqueue(request_id, slug, owner, settled, gateway)
    except BaseException:  # whatever it is passes on; no file may be left without its request
        for name in stored.values():
            gateway.store.drop(name)
        raise
    _log.info("accepted %s for %s", request_id, slug)
    return request_id


def _enqueue(request_id: str, slug: str, owner: str, params: CommonParams, gateway: Gateway) -> None:
    gateway.records.create(request_id, slug, owner, params.model_dump(mode="json"))
    try:
        gateway.queue.put(request_id, slug, params.variant, 0)
    except BaseException:  # whatever it is passes on; no record may be left without its job
        gateway.records.forget(request_id)
        raise
