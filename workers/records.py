"""The request record: the only truth of a request's state.

    QUEUED ──start──→ PROCESSING ──complete──→ COMPLETED
      ↑  │                 │  └─────fail─────→ FAILED
      │  └────────fail─────│────────────────→ FAILED
      └──────requeue───────┘

Every arrow is one atomic step in Redis that checks the state, and the attempt, it starts from, so a worker that was
given up for dead cannot overwrite what its successor wrote. COMPLETED and FAILED are final. Times are Redis' own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from redis import Redis

from models.catalog import MODELS
from workers.connection import text

FINISHED_CHANNEL: Final = "facelight:finished"
"""Redis publishes the id of every request here as it becomes COMPLETED or FAILED."""
_OPEN: Final = "facelight:open"


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
    status: Status = Status.QUEUED
    attempt: int = 0
    """How often a worker has begun on it."""
    worker: str = ""
    created_at: float = 0.0
    queued_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    inference_time: float | None = None
    outputs: tuple[Output, ...] = field(default=())
    error: str | None = None

    @property
    def variant(self) -> str:
        """Which variant of its model the request needs."""
        # Its parameters were checked when it was accepted, and stay as they were.
        return MODELS[self.slug].params.model_construct(**self.params).variant

    @property
    def queue_time(self) -> float | None:
        """Seconds between acceptance and the start of the last attempt."""
        return None if self.started_at is None else max(0.0, self.started_at - self.created_at)

    @property
    def total_time(self) -> float | None:
        """Seconds between acceptance and the end."""
        return None if self.finished_at is None else max(0.0, self.finished_at - self.created_at)


_CREATE: Final = """
local now = redis.call('TIME')
local stamp = now[1] .. '.' .. string.format('%06d', now[2])
redis.call('HSET', KEYS[1], 'status', 'QUEUED', 'attempt', 0, 'created_at', stamp, 'queued_at', stamp,
           'slug', ARGV[3], 'owner', ARGV[4], 'params', ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], stamp, ARGV[1])
