"""What the routes work with: one object per process, made at start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from anyio import CapacityLimiter
from fastapi import Request
from redis import Redis

from server.completion import CompletionListener
from server.intake.fetcher import Fetcher, FetchSlots
from server.limits import Rates, UploadQuota
from server.settings import GatewaySettings
from workers.state.connection import SharedClock, connect
from workers.state.janitor import Janitor
from workers.state.keys import Keys
from workers.state.records import Records
from workers.state.registry import WorkerRegistry
from workers.store.base import Store
from workers.store.open import open_store

_PROBERS: Final = 4
"""Probes of readiness that ask Redis at the same time."""
_DECODERS: Final = 4
"""Pictures decoded at the same time: each may take 100 MB of memory."""


@dataclass(frozen=True)
class Gateway:
    """The parts of one gateway process. Nothing in here remembers a request: any other process can answer for it."""

    settings: GatewaySettings
    redis: Redis
    records: Records
    store: Store
    registry: WorkerRegistry
    keys: Keys
    rates: Rates
    janitor: Janitor
    fetcher: Fetcher
    fetch_slots: FetchSlots
    upload_quota: UploadQuota
    completions: CompletionListener
    decoders: CapacityLimiter
    probers: CapacityLimiter


def build_gateway(settings: GatewaySettings) -> Gateway:
    """Put the parts together. Connects to nothing yet."""
    redis = connect(settings.redis_url)
    records = Records(redis, settings.result_ttl_s, settings.request_ttl_s)
    store = open_store(settings.store_location, SharedClock(records.now))
    registry = WorkerRegistry(redis, settings.heartbeat_ttl_s)
    return Gateway(
        settings=settings,
        redis=redis,
        records=records,
        store=store,
        registry=registry,
        keys=Keys(redis),
        rates=Rates(redis),
        janitor=Janitor(records, store, registry, settings.max_attempts),
        fetcher=Fetcher(
            settings.fetch_allow_cidrs,
            settings.offline,
            ca_file=settings.fetch_ca_file,
            user_agent=settings.fetch_user_agent,
        ),
        fetch_slots=FetchSlots(settings.fetches_per_key),
        upload_quota=UploadQuota(redis, settings.upload_quota_mb * 1024**2),
        completions=CompletionListener(settings.redis_url),
        decoders=CapacityLimiter(_DECODERS),
        probers=CapacityLimiter(_PROBERS),
    )


def gateway_of(request: Request) -> Gateway:
    """The process' `Gateway`, in a route.

    No dependency, as nothing here is that needs no documentation: the framework takes longer to look for each than a
    status takes to answer.
    """
    gateway: Gateway = request.app.state.gateway
    return gateway
