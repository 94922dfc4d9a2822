"""The request record: the only truth of a request's state.

    QUEUED ──claim──→ PROCESSING ──complete──→ COMPLETED
      ↑  │                │  └──────fail─────→ FAILED
      │  └─────cancel─────│─────────────────→ FAILED
      └──────requeue──────┘

Every arrow is one atomic, idempotent state transition in Redis (`lua/*.lua`) that checks the state it starts from.
Those of workers and the janitor also check attempt and worker: a worker that was presumed dead cannot overwrite what
its successor wrote. COMPLETED and FAILED are final. Times are by Redis' clock.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, cast

from redis import Redis

from models.catalog import MODELS
from workers.errors import IdempotencyConflict, OtherVersion, OutOfCredits, QueueFull
from workers.state.connection import decode, replicated
from workers.state.keys import PREFIX as KEY_PREFIX
from workers.state.record import (
    NO_LIMITS,
    Audit,
    FailureReason,
    Idempotency,
    QueueKey,
    QueueLimits,
    Record,
    Result,
    Status,
    Webhook,
    parse_record,
)
from workers.state.scripts import OVERDUE, IdempotentScript, load_script

_log = logging.getLogger(__name__)
_NO_STAGES: Final[Mapping[str, float]] = MappingProxyType({})
_OVERDUE_TTL_S: Final = 600
"""An unfinished record outlives the longest wait by so much, so that the janitor can end it with an error."""

_MAX_WAKEUPS_ADDED: Final = 200
"""By one call of `reconcile_wakeups`."""
_MAX_SURPLUS_WAKEUPS: Final = 100
"""More wakeups than requests that are left in place: requests may be about to be enqueued."""


class Records:
    """All request records in one Redis, their fair queues and the wakeups beside them.

    A finished record expires `result_ttl_s` after its end. One that has waited `request_ttl_s` is ended by `audit`.
    """

    def __init__(self, redis: Redis, result_ttl_s: int, request_ttl_s: int) -> None:
        self._redis = redis
        self._result_ttl_s = result_ttl_s
        self._request_ttl_s = request_ttl_s
        self._open_ttl_s = request_ttl_s + _OVERDUE_TTL_S
        self._create = redis.register_script(load_script("create"))
        self._claim = redis.register_script(load_script("claim"))
        self._finish_script = redis.register_script(load_script("finish"))
        self._requeue = IdempotentScript(redis, load_script("requeue"))
        self._cancel = redis.register_script(load_script("cancel"))
        self._report = redis.register_script(load_script("report"))
        self._reconcile_wakeups = IdempotentScript(redis, load_script("reconcile_wakeups"))
        self._audit = IdempotentScript(redis, load_script("audit"))

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
        traceparent: str = "",
        webhook: Webhook | None = None,
    ) -> str:
        """Enqueue a new request, charge its credits and add a wakeup.

        Returns the id of the request that represents the call: an earlier one if a call with the same Idempotency-Key
        created that. Requests in one queue with the same `batch_hint` may be executed in one batch; without, a request
        is executed alone. `traceparent`: see `Record`. Raises `QueueFull`, `OutOfCredits` or `IdempotencyConflict`, and
        changes nothing then; or `NotReplicated`: it is enqueued then, and may be lost with its Redis.
        """
        keys = [_key(request_id), f"{KEY_PREFIX}{owner}"]
        fingerprint = ""
        if idempotency is not None:
            keys.append(_idempotency(owner, idempotency.key))
            fingerprint = idempotency.fingerprint
        new: list[Any] = [request_id, slug, variant, owner, json.dumps(params), repr(cost), self._open_ttl_s]
        bounds: list[Any] = ["" if limit is None else limit for limit in (limits.queue, limits.per_owner)]
        told = [webhook.url, ",".join(webhook.events), webhook.receiver, webhook.base_url] if webhook else [""] * 4
        args = [*new, *bounds, fingerprint, batch_hint, traceparent, *told, *_variants(slug)]
        with replicated():
            outcome, detail = map(decode, self._create(keys=keys, args=args))
        if outcome == "accepted":
            return detail
        if outcome == "conflict":
            raise IdempotencyConflict("This Idempotency-Key was used for another request.")
        if outcome == "out of credits":
            raise OutOfCredits(f"The request costs {cost:g} credits; {float(detail):g} are left.")
        raise _queue_full(slug, limits, of_owner=outcome == "owner is full")

    def check_queue_limits(self, slug: str, owner: str, limits: QueueLimits) -> None:
        """Raise `QueueFull` if `create` would now, before pictures are fetched."""
        if limits.queue is not None and self.depth(slug) >= limits.queue:
            raise _queue_full(slug, limits, of_owner=False)
        if limits.per_owner is not None and self._depth_of_owner(slug, owner) >= limits.per_owner:
            raise _queue_full(slug, limits, of_owner=True)

    def depth(self, slug: str) -> int:
        """How many requests of a model are QUEUED, over all its variants."""
        return sum(self.waiting(slug, variant) for variant in _variants(slug))

    def waiting(self, slug: str, variant: str) -> int:
        """How many requests are QUEUED for one variant of a model."""
        return int(self._redis.zcard(_waiting(slug, variant)))

    def position(self, record: Record) -> int | None:
        """Place of a QUEUED request in the order in which its queue is served, 1 is the next; None if it has left it.

        Requests that are accepted later may be served earlier: the queue is fair between owners.
        """
        member = f"{record.ticket}:{record.owner}:{record.request_id}"
        rank = cast("int | None", self._redis.zrank(_waiting(record.slug, record.variant), member))
        return None if rank is None else rank + 1

    def get(self, request_id: str) -> Record | None:
        """The record of a request; None if there is none or it has expired. Raises `OtherVersion`."""
        raw = self._redis.hgetall(_key(request_id))
        return parse_record(request_id, {decode(name): decode(value) for name, value in raw.items()}) if raw else None

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
        claimed = self._claim(
            keys=[f"facelight:claimed:{worker}"],
            args=[worker, claim_id, self._open_ttl_s, max_size, wakeup, int(first_attempt_only), *where],
        )
        parsed = [self._claimed(decode(request_id), list(map(decode, words)), worker) for request_id, words in claimed]
        return [record for record in parsed if record is not None]

    def _claimed(self, request_id: str, words: list[str], worker: str) -> Record | None:
        raw = dict(zip(words[::2], words[1::2], strict=True))
        try:
            return parse_record(request_id, raw)
        except (OtherVersion, ValueError, KeyError) as unreadable:
            _log.exception("the record cannot be read", extra={"request_id": request_id})
            error = str(unreadable) if isinstance(unreadable, OtherVersion) else "The request's record was damaged."
            expected = [request_id, Status.PROCESSING, raw["attempt"], worker]
            self._finish([[*expected, Status.FAILED, FailureReason.RECORD, *_ending("error", error, 0.0, {})]])
            return None

    def report(self, record: Record, step: int, total: int) -> bool:
        """Record the progress of an attempt, in denoise steps; returns whether its caller has cancelled the request."""
        args = [record.request_id, *_in_flight(record), self._open_ttl_s, step, total]
        return bool(self._report(keys=[_key(record.request_id)], args=args))

    def complete(self, results: Sequence[Result]) -> list[bool]:
        """PROCESSING to COMPLETED, all in one atomic step.

        Returns for each whether it is COMPLETED: False if it was cancelled, or belongs to another attempt by now.
        """
        ended = self._finish(
            [
                one.record.request_id,
                *_in_flight(one.record),
                Status.COMPLETED,
                "",
                *_ending("outputs", one.json, one.inference_time, one.stages, one.device_s),
            ]
            for one in results
        )
        return [
            done or self._already_applied(one.record, Status.COMPLETED, outputs=one.outputs)
            for one, done in zip(results, ended, strict=True)
        ]

    def fail(
        self,
        record: Record,
        error: str,
        inference_time: float = 0.0,
        reason: FailureReason = FailureReason.MODEL,
        stages: Mapping[str, float] = _NO_STAGES,
    ) -> bool:
        """To FAILED from the state, attempt and worker of `record`, with an error message for the caller.

        Its credits are refunded. False if the request is in another state or attempt by now.
        """
        expected = [record.request_id, record.status, record.attempt, record.worker]
        ending = _ending("error", error, inference_time, stages)
        (ended,) = self._finish([[*expected, Status.FAILED, reason, *ending]])
        return ended or self._already_applied(record, Status.FAILED, error=error)

    def requeue(self, record: Record) -> bool:
        """PROCESSING back to QUEUED, at the front of its queue, because the worker is presumed dead.

        False if the request is in another state or attempt by now, or was cancelled: it is FAILED then.
        """
        return bool(
            self._requeue(
                keys=[_key(record.request_id)],
                args=[record.request_id, *_in_flight(record), self._open_ttl_s, self._result_ttl_s],
            )
        )

    def cancel(self, request_id: str) -> Record | None:
        """QUEUED to FAILED; a PROCESSING request is marked, for its worker to end. A finished one stays as it is.

        Returns the record after that; None if there is none.
        """
        with replicated():
            self._cancel(keys=[_key(request_id)], args=[request_id, self._result_ttl_s, self._open_ttl_s])
        return self.get(request_id)

    def running(self) -> list[str]:
        """Ids of the requests that are in flight in workers, dead ones included."""
        return [decode(request_id) for request_id in self._redis.hkeys("facelight:running")]

    def audit(self, start: int, count: int) -> Audit:
        """Check `count` unfinished requests, from rank `start` on (0: the oldest), against the lists they belong in.

        Enqueues a QUEUED request that is in no queue, removes ids of expired records, fails what is overdue.
        """
        ttls = [self._open_ttl_s, self._result_ttl_s, self._request_ttl_s]
        seen, repaired = self._audit(args=[start, count, *ttls, OVERDUE])
        return Audit(int(seen), tuple(map(decode, repaired)))

    def reconcile_wakeups(self, queue_key: QueueKey) -> int:
        """Make a queue have about as many wakeups as waiting requests; returns how many were added."""
        args = [*queue_key, self._request_ttl_s, _MAX_WAKEUPS_ADDED, _MAX_SURPLUS_WAKEUPS]
        return int(self._reconcile_wakeups(args=args))

    def now(self) -> float:
        """Redis' clock: the one that stamps the records."""
        seconds, microseconds = self._redis.time()
        return float(seconds) + float(microseconds) / 1e6

    def _depth_of_owner(self, slug: str, owner: str) -> int:
        return sum(
            int(self._redis.zcard(f"facelight:owner_queue:{slug}:{variant}:{owner}")) for variant in _variants(slug)
        )

    def _finish(self, endings: Iterable[list[Any]]) -> list[bool]:
        endings = list(endings)
        keys = [_key(request_id) for request_id, *_ in endings]
        words = [word for ending in endings for word in ending]
        with replicated():  # inputs are deleted next
            return list(map(bool, self._finish_script(keys=keys, args=[self._result_ttl_s, *words])))

    def _already_applied(self, before: Record, status: Status, **fields: object) -> bool:
        """Whether the record holds what a transition would have written: it was applied, and its reply got lost."""
        now = self.get(before.request_id)
        expected = {"status": status, "attempt": before.attempt, "worker": before.worker, **fields}
        return now is not None and all(getattr(now, name) == value for name, value in expected.items())


def _queue_full(slug: str, limits: QueueLimits, *, of_owner: bool) -> QueueFull:
    if of_owner:
        return QueueFull(f"{limits.per_owner} requests of this API key are waiting for {slug} already.")
    return QueueFull(f"{limits.queue} requests are waiting for {slug} already.")


def _ending(
    field: str, value: str, inference_time: float, stages: Mapping[str, float], device_s: float = 0.0
) -> list[str]:
    """The device's time, and the fields that `finish.lua` writes: outputs or error, and the computing time."""
    return [repr(device_s), field, value, "inference_time", repr(inference_time), "stages", json.dumps(dict(stages))]


def _in_flight(record: Record) -> list[Any]:
    """State, attempt and worker of a record while the worker that claimed it processes it."""
    return [Status.PROCESSING, record.attempt, record.worker]


def _variants(slug: str) -> tuple[str, ...]:
    return MODELS[slug].params.variants


def _key(request_id: str) -> str:
    return f"facelight:request:{request_id}"


def _waiting(slug: str, variant: str) -> str:
    return f"facelight:waiting:{slug}:{variant}"


def _idempotency(owner: str, key: str) -> str:
    return f"facelight:idempotency:{owner}:{sha256(key.encode()).hexdigest()}"