"""

# ARGV: request id, allowed state, allowed attempt or '', new state, stamped field, ttl, channel, field, value, ...
_MOVE: Final = """
local status, attempt = unpack(redis.call('HMGET', KEYS[1], 'status', 'attempt'))
if status == 'COMPLETED' or status == 'FAILED' then return 0 end
if status ~= ARGV[2] or (ARGV[3] ~= '' and attempt ~= ARGV[3]) then return 0 end
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'status', ARGV[4], ARGV[5], now[1] .. '.' .. string.format('%06d', now[2]))
if #ARGV > 7 then redis.call('HSET', KEYS[1], unpack(ARGV, 8)) end
redis.call('EXPIRE', KEYS[1], ARGV[6])
if ARGV[4] == 'PROCESSING' then redis.call('HINCRBY', KEYS[1], 'attempt', 1) end
if ARGV[4] == 'COMPLETED' or ARGV[4] == 'FAILED' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('PUBLISH', ARGV[7], ARGV[1])
end
return 1
"""


class Records:
    """All request records in one Redis.

    A finished record expires `result_ttl_s` after its end, an unfinished one `request_ttl_s` after its last step.
    """

    def __init__(self, redis: Redis, result_ttl_s: int, request_ttl_s: int) -> None:
        self._redis = redis
        self._result_ttl_s = result_ttl_s
        self._request_ttl_s = request_ttl_s
        self._create = redis.register_script(_CREATE)
        self._move_script = redis.register_script(_MOVE)

    def create(self, request_id: str, slug: str, owner: str, params: Mapping[str, Any]) -> None:
        """Write a new record in state QUEUED."""
        self._create(
            keys=[_key(request_id), _OPEN],
            args=[request_id, self._request_ttl_s, slug, owner, json.dumps(params)],
        )

    def get(self, request_id: str) -> Record | None:
        """Read a record; None if there is none, or no more."""
        raw = self._redis.hgetall(_key(request_id))
        return _parse(request_id, {text(name): text(value) for name, value in raw.items()}) if raw else None

    def start(self, request_id: str, worker: str) -> Record | None:
        """QUEUED to PROCESSING by `worker`; None if the request is not waiting any more."""
        moved = self._move(request_id, Status.QUEUED, None, Status.PROCESSING, "started_at", {"worker": worker})
        record = self.get(request_id)
        # An answer may get lost and the step be sent again: it counts as taken if it shows.
        begun = record is not None and record.status is Status.PROCESSING and record.worker == worker
        return record if moved or begun else None

    def complete(self, record: Record, outputs: tuple[Output, ...], inference_time: float) -> bool:
        """PROCESSING to COMPLETED; False if this attempt has been given up meanwhile."""
        written = json.dumps([asdict(output) for output in outputs])
        fields = {"outputs": written, "inference_time": repr(inference_time)}
        moved = self._move(
            record.request_id, Status.PROCESSING, record.attempt, Status.COMPLETED, "finished_at", fields
        )
        return moved or self._shows(record, Status.COMPLETED, outputs=outputs)

    def fail(self, record: Record, error: str, inference_time: float = 0.0) -> bool:
        """From the state and attempt that `record` shows to FAILED, with a sentence for the caller.

        False if the request has moved on meanwhile.
        """
        fields = {"error": error, "inference_time": repr(inference_time)}
        moved = self._move(record.request_id, record.status, record.attempt, Status.FAILED, "finished_at", fields)
        return moved or self._shows(record, Status.FAILED, error=error)

    def requeue(self, record: Record) -> bool:
        """PROCESSING back to QUEUED, because the worker died; False if the request has moved on meanwhile."""
        return self._move(record.request_id, Status.PROCESSING, record.attempt, Status.QUEUED, "queued_at", {})

    def forget(self, request_id: str) -> None:
        """Remove what there is of a request that no worker was offered, or whose record has expired unfinished."""
        with self._redis.pipeline() as pipeline:
            pipeline.delete(_key(request_id))
            pipeline.zrem(_OPEN, request_id)
            pipeline.execute()

    def unfinished(self) -> list[str]:
        """Ids of all requests that are neither COMPLETED nor FAILED, oldest first; some may have expired."""
        return [text(member) for member in self._redis.zrange(_OPEN, 0, -1)]

    def now(self) -> float:
        """Redis' clock: the one that stamps the records."""
        seconds, microseconds = self._redis.time()
        return float(seconds) + float(microseconds) / 1e6

    def _shows(self, before: Record, status: Status, **fields: object) -> bool:
        """Whether a step whose answer got lost was taken after all: the record holds what it would have written."""
        now = self.get(before.request_id)
        expected = {"status": status, "attempt": before.attempt, **fields}
        return now is not None and all(getattr(now, name) == value for name, value in expected.items())

    def _move(
        self,
        request_id: str,
        allowed: Status,
        attempt: int | None,
        to: Status,
        stamped: str,
        fields: Mapping[str, str],
    ) -> bool:
        ttl = self._result_ttl_s if to.is_final else self._request_ttl_s
        pairs = [word for pair in fields.items() for word in pair]
        checked = "" if attempt is None else attempt
        args = [request_id, allowed, checked, to, stamped, ttl, FINISHED_CHANNEL, *pairs]
        return bool(self._move_script(keys=[_key(request_id), _OPEN], args=args))


def _key(request_id: str) -> str:
    return f"facelight:request:{request_id}"


def _parse(request_id: str, raw: Mapping[str, str]) -> Record:
    return Record(
        request_id=request_id,
        slug=raw["slug"],
        owner=raw["owner"],
        params=json.loads(raw["params"]),
        status=Status(raw["status"]),
        attempt=int(raw["attempt"]),
        worker=raw.get("worker", ""),
        created_at=float(raw["created_at"]),
        queued_at=float(raw["queued_at"]),
        started_at=_seconds(raw, "started_at"),
        finished_at=_seconds(raw, "finished_at"),
        inference_time=_seconds(raw, "inference_time"),
        outputs=tuple(Output(**output) for output in json.loads(raw.get("outputs", "[]"))),
        error=raw.get("error"),
    )


def _seconds(raw: Mapping[str, str], name: str) -> float | None:
    return float(raw[name]) if name in raw else None
