"""Traces of requests by OpenTelemetry, from the gateway through Redis to the worker; see docs/tracing.md.

Off unless OpenTelemetry's own variables name a collector and the extra `otel` is installed: without, nothing of it is
imported here, and every call returns at once. Spans are sent by a thread of their own, in batches from a bounded
buffer: a collector that is away costs spans, and nobody waits for it, but for `_LAST_S` at the end of the process.

    POST /v1/ic-light               server     the HTTP call; FastAPI's own span
    └── send ic-light:foreground    producer   a request is enqueued; its record keeps the span's context
        └── process ic-light:…      consumer   one for each attempt, from the claim to the end
            ├── prepare             internal
            ├── run                 internal   with a span for each stage that the pipeline has timed
            └── publish             internal

No attribute holds a prompt, a picture or the name of one, an API key or the name of one.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from workers.state.record import FailureReason, Record

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

_log = logging.getLogger(__name__)
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_NEEDED: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_LAST_S: Final = 2.0
"""How long the end of a process waits for the collector to take the last spans."""
_PARAMETERS: Final = {
    "gen_ai.request.seed": "seed",
    "gen_ai.request.choice.count": "number_of_images",
    "facelight.width": "width",
    "facelight.height": "height",
    "facelight.steps": "steps",
}
"""Parameters of a request by attribute; not every model has all of them."""

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def start_traces(process: str) -> None:
    """Send spans from here on, if the environment asks for it, as those of the service `facelight-<process>`.

    What is asked for and cannot be done is logged: traces are no reason not to serve.
    """
    global _provider, _tracer
    asked_by = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if asked_by is None or is_disabled or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return
    if not all(map(_is_installed, _NEEDED)):
        _log.warning(
            "%s is set, but no traces are sent: the extra `otel` is not installed (pip install 'facelight[otel]')",
            asked_by,
        )
        return
    protocol = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        _log.warning("no traces are sent: the protocol %s is not supported, http/protobuf is", protocol)
        return
    if urlsplit(os.environ[asked_by]).scheme not in ("http", "https"):
        _log.warning("no traces are sent: %s must be a URL such as http://collector:4318", asked_by)
        return
    try:
        _provider = _build(process)
    except ValueError as error:  # of one of the SDK's variables
        _log.warning("no traces are sent: %s", error)
        return
    _tracer = _provider.get_tracer("facelight", version("facelight"))
    _log.info("traces are sent, as %s asks", asked_by)


def _build(process: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = {
        "service.version": version("facelight"),
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
    }
    if not ("OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")):
        resource["service.name"] = f"facelight-{process}"
    provider = TracerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def stop_traces() -> None:
    """Send what is left, for `_LAST_S` at most."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:  # on a thread: the SDK itself would wait for 30 s
        last = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(_LAST_S)


def tracer_provider() -> TracerProvider | None:
    """Where spans are made; None while traces are off."""
    return _provider


@dataclass
class Sending:
    """The span of a request that is enqueued."""

    span: Span | None = None
    traceparent: str = ""
    """The context for the record, as W3C Trace Context writes it; empty while traces are off."""

    def sent(self, request_id: str) -> None:
        """Note which request represents the call."""
        if self.span is not None:
            self.span.set_attribute("messaging.message.id", request_id)


@contextmanager
def sending(slug: str, variant: str) -> Iterator[Sending]:
    """The span of the block, which enqueues a request; a child of the HTTP call's."""
    if _tracer is None:
        yield Sending()
        return
    from opentelemetry.trace import SpanKind

    attributes = _messaging("send", slug, variant)
    span = _tracer.start_span(f"send {slug}:{variant}", kind=SpanKind.PRODUCER, attributes=attributes)
    try:
        yield Sending(span, _context_of(span))
    except BaseException as error:  # raised again: the span of an interruption has failed as well
        _fail(span, type(error).__qualname__)
        raise
    finally:
        span.end()


class Attempt:
    """The spans of one attempt at a request in a worker: `process` and, within it, what each stage takes.

    Its stages follow each other on several threads, one at a time.
    """

    def __init__(self, record: Record, claimed_with: int) -> None:
        """Begins with the claim; `claimed_with`: how many requests were claimed together."""
        self._tracer = _tracer
        self._span: Span | None = None
        self._stage: Span | None = None
        self._stage_began_ns = 0
        if self._tracer is None:
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._span = self._tracer.start_span(
            f"process {record.slug}:{record.variant}",
            # Without a context in the record, of a gateway that sends no traces, it is the root of a trace.
            context=TraceContextTextMapPropagator().extract({"traceparent": record.traceparent}),
            kind=SpanKind.CONSUMER,
            attributes={**_messaging("process", record.slug, record.variant), **_described(record, claimed_with)},
        )

    @contextmanager
    def stage(self, name: str, batch_size: int = 1) -> Iterator[None]:
        """The span of the block: a stage that is executed for `batch_size` requests together."""
        if self._tracer is None or self._span is None:
            yield
            return
        from opentelemetry.trace import set_span_in_context

        self._stage_began_ns = time.time_ns()
        self._stage = self._tracer.start_span(
            name,
            context=set_span_in_context(self._span),
            attributes={"facelight.batch_size": batch_size},
            start_time=self._stage_began_ns,
        )
        try:
            yield
        except BaseException as error:  # raised again, as above
            _fail(self._stage, type(error).__qualname__)
            raise
        finally:
            self._stage.end()
            self._stage = None

    def timed(self, intervals: Iterable[tuple[str, float, float]]) -> None:
        """Within a stage: spans of what was timed in it, as names, seconds from the stage's start, and durations."""
        if self._tracer is None or self._stage is None:
            return
        from opentelemetry.trace import set_span_in_context

        within = set_span_in_context(self._stage)
        for name, start_s, duration_s in intervals:
            start_ns = self._stage_began_ns + round(start_s * 1e9)
            span = self._tracer.start_span(name, context=within, start_time=start_ns)
            span.end(start_ns + round(duration_s * 1e9))

    def end(self, reason: FailureReason | str = "") -> None:
        """End the attempt; with a reason if it has failed. Only the first call counts."""
        if self._span is None:
            return
        if reason:
            _fail(self._span, reason)
        self._span.end()
        self._span = None


def _fail(span: Span, reason: str) -> None:
    """Without the error's text, which may tell what is the caller's alone."""
    from opentelemetry.trace import StatusCode

    span.set_attribute("error.type", str(reason))
    span.set_status(StatusCode.ERROR)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the package around it
        return False


def _context_of(span: Span) -> str:
    from opentelemetry.trace import set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent", "")


def _messaging(operation: str, slug: str, variant: str) -> dict[str, str]:
    """By OpenTelemetry's conventions for messaging; the destination is the queue of a model's variant."""
    return {
        "messaging.system": "redis",
        "messaging.destination.name": f"{slug}:{variant}",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }


def _described(record: Record, claimed_with: int) -> dict[str, str | int]:
    """By the conventions for messaging and generative AI; sizes and attempts, which they do not know, as `facelight.*`.

    A batch count belongs to spans of several messages only.
    """
    return {
        "messaging.message.id": record.request_id,
        **({"messaging.batch.message_count": claimed_with} if claimed_with > 1 else {}),
        "gen_ai.operation.name": "generate_content",
        "gen_ai.output.type": "image",
        "gen_ai.provider.name": "facelight",
        "gen_ai.request.model": record.slug,
        **{attribute: record.params[name] for attribute, name in _PARAMETERS.items() if name in record.params},
        "facelight.variant": record.variant,
        "facelight.attempt": record.attempt,
        "facelight.worker": record.worker,
    }
