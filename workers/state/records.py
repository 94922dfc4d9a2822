"""The request record: the only truth of a request's state.

    QUEUED ──take──→ PROCESSING ──complete──→ COMPLETED
      ↑  │                │  └─────fail─────→ FAILED
      │  └─────cancel─────│────────────────→ FAILED
      └──────requeue──────┘

Every arrow is one atomic step in Redis (`workers.state.scripts`) that checks the state, the attempt and the worker it
starts from, so a worker that was given up for dead cannot overwrite what its successor wrote. Every step may be sent
twice, as happens when its answer gets lost. COMPLETED and FAILED are final. Times are Redis' own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from redis import Redis

from models.catalog import MODELS
from workers.errors import IdempotencyConflict, OutOfCredits, QueueFull
from workers.state import scripts, scripts_repair
from workers.state.connection import decode
from workers.state.once import IdempotentScript

_log = logging.getLogger(__name__)
_OVERDUE_LIVES_S: Final = 600
"""An unfinished record outlives the time it may wait by so much, so that the janitor can end it in words."""


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
    """How often a worker has begun on it."""
    worker: str = ""
    created_at: float = 0.0
    queued_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    inference_time: float | None = None
    step: int = 0
    """How many of `total` denoise steps the worker had done a moment ago; both 0 before the first."""
    total: int = 0
    cancel_requested: bool = False
    cost: float = 0.0
    """Credits that were taken for it; given back if it FAILED."""
    outputs: tuple[Output, ...] = field(default=())
    error: str | None = None

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
        fields = MODELS[self.slug].params.image_fields
        return {field: name for field in fields if (name := self.params.get(field)) is not None}


@dataclass(frozen=True)
class Result:
    """The pictures of a request that a worker is at, and the computing time that they took in seconds."""

    record: Record
    outputs: tuple[Output, ...]
    inference_time: float

    @property
    def json(self) -> str:
        """The pictures, as they stand in the record."""
        return json.dumps([vars(output) for output in self.outputs])


@dataclass(frozen=True)
class Idempotency:
    """What a caller sends to have a request made once only: a key, and the digest of everything that was asked for."""

    key: str
    fingerprint: str


@dataclass(frozen=True)
class QueueLimits:
    """How many requests may wait for one model: of all owners, of one owner. None: any number."""

    queue: int | None = None
    per_owner: int | None = None


@dataclass(frozen=True)
class Audit:
    """What `Records.audit` saw: how many requests, and the ids of those it had to end or mend."""

    seen: int
    repaired: tuple[str, ...]


NO_LIMITS: Final = QueueLimits()
QueueKey = tuple[str, str]
"""Where a request waits: the slug of a model and a variant of it."""


class Records:
    """All request records in one Redis, and the order in which they are served.

    A finished record expires `result_ttl_s` after its end. One that has waited `request_ttl_s` is ended by `audit`.
    """

    def __init__(self, redis: Redis, result_ttl_s: int, request_ttl_s: int) -> None:
        self._redis = redis
        self._result_ttl_s = result_ttl_s
        self._request_ttl_s = request_ttl_s
        self._open_ttl_s = request_ttl_s + _OVERDUE_LIVES_S
        self._create = redis.register_script(scripts.CREATE)
        self._take = redis.register_script(scripts.TAKE)
        self._end = redis.register_script(scripts.END)
        self._requeue = IdempotentScript(redis, scripts.REQUEUE)
        self._cancel = redis.register_script(scripts.CANCEL)
        self._report = redis.register_script(scripts.REPORT)
        self._audit = IdempotentScript(redis, scripts_repair.AUDIT)

    def create(
        self,
        request_id: str,
        slug: str,
        variant: str,
        owner: str,
        params: Mapping[str, Any],
        cost: float = 0.0,
        idempotency: Idempotency | None = None,
        limits: QueueLimits = NO_LIMITS,
        batch_hint: str = "",
    ) -> str:
        """Put a new request into the queue, take its credits, call a worker.

        Returns the id of the request that stands for it.
        Requests that wait for one variant and have the same `batch_hint` may be drawn together; with none it is drawn
        alone. That is another one if a call with the same Idempotency-Key was there before. Raises `QueueFull`,
        `OutOfCredits` or `IdempotencyConflict`, and nothing has changed then.
        """
        known = "" if idempotency is None else _idempotency(owner, idempotency.key)
        fingerprint = "" if idempotency is None else idempotency.fingerprint
        bounds: list[Any] = ["" if limit is None else limit for limit in (limits.queue, limits.per_owner)]
        new: list[Any] = [request_id, slug, variant, owner, json.dumps(params), repr(cost), self._open_ttl_s]
        verdict, detail = map(
            decode, self._create(args=[*new, *bounds, known, fingerprint, batch_hint, *_variants(slug)])
        )
        if verdict == "accepted":
            return detail
        if verdict == "conflict":
            raise IdempotencyConflict("This Idempotency-Key was used for another request.")
        if verdict == "out of credits":
            raise OutOfCredits(f"The request costs {cost:g} credits; {float(detail):g} are left.")
        raise _queue_full(slug, limits, of_owner=verdict == "owner is full")

    def check_room(self, slug: str, owner: str, limits: QueueLimits) -> None:
        """Raise `QueueFull` if `create` would now: told before pictures are fetched."""
        if limits.queue is not None and self.depth(slug) >= limits.queue:
            raise _queue_full(slug, limits, of_owner=False)
        if limits.per_owner is not None and self._depth_of_owner(slug, owner) >= limits.per_owner:
            raise _queue_full(slug, limits, of_owner=True)

    def depth(self, slug: str) -> int:
        """How many requests wait for a worker, for any variant of a model."""
        return sum(self.waiting(slug, variant) for variant in _variants(slug))

    def waiting(self, slug: str, variant: str) -> int:
        """How many requests wait for a worker that serves a variant of a model."""
        return int(self._redis.zcard(f"facelight:waiting:{slug}:{variant}"))

    def get(self, request_id: str) -> Record | None:
        """Read a record; None if there is none, or no more."""
        raw = self._redis.hgetall(_key(request_id))
        return _parse(request_id, {decode(name): decode(value) for name, value in raw.items()}) if raw else None

    def claim_batch(
        self,
        queue_keys: Sequence[QueueKey],
        worker: str,
        claim_id: str,
        max_size: int = 1,
        wakeup: bytes = b"",
        first_attempt_only: bool = False,
    ) -> list[Record]:
        """Claim the next request of the first queue that has one, and those behind it with the same `batch_hint`.

        QUEUED to PROCESSING by `worker`. At most `max_size` requests, and more than one only from a long queue, see
        `claim.lua`. `wakeup` is one that the worker popped from the queue's wakeups; without one, a claim is made only
        where a wakeup is left, since for every other request another worker has been notified. `first_attempt_only`:
        no request that was attempted before. `claim_id` (from `new_call_id`) makes the claim idempotent: sent again
        under it, it returns the same requests.
        """
        where = [word for queue_key in queue_keys for word in queue_key]
        taken = self._take(args=[worker, claim_id, self._open_ttl_s, max_size, wakeup, int(first_attempt_only), *where])
        parsed = [self._begun(decode(request_id), list(map(decode, words)), worker) for request_id, words in taken]
        return [record for record in parsed if record is not None]

    def _begun(self, request_id: str, words: list[str], worker: str) -> Record | None:
        raw = dict(zip(words[::2], words[1::2], strict=True))
        try:
            return _parse(request_id, raw)
        except (ValueError, KeyError):
            _log.exception("the record of %s is damaged", request_id)
            words = ["error", "The request's record was damaged.", "inference_time", "0"]
            self._finish([[request_id, Status.PROCESSING, raw["attempt"], worker, Status.FAILED, *words]])
            return None

    def report(self, record: Record, step: int, total: int) -> bool:
        """Note how far the worker is; returns whether the request is to be ended because its caller wishes so."""
        return bool(self._report(args=[record.request_id, *_at_work(record), self._open_ttl_s, step, total]))

    def complete(self, results: Sequence[Result]) -> list[bool]:
        """PROCESSING to COMPLETED, all in one atomic step.

        Returns for each whether it is COMPLETED: False if it was cancelled, or belongs to another attempt by now.
        """
        ended = self._finish(
            _ending(one.record, _at_work(one.record), Status.COMPLETED, "outputs", one.json, one.inference_time)
            for one in results
        )
        return [
            done or self._already_applied(one.record, Status.COMPLETED, outputs=one.outputs)
            for one, done in zip(results, ended, strict=True)
        ]

    def fail(self, record: Record, error: str, inference_time: float = 0.0) -> bool:
        """From the state, attempt and worker that `record` shows to FAILED, with a sentence for the caller.

        Its credits are given back. False if the request has moved on meanwhile.
        """
        must_be = [record.status, record.attempt, record.worker]
        (ended,) = self._finish([_ending(record, must_be, Status.FAILED, "error", error, inference_time)])
        return ended or self._already_applied(record, Status.FAILED, error=error)

    def requeue(self, record: Record) -> bool:
        """PROCESSING back to QUEUED, before all others, because the worker died.

        False if the request has moved on meanwhile, or was cancelled: it is FAILED then.
        """
        return bool(self._requeue(args=[record.request_id, *_at_work(record), self._open_ttl_s, self._result_ttl_s]))

    def cancel(self, request_id: str) -> Record | None:
        """End a request that waits, have a worker end one that it is at, leave a finished one as it is.

        Returns the record as it is now; None if there is none.
        """
        self._cancel(args=[request_id, self._result_ttl_s, self._open_ttl_s])
        return self.get(request_id)

    def running(self) -> list[str]:
        """Ids of the requests that workers have in hand, or had when they died."""
        return [decode(request_id) for request_id in self._redis.hkeys("facelight:running")]

    def audit(self, start: int, count: int) -> Audit:
        """Look at `count` unfinished requests, from number `start` on (0: the oldest), and mend what does not fit.

        Puts back what stands nowhere, forgets what has expired, ends what has waited for too long.
        """
        lives = [self._open_ttl_s, self._result_ttl_s, self._request_ttl_s]
        seen, repaired = self._audit(args=[start, count, *lives, scripts.OVERDUE])
        return Audit(int(seen), tuple(map(decode, repaired)))

    def now(self) -> float:
        """Redis' clock: the one that stamps the records."""
        seconds, microseconds = self._redis.time()
        return float(seconds) + float(microseconds) / 1e6

    def _depth_of_owner(self, slug: str, owner: str) -> int:
        return sum(int(self._redis.zcard(f"facelight:line:{slug}:{variant}:{owner}")) for variant in _variants(slug))

    def _finish(self, endings: Iterable[list[Any]]) -> list[bool]:
        words = [word for ending in endings for word in ending]
        return list(map(bool, self._end(args=[self._result_ttl_s, *words])))

    def _already_applied(self, before: Record, status: Status, **fields: object) -> bool:
        """Whether a step whose answer got lost was taken after all: the record holds what it would have written."""
        now = self.get(before.request_id)
        expected = {"status": status, "attempt": before.attempt, "worker": before.worker, **fields}
        return now is not None and all(getattr(now, name) == value for name, value in expected.items())


