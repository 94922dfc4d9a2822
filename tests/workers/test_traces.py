"""Spans of a worker's stages, and what becomes of traces that nobody asks for or that cannot be sent."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest

from models.errors import InputRefused
from models.ic_light.params import Params
from models.pipeline import OnStep, Pipeline, Pixels
from tests.collector import Collector, collector
from tests.workers.support import PLACE, stages
from workers.errors import QueueFull
from workers.state.record import QueueLimits
from workers.state.records import Records
from workers.store.base import Store
from workers.traces import sending, start_traces, stop_traces, tracer_provider

PROCESS = "process ic-light:foreground"


class Painter(Pipeline[Params, bytes]):
    """Paints pictures of one colour; `act` runs in the middle of the work."""

    variants = ("foreground",)
    stage_intervals = (("encode", 0.0, 0.25), ("denoise", 0.25, 0.5), ("encode", 0.75, 0.125))

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.act = act

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> bytes:
        return images["subject_image"]

    def batch_key(self, prepared: bytes) -> None:
        return None

    def run(self, batch: Sequence[bytes], on_step: OnStep) -> list[Pixels]:
        self.act()
        return [np.full((1, 40, 60, 3), prepared[0], np.uint8) for prepared in batch]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """What the traces of this process send."""
    with collector() as made:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
        start_traces("worker")
        try:
            yield made
        finally:
            stop_traces()


def serve(records: Records, store: Store, pipeline: Painter, count: int = 1) -> list[str]:
    """Enqueue and serve requests, and have all spans sent; returns their ids."""
    ids = [f"r{number}" for number in range(count)]
    for request_id in ids:
        image = store.put(b"\x40", "bin", 600)
        params = Params(subject_image=image, prompt="a secret", output_format="png").model_dump(mode="json")
        with sending("ic-light", "foreground") as message:
            trace = message.traceparent
            records.create(request_id, "ic-light", "foreground", "", params, batch_hint="a", traceparent=trace)
            message.sent(request_id)
    with stages(records, store, {"ic-light": pipeline}) as (engine, _):
        for _ in engine.serve(PLACE, b"wakeup"):
            pass
    stop_traces()
    return ids


def test_stages_of_the_pipeline_are_spans_at_their_times(found: Collector, records: Records, store: Store) -> None:
    serve(records, store, Painter())
    (run,) = found.named("run")
    timed = [(span.name, span.start - run.start, span.end - span.start) for span in found.children(run)]
    assert [name for name, _, _ in timed] == ["encode", "denoise", "encode"]
    assert [round(began, 3) for _, began, _ in timed] == [0.0, 0.25, 0.75]
    assert [round(took, 3) for _, _, took in timed] == [0.25, 0.5, 0.125]


def test_requests_of_a_batch_have_a_trace_each(found: Collector, records: Records, store: Store) -> None:
    ids = serve(records, store, Painter(), count=17)
    spans = found.named(PROCESS)
    assert sorted(span.attributes["messaging.message.id"] for span in spans) == sorted(ids)
    assert len({span.trace for span in spans}) == 17
    sizes = [span.attributes.get("messaging.batch.message_count", 1) for span in spans]
    assert max(sizes) == 3, "an eighth of what waits, and one"
    for span in spans:
        (run,) = [child for child in found.children(span) if child.name == "run"]
        assert run.attributes["facelight.batch_size"] == span.attributes.get("messaging.batch.message_count", 1)


def test_a_request_that_fails_tells_the_reason_and_no_more(found: Collector, records: Records, store: Store) -> None:
    def refuse() -> None:
        raise InputRefused("There is no face in /secret/place.")

    serve(records, store, Painter(refuse))
    (process,), (run,) = found.named(PROCESS), found.named("run")
    assert (process.is_error, process.attributes["error.type"]) == (True, "input")
    assert (run.is_error, run.attributes["error.type"]) == (True, "InputRefused")
    assert "secret" not in str([span.attributes for span in found.spans])
    assert found.named("publish") == []


def test_a_cancelled_request_tells_so(found: Collector, records: Records, store: Store) -> None:
    def cancel() -> None:
        records.cancel("r0")
        time.sleep(0.2)  # the reporter notices

    serve(records, store, Painter(cancel))
    (process,) = found.named(PROCESS)
    assert (process.is_error, process.attributes["error.type"]) == (True, "cancelled")


def test_a_request_that_is_not_accepted_tells_the_reason_and_no_more(found: Collector, records: Records) -> None:
    with pytest.raises(QueueFull), sending("ic-light", "foreground") as message:
        limits = QueueLimits(queue=0)
        records.create("r0", "ic-light", "foreground", "", {}, limits=limits, traceparent=message.traceparent)
    stop_traces()
    (send,) = found.named("send ic-light:foreground")
    assert (send.is_error, send.attributes["error.type"]) == (True, "QueueFull")
    assert "messaging.message.id" not in send.attributes


def test_a_request_without_a_context_begins_a_trace(found: Collector, records: Records, store: Store) -> None:
    """A gateway that sends no traces has enqueued it, or one of an earlier version."""
    image = store.put(b"\x40", "bin", 600)
    params = Params(subject_image=image, prompt="x", output_format="png").model_dump(mode="json")
    records.create("r0", "ic-light", "foreground", "", params)
    with stages(records, store, {"ic-light": Painter()}) as (engine, _):
        for _ in engine.serve(PLACE, b"wakeup"):
            pass
    stop_traces()
    (process,) = found.named(PROCESS)
    assert process.parent == ""


def test_without_traces_nothing_is_kept_in_a_record(records: Records, store: Store) -> None:
    (request_id,) = serve(records, store, Painter())
    record = records.get(request_id)
    assert record is not None
    assert record.traceparent == ""


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_imported_unless_it_is_asked_for(variables: dict[str, str]) -> None:
    """The SDK's metrics are imported by redis-py wherever they are installed."""
    program = (
        "import sys, workers.engine.progress, workers.traces as traces; traces.start_traces('worker'); "
        "sys.exit('opentelemetry.sdk.trace' in sys.modules or 'opentelemetry.exporter' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path), **variables})
    assert done.returncode == 0


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_a_missing_extra_is_told_in_words(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)  # as if it were not installed
    with caplog.at_level(logging.WARNING):
        start_traces("gateway")
    assert f"{variable} is set, but no traces are sent: the extra `otel` is not installed" in caplog.text
    assert tracer_provider() is None


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "the protocol grpc is not supported"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "-5"}, "schedule_delay_millis must be positive"),
    ],
)
def test_what_cannot_be_done_is_told_in_words(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **variables}.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.WARNING):
        start_traces("gateway")
    assert f"no traces are sent: {words}" in caplog.text
    assert tracer_provider() is None


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "facelight-worker"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=ours,deployment.environment.name=test"}, "ours"),
    ],
)
def test_the_services_name(variables: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as made:
        for variable, value in {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{made.url}/v1/traces", **variables}.items():
            monkeypatch.setenv(variable, value)
        start_traces("worker")
        with sending("ic-light", "foreground"):
            pass
        stop_traces()
        assert [span.service for span in made.spans] == [name]
