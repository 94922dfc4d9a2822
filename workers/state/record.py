"""The request record as dataclasses, and how it is read from Redis. The repository is `workers.state.records`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from models.catalog import MODELS
from workers.errors import OtherVersion
from workers.state.versions import READABLE, RECORD_VERSION

QueueKey = tuple[str, str]
"""What names a queue: the slug of a model and a variant of it."""


class Status(StrEnum):
    """States of a request, as the API spells them."""

    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Whether nothing can follow."""
        return self in (Status.COMPLETED, Status.FAILED)


class FailureReason(StrEnum):
    """Why a request is FAILED, as it is counted; its caller is told in words."""

    INPUT = "input"
    CANCELLED = "cancelled"
    OVERDUE = "overdue"
    DEADLINE = "deadline"
    WORKER_DIED = "worker_died"
    DEVICE_MEMORY = "device_memory"
    NON_FINITE = "non_finite"
    STORE = "store"
    RECORD = "record"
    """The record was damaged, or of another version."""
    MODEL = "model"


class WebhookEvent(StrEnum):
    """What a webhook can tell: that a worker has begun, for the first time; that the request has ended, however."""

    STARTED = "started"
    COMPLETED = "completed"


@dataclass(frozen=True)
class Webhook:
    """What a caller wants to be told of a request, at which URL.

    `receiver` names owner and origin of the URL: messages to one do not delay those to others. `base_url` is that by
    which the request reached this server.
    """

    url: str
    events: tuple[WebhookEvent, ...]
    receiver: str
    base_url: str


@dataclass(frozen=True)
class Output:
    """One picture of a result: its name in the store, media type, size in bytes and in px."""

    name: str
    media_type: str
    size: int
    width: int
    height: int


@dataclass(frozen=True)
class Record:
    """One request. Times are seconds since the epoch; `inference_time` is the worker's computing time in seconds."""

    request_id: str
    slug: str
    owner: str
    params: Mapping[str, Any]
    """JSON form of the model's `Params`; image fields hold names in the store, the seed is resolved."""
    variant: str = ""
    """Which variant of its model the request needs."""
    status: Status = Status.QUEUED
    attempt: int = 0
    """How often a worker has claimed it."""
    worker: str = ""
    created_at: float = 0.0
    queued_at: float = 0.0
    ticket: str = ""
    """Number of the request by order of acceptance, by which the queue knows it."""
    started_at: float | None = None
    finished_at: float | None = None
    inference_time: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    """Computing time by stage, in seconds: `prepare`, `models.pipeline.STAGES`, `publish`."""
    step: int = 0
    """Denoise steps that were done at the last report, of `total`; both 0 before the first."""
    total: int = 0
    cancel_requested: bool = False
    cost: float = 0.0
    """Credits that were charged; refunded if it FAILED."""
    outputs: tuple[Output, ...] = field(default=())
    error: str | None = None
    traceparent: str = ""
    """Context of the span that enqueued it, as W3C Trace Context writes it; empty if the gateway sent no traces."""
    webhook: Webhook | None = None

    @property
    def queue_time(self) -> float | None:
        """Seconds between acceptance and the start of the last attempt."""
        return None if self.started_at is None else max(0.0, self.started_at - self.created_at)

    @property
    def total_time(self) -> float | None:
        """Seconds between acceptance and the end."""
        return None if self.finished_at is None else max(0.0, self.finished_at - self.created_at)

    @property
    def stored_images(self) -> dict[str, str]:
        """Names in the store of the request's pictures, by field; optional fields may have none."""
        image_fields = MODELS[self.slug].params.image_fields
        return {field: name for field in image_fields if (name := self.params.get(field)) is not None}


@dataclass(frozen=True)
class Result:
    """The outputs of a request that a worker completes, and their computing time in seconds, also by stage."""

    record: Record
    outputs: tuple[Output, ...]
    inference_time: float
    stages: Mapping[str, float] = field(default_factory=dict)
    device_s: float = 0.0
    """Seconds for which the request had the device: its share of a run's time."""

    @property
    def json(self) -> str:
        """The outputs as the record holds them."""
        return json.dumps([vars(output) for output in self.outputs])


@dataclass(frozen=True)
class Idempotency:
    """An Idempotency-Key, and the fingerprint (a digest) of the whole request that came with it."""

    key: str
    fingerprint: str


@dataclass(frozen=True)
class QueueLimits:
    """Most requests that may be QUEUED for one model: of all owners, of one owner. None: no limit."""

    queue: int | None = None
    per_owner: int | None = None


@dataclass(frozen=True)
class Audit:
    """Result of `Records.audit`: how many requests were checked, and the ids of those it ended or repaired."""

    seen: int
    repaired: tuple[str, ...]


NO_LIMITS: Final = QueueLimits()


def parse_record(request_id: str, raw: Mapping[str, str]) -> Record:
    """A record from its hash in Redis; fields that are not known are ignored.

    Raises `OtherVersion` if it cannot be read by this version, ValueError or KeyError if it is damaged.
    """
    version = int(raw.get("version", 1))
    if version not in READABLE:
        age = "a newer" if version > RECORD_VERSION else "an older"
        raise OtherVersion(f"The request was accepted by {age} version of the server, and cannot be read by this one.")
    return Record(
        request_id=request_id,
        slug=raw["slug"],
        owner=raw["owner"],
        params=json.loads(raw["params"]),
        variant=raw["variant"],
        status=Status(raw["status"]),
        attempt=int(raw["attempt"]),
        worker=raw.get("worker", ""),
        created_at=float(raw["created_at"]),
        queued_at=float(raw["queued_at"]),
        ticket=raw.get("ticket", ""),
        started_at=_seconds(raw, "started_at"),
        finished_at=_seconds(raw, "finished_at"),
        inference_time=_seconds(raw, "inference_time"),
        stages=json.loads(raw.get("stages", "{}")),
        step=int(raw.get("step", 0)),
        total=int(raw.get("total", 0)),
        cancel_requested="cancel" in raw,
        cost=float(raw["cost"]),
        outputs=tuple(map(_output, json.loads(raw.get("outputs", "[]")))),
        error=raw.get("error"),
        traceparent=raw.get("traceparent", ""),
        webhook=_webhook(raw) if "webhook" in raw else None,
    )


def _output(raw: Mapping[str, Any]) -> Output:
    """Of a worker of another version, it may have more fields, or fewer."""
    return Output(**{known.name: raw[known.name] for known in fields(Output) if known.name in raw})


def _webhook(raw: Mapping[str, str]) -> Webhook:
    """Events that this version does not know are of no concern to it."""
    events = tuple(event for event in WebhookEvent if event in raw["webhook_events"].split(","))
    return Webhook(raw["webhook"], events, raw["webhook_receiver"], raw["webhook_base"])


def _seconds(raw: Mapping[str, str], name: str) -> float | None:
    return float(raw[name]) if name in raw else None