def _queue_full(slug: str, limits: QueueLimits, *, of_owner: bool) -> QueueFull:
    if of_owner:
        return QueueFull(f"{limits.per_owner} requests of this API key are waiting for {slug} already.")
    return QueueFull(f"{limits.queue} requests are waiting for {slug} already.")


def _ending(record: Record, must_be: list[Any], to: Status, field: str, value: str, inference_time: float) -> list[Any]:
    return [record.request_id, *must_be, to, field, value, "inference_time", repr(inference_time)]


def _at_work(record: Record) -> list[Any]:
    """State, attempt and worker that a record has while the worker that took it is at it."""
    return [Status.PROCESSING, record.attempt, record.worker]


def _variants(slug: str) -> tuple[str, ...]:
    return MODELS[slug].params.variants


def _key(request_id: str) -> str:
    return f"facelight:request:{request_id}"


def _idempotency(owner: str, key: str) -> str:
    return f"facelight:idempotency:{owner}:{sha256(key.encode()).hexdigest()}"


def _parse(request_id: str, raw: Mapping[str, str]) -> Record:
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
        started_at=_seconds(raw, "started_at"),
        finished_at=_seconds(raw, "finished_at"),
        inference_time=_seconds(raw, "inference_time"),
        step=int(raw.get("step", 0)),
        total=int(raw.get("total", 0)),
        cancel_requested="cancel" in raw,
        cost=float(raw["cost"]),
        outputs=tuple(Output(**output) for output in json.loads(raw.get("outputs", "[]"))),
        error=raw.get("error"),
    )


def _seconds(raw: Mapping[str, str], name: str) -> float | None:
    return float(raw[name]) if name in raw else None
