"""What one gateway process counts: HTTP calls, submissions that it refused, pictures that it fetched."""

from __future__ import annotations

from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from redis.exceptions import RedisError

from models.catalog import MODELS
from server.errors import BadRequest, BodyTooLarge, Forbidden, TooManyRequests, Unauthorized
from server.intake.fetcher import FetchOutcome
from workers.errors import IdempotencyConflict, OtherVersion, OutOfCredits, QueueFull, StoreUnavailable
from workers.metrics.endpoint import PATIENCE

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNMATCHED: Final = "unmatched"
"""The route of a call that no route matches: its path may be anything."""
_SUBMISSIONS: Final = {f"/{version}/{slug}": slug for version in ("v1", "v2") for slug in MODELS}
REASONS: Final[dict[type[Exception], str]] = {
    BadRequest: "invalid",
    Unauthorized: "unauthorized",
    Forbidden: "forbidden",
    OutOfCredits: "credits",
    IdempotencyConflict: "conflict",
    BodyTooLarge: "too_large",
    QueueFull: "queue_full",
    TooManyRequests: "rate",
    RedisError: "redis",
    StoreUnavailable: "store",
    OtherVersion: "version",
}
"""Why a submission is refused; other errors come after it was accepted, or are defects."""


class CallMetrics:
    """Counts what happens in this process. Labels are templates, names and codes, never paths, ids or keys."""

    def __init__(self, registry: CollectorRegistry) -> None:
        here: Any = {"registry": registry}
        self._calls = Counter(
            "facelight_http_requests", "HTTP calls that were answered.", ["route", "method", "status"], **here
        )
        self._seconds = Histogram(
            "facelight_http_request_seconds",
            "Time of HTTP calls; v1 calls, `?wait=` and events last as long as their request.",
            ["route", "method"],
            buckets=PATIENCE,
            **here,
        )
        self._open = Gauge("facelight_http_requests_open", "HTTP calls in progress.", **here)
        self._refusals = Counter(
            "facelight_refused_requests", "Submissions that were not accepted.", ["model", "reason"], **here
        )
        self._fetches = Counter("facelight_fetches", "Pictures that image URLs named.", ["outcome"], **here)
        for slug in MODELS:
            for reason in REASONS.values():
                self._refusals.labels(slug, reason)
        for outcome in FetchOutcome:
            self._fetches.labels(outcome.value)

    def began(self) -> None:
        """A call has arrived."""
        self._open.inc()

    def ended(self, route: str | None, method: str, status: int, seconds: float, error: Exception | None) -> None:
        """It was answered; `route` is the template of the route, `error` what the answer tells."""
        self._open.dec()
        route = route or _UNMATCHED
        method = method if method in _METHODS else "other"
        self._calls.labels(route, method, status).inc()
        self._seconds.labels(route, method).observe(seconds)
        if error is not None and (slug := _SUBMISSIONS.get(route)):
            for kind, reason in REASONS.items():
                if isinstance(error, kind):
                    self._refusals.labels(slug, reason).inc()
                    break

    def fetched(self, outcome: FetchOutcome) -> None:
        """A picture was fetched, or not."""
        self._fetches.labels(outcome.value).inc()
