"""The requests of callers: submit (check, load images, enqueue), find, cancel."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from hashlib import sha256
from typing import Final

from anyio.to_thread import run_sync

from models.errors import UnreadableImage
from models.model import Model
from models.params import RANDOM_SEED, CommonParams
from server.auth import ANYONE, Caller
from server.errors import ImageUnavailable, InvalidParameters, NotFound
from server.intake.body import Body
from server.intake.images import PRIVATE_EXTENSION, ImageLoader, is_inline
from server.intake.params import parse_params
from server.intake.webhook import WebhookIntake
from server.schemas import FieldError
from server.settings import GatewaySettings
from server.urls import UrlBuilder
from workers.errors import StoreUnavailable
from workers.state.connection import NotReplicated
from workers.state.record import Idempotency, QueueLimits, Record, Status, Webhook
from workers.state.records import Records
from workers.state.registry import WorkerRegistry, served_variants
from workers.store.base import Store
from workers.traces import sending

_log = logging.getLogger(__name__)
_RANDOM_SEEDS: Final = 2**32
"""Seeds that differ on every device: a CPU generator uses the lower 32 bits of a seed."""


class Requests:
    """Submits, finds and cancels requests. One per process; all state is in Redis and in the result store."""

    def __init__(
        self,
        settings: GatewaySettings,
        records: Records,
        registry: WorkerRegistry,
        store: Store,
        images: ImageLoader,
        webhooks: WebhookIntake,
    ) -> None:
        self._settings = settings
        self._records = records
        self._registry = registry
        self._store = store
        self._images = images
        self._webhooks = webhooks

    async def submit(
        self,
        new_id: str,
        model: Model,
        body: Body,
        caller: Caller,
        urls: UrlBuilder,
        idempotency_key: str | None = None,
    ) -> str:
        """Check and enqueue a request as `new_id`; returns its id, or that of the earlier one with the same key.

        Raises `InvalidParameters`, `QueueFull`, `OutOfCredits`, `IdempotencyConflict`, `StoreUnavailable` or
        `RedisError`; neither a record nor a file remains then. But a request with an Idempotency-Key that replicas did
        not confirm in time (`NotReplicated`) remains, for the call that repeats it.
        """
        owner = caller.owner
        params, references = parse_params(model, body, self._settings.max_output_megapixels)
        webhook = await self._webhooks.parse(body, caller.webhook, owner, urls.base)
        if not all(is_inline(reference, urls) for reference in references.values()):
            # What would be refused anyway is refused before any image is fetched. A repeated request needs no room.
            await run_sync(self._check_servable, model.slug, params)
            if idempotency_key is None:
                await run_sync(self._records.check_queue_limits, model.slug, owner, self._limits(owner))
        images: dict[str, bytes] = {}
        for field, reference in references.items():
            try:
                images[field] = await self._images.load(reference, owner, urls)
            except (ImageUnavailable, UnreadableImage) as error:
                raise InvalidParameters([FieldError(field=field, message=str(error))]) from error
        return await run_sync(self._enqueue, new_id, model.slug, owner, params, images, idempotency_key, webhook)

    def find(self, request_id: str, owner: str) -> Record:
        """The record of a request; raises `NotFound` if it does not exist, has expired, or has another owner."""
        record = self._records.get(request_id)
        if record is None or record.owner != owner:
            raise NotFound(f"Request {request_id} not found")
        return record

    def position(self, record: Record) -> int | None:
        """Place in the queue of a request that waits there; None for any other."""
        return self._records.position(record) if record.status is Status.QUEUED else None

    def cancel(self, request_id: str) -> Record | None:
        """See `cancel_request`."""
        return cancel_request(self._records, self._store, request_id)

    def _enqueue(
        self,
        new_id: str,
        slug: str,
        owner: str,
        params: CommonParams,
        images: Mapping[str, bytes],
        idempotency_key: str | None,
        webhook: Webhook | None,
    ) -> str:
        self._check_servable(slug, params)
        idempotency = Idempotency(idempotency_key, fingerprint(slug, params, images)) if idempotency_key else None
        seed = secrets.randbelow(_RANDOM_SEEDS) if params.seed == RANDOM_SEED else params.seed
        cost = self._settings.cost_of(slug, params.number_of_images)
        request_id, unconfirmed = None, None
        try:
            with ExitStack() as files:  # a worker can read them at once; they are durable when the block ends
                names = {
                    field: files.enter_context(
                        self._store.staged(data, PRIVATE_EXTENSION, self._settings.request_ttl_s)
                    )
                    for field, data in images.items()
                }
                fields = params.model_copy(update={**names, "seed": seed}).model_dump(mode="json")
                try:
                    with sending(slug, params.variant) as message:
                        request_id = self._records.create(
                            new_id,
                            slug,
                            params.variant,
                            owner,
                            fields,
                            cost,
                            idempotency,
                            self._limits(owner),
                            params.batch_hint,
                            message.traceparent,
                            webhook,
                        )
                        message.sent(request_id)
                except NotReplicated as error:
                    if idempotency is None:
                        with suppress(NotReplicated):
                            self.cancel(new_id)
                        raise
                    request_id, unconfirmed = new_id, error
        except StoreUnavailable:
            if request_id == new_id:
                self.cancel(new_id)
            raise
        if unconfirmed is not None:
            raise unconfirmed
        if request_id != new_id:  # a repeated request, which has its own files
            for name in names.values():
                self._store.delete(name)
        _log.info("enqueued, model %s", slug, extra={"request_id": request_id})
        return request_id

    def _check_servable(self, slug: str, params: CommonParams) -> None:
        """Refuse a variant that no live worker has weights for; raises `InvalidParameters`.

        While no live worker serves the model at all, every variant is accepted.
        """
        served = served_variants(self._registry.live_workers(), slug)
        if served is not None and params.variant not in served:
            message = f"cannot be served: no worker of this server has the weights for {params.variant!r}"
            raise InvalidParameters([FieldError(field=params.variant_field, message=message)])

    def _limits(self, owner: str) -> QueueLimits:
        """Queue limits of an owner; without API keys there is one owner, whom the limit per key does not concern."""
        return QueueLimits(self._settings.queue_limit, None if owner == ANYONE else self._settings.queue_limit_per_key)


def cancel_request(records: Records, store: Store, request_id: str) -> Record | None:
    """Fail a queued request and delete its input images; have the worker stop a running one.

    Returns the record after that; None if there is none.
    """
    record = records.cancel(request_id)
    if record is not None and record.status is Status.FAILED:
        for name in record.stored_images.values():
            store.delete(name)
    return record


def fingerprint(slug: str, params: CommonParams, images: Mapping[str, bytes]) -> str:
    """SHA-256 of model, parameters and image contents: the request that an Idempotency-Key belongs to.

    See draft-ietf-httpapi-idempotency-key-header. How an image was sent does not matter.
    """
    fields = params.model_dump(mode="json", exclude=set(params.image_fields))
    digests = {name: sha256(data).hexdigest() for name, data in images.items()}
    return sha256(json.dumps([slug, fields, digests], sort_keys=True).encode()).hexdigest()
