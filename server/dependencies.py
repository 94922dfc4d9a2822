"""The parts of one gateway process, built once at start, and the FastAPI dependencies by which routes get them.

All dependencies are coroutines: FastAPI runs plain functions in a thread pool.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from anyio import CapacityLimiter
from fastapi import Depends, Header, Request, Response
from fastapi.security.utils import get_authorization_scheme_param
from redis import Redis

from server.auth import Accounts, Caller
from server.changes import ChangeListener
from server.errors import BadRequest, NotFound
from server.intake.fetcher import Fetcher, FetchSlots
from server.intake.guard import GuardedClient, trust
from server.intake.images import ImageLoader
from server.intake.uploads import Uploads
from server.intake.webhook import WebhookIntake
from server.limits import Rates, UploadQuota
from server.requests import Requests
from server.settings import GatewaySettings
from server.urls import UrlBuilder, base_url
from server.webhooks.message import MessageSigner
from server.webhooks.sender import WebhookSender
from workers.state.connection import SharedClock, connect
from workers.state.janitor import Janitor
from workers.state.keys import Keys
from workers.state.outbox import Outbox
from workers.state.records import Records
from workers.state.registry import WorkerRegistry
from workers.state.webhook_secrets import WebhookSecrets
from workers.store.base import Store, is_private, may_read
from workers.store.open import open_presigned, open_store

if TYPE_CHECKING:
    from server.metrics.calls import CallMetrics
    from workers.store.presigned import PresignedUrls

_READINESS_THREADS: Final = 4
"""Readiness probes that query Redis at the same time."""
_IDEMPOTENCY_KEY: Final = re.compile(r"[ -~]{1,255}")


@dataclass(frozen=True)
class Gateway:
    """The parts of one gateway process. None keeps state of a request: any process can serve any request."""

    settings: GatewaySettings
    redis: Redis
    registry: WorkerRegistry
    records: Records
    store: Store
    janitor: Janitor
    guarded: tuple[GuardedClient, ...]
    """Clients for URLs of callers: to fetch images, and to send webhooks."""
    changes: ChangeListener
    webhooks: WebhookSender
    accounts: Accounts
    uploads: Uploads
    requests: Requests
    readiness_threads: CapacityLimiter
    presigned: PresignedUrls | None


def build_gateway(settings: GatewaySettings, metrics: CallMetrics | None = None) -> Gateway:
    """Build all parts. Opens no connection yet."""
    redis = connect(settings.redis_url)
    records = Records(redis, settings.result_ttl_s, settings.request_ttl_s)
    keys = Keys(redis)
    registry = WorkerRegistry(redis, settings.heartbeat_ttl_s)
    location, endpoint = settings.store_location, settings.presigned_endpoint
    clock = SharedClock(records.now)
    store = open_store(location, clock)
    presigned = open_presigned(location, endpoint) if endpoint else None
    tls = trust(settings.fetch_ca_file)
    for_images, for_webhooks = (
        GuardedClient(settings.fetch_allow_cidrs, settings.offline, tls=tls, user_agent=settings.fetch_user_agent)
        for _ in range(2)
    )
    fetcher = Fetcher(for_images, on_end=metrics.fetched if metrics else None)
    images = ImageLoader(store, fetcher, FetchSlots(settings.fetches_per_key))
    changes = ChangeListener(settings.redis_url)
    signer = MessageSigner(settings, records, keys, WebhookSecrets(redis), presigned, clock)
    quota = UploadQuota(redis, settings.upload_quota_mb * 1024**2)
    return Gateway(
        settings=settings,
        redis=redis,
        registry=registry,
        records=records,
        store=store,
        janitor=Janitor(records, store, registry, settings.max_attempts),
        guarded=(for_images, for_webhooks),
        changes=changes,
        webhooks=WebhookSender(Outbox(redis), signer, for_webhooks, changes),
        accounts=Accounts(settings, keys, Rates(redis)),
        uploads=Uploads(images, store, quota, settings.request_ttl_s),
        requests=Requests(settings, records, registry, store, images, WebhookIntake(for_webhooks)),
        readiness_threads=CapacityLimiter(_READINESS_THREADS),
        presigned=presigned,
    )


def _part(name: str) -> Any:
    """The dependency that returns one part of the process' `Gateway`."""

    async def part(request: Request) -> Any:
        return getattr(request.app.state.gateway, name)

    return Depends(part)


SettingsDep = Annotated[GatewaySettings, _part("settings")]
RedisDep = Annotated[Redis, _part("redis")]
RecordsDep = Annotated[Records, _part("records")]
RegistryDep = Annotated[WorkerRegistry, _part("registry")]
ReadinessThreadsDep = Annotated[CapacityLimiter, _part("readiness_threads")]
StoreDep = Annotated[Store, _part("store")]
UploadsDep = Annotated[Uploads, _part("uploads")]
RequestsDep = Annotated[Requests, _part("requests")]
ChangesDep = Annotated[ChangeListener, _part("changes")]


async def _authenticate(request: Request) -> Caller:
    scheme, bearer = get_authorization_scheme_param(request.headers.get("authorization"))
    key = request.headers.get("x-api-key") or (bearer if scheme.lower() == "bearer" else "")
    accounts: Accounts = request.app.state.gateway.accounts
    caller = await accounts.authenticate(key)
    request.state.caller = caller  # for the access log
    return caller


CallerDep = Annotated[Caller, Depends(_authenticate)]
"""The caller, authenticated by its API key; raises `Unauthorized`. Every route has it that is not public.

It has no dependencies of its own, as each adds about 4 % to the time of a poll: `server.openapi` documents the keys.
"""


def may_submit(slug: str) -> Callable[..., Awaitable[None]]:
    """The dependency of routes that take requests for the model `slug`: checks the key's scope, counts its rate.

    Raises `Forbidden` or `TooManyRequests`; adds the RateLimit headers to the response.
    """

    async def check(response: Response, caller: CallerDep) -> None:
        response.headers.update(await caller.admit(slug))

    return check


async def may_download(name: str, request: Request) -> None:
    """The dependency of routes that serve the file `name`: a file with an owner needs that owner's API key.

    Raises `Unauthorized` or `NotFound`, neither of which reveals whether the file exists.
    """
    if is_private(name) and not may_read(name, (await _authenticate(request)).owner):
        raise NotFound("There is no such file, or no longer.")


async def _urls(request: Request) -> UrlBuilder:
    gateway: Gateway = request.app.state.gateway
    settings = gateway.settings
    base = base_url(request.scope["scheme"], request.headers, f"{settings.host}:{settings.port}")
    aliases = (base,) if settings.public_url else ()
    return UrlBuilder(settings.public_url or base, aliases, gateway.presigned)


UrlsDep = Annotated[UrlBuilder, Depends(_urls)]


async def _idempotency_key(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Extension: up to 255 characters of your own, such as a UUID. A second call with the same key "
            "and the same body is given the first one's request instead of making another; with another body it is "
            "refused with 409.",
            json_schema_extra={"pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},  # HTTP strips blanks at the ends of a header
        ),
    ] = None,
) -> str | None:
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key must have 1 to 255 printable ASCII characters.")
    return key


IdempotencyKeyDep = Annotated[str | None, Depends(_idempotency_key)]
