"""Single requests for an operator: which of them wait or run, for how long, and of whom.

Reads nothing but fields that records of every version have, so that it also shows requests of a newer one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from redis import Redis

from workers.state.connection import decode
from workers.state.record import Status
from workers.state.scripts import load_script

_PAGE: Final = 500
"""Records that are read in one round trip; other clients wait meanwhile, a few milliseconds."""
_FIELDS: Final = (
    "status",
    "slug",
    "variant",
    "owner",
    "attempt",
    "worker",
    "created_at",
    "started_at",
    "step",
    "total",
    "cancel",
)


@dataclass(frozen=True)
class ListedRequest:
    """An unfinished request. Times are seconds since the epoch by Redis' clock."""

    request_id: str
    status: Status
    slug: str
    variant: str
    owner: str
    attempt: int
    worker: str
    created_at: float
    started_at: float | None
    """When a worker claimed it last."""
    step: int
    total: int
    cancel_requested: bool

    def seconds(self, now: float) -> float:
        """How long it has been waiting, or running."""
        is_running = self.status is Status.PROCESSING and self.started_at is not None
        return max(0.0, now - (cast("float", self.started_at) if is_running else self.created_at))


class Listing:
    """The unfinished requests of one Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._read = redis.register_script(load_script("read_records"))

    def unfinished(self) -> Iterator[ListedRequest]:
        """All that wait or run, those that were accepted first at first; not those that end meanwhile."""
        ids = cast("list[bytes]", self._redis.zrange("facelight:open", 0, -1))
        return self.find([decode(request_id) for request_id in ids])

    def find(self, request_ids: Sequence[str]) -> Iterator[ListedRequest]:
        """Those of some requests that wait or run, in the order in which they are named."""
        for start in range(0, len(request_ids), _PAGE):
            page = request_ids[start : start + _PAGE]
            keys = [f"facelight:request:{request_id}" for request_id in page]
            for request_id, values in zip(page, self._read(keys=keys, args=_FIELDS), strict=True):
                found = {name: decode(value) for name, value in zip(_FIELDS, values, strict=True) if value is not None}
                if found.get("status") in (Status.QUEUED, Status.PROCESSING):
                    yield _parse(request_id, found)


def _parse(request_id: str, raw: dict[str, Any]) -> ListedRequest:
    return ListedRequest(
        request_id=request_id,
        status=Status(raw["status"]),
        slug=raw["slug"],
        variant=raw["variant"],
        owner=raw["owner"],
        attempt=int(raw["attempt"]),
        worker=raw.get("worker", ""),
        created_at=float(raw["created_at"]),
        started_at=float(raw["started_at"]) if "started_at" in raw else None,
        step=int(raw.get("step", 0)),
        total=int(raw.get("total", 0)),
        cancel_requested="cancel" in raw,
    )
