"""One trace from a client's `traceparent` through gateway and Redis to the stages of a worker, across processes."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.collector import Collector, Received, collector
from tests.faults.behaviour import Behaviour
from tests.faults.processes.caller import body_for
from tests.faults.processes.cluster import Cluster, cluster
from tests.live_server import API_KEY, free_port

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{CLIENT}-01"}
VISIBLE_S = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


@contextmanager
def traced_cluster(monkeypatch: pytest.MonkeyPatch, endpoint: str, **settings: object) -> Iterator[Cluster]:
    for name, value in {**VISIBLE_S, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}.items():
        monkeypatch.setenv(name, value)
    with cluster(api_keys=API_KEY, janitor_interval_s=0.5, heartbeat_ttl_s=2, **settings) as made:
        made.caller.headers = {"x-api-key": API_KEY}
        yield made


def submit(made: Cluster, behaviour: Behaviour, **fields: object) -> str:
    answer = made.caller.call("POST", "/v2/ic-light", json=body_for(behaviour, **fields), headers=TRACEPARENT)
    assert answer.code == 200, answer
    made.caller.accepted[answer.request_id] = behaviour.label
    return answer.request_id


def assert_within(span: Received, outer: Received) -> None:
    assert outer.start <= span.start <= span.end <= outer.end + 0.001


def assert_one_trace(made: Cluster, found: Collector) -> None:
    behaviour = Behaviour(steps=4, step_ms=25, label="a secret prompt")
    request_id = submit(made, behaviour, seed=7, width=512, height=640, steps=3)
    made.settled()
    found.await_spans(
        lambda spans: {"POST /v2/ic-light", "process ic-light:foreground"} <= {span.name for span in spans}
    )
    (server,) = found.named("POST /v2/ic-light")
    (send,) = found.named("send ic-light:foreground")
    (process,) = found.named("process ic-light:foreground")
    assert (server.service, server.kind, server.trace, server.parent) == ("facelight-gateway", "server", TRACE, CLIENT)
    assert (send.service, send.kind, send.trace, send.parent) == ("facelight-gateway", "producer", TRACE, server.id)
    assert (process.service, process.kind, process.trace) == ("facelight-worker", "consumer", TRACE)
    assert process.parent == send.id
    stages = found.children(process)
    assert [(span.name, span.kind) for span in stages] == [
        ("prepare", "internal"),
        ("run", "internal"),
        ("publish", "internal"),
    ]
    (denoise,) = found.children(stages[1])
    assert denoise.name == "denoise"
    assert 0.1 <= denoise.end - denoise.start < stages[1].end - stages[1].start + 0.001
    assert_within(send, server)
    for inner, outer in [(denoise, stages[1]), *((stage, process) for stage in stages)]:
        assert_within(inner, outer)
    assert stages[0].end <= stages[1].start and stages[1].end <= stages[2].start
    assert server.attributes["http.route"] == "/v2/ic-light"
    assert server.attributes["http.response.status_code"] == 200
    queue = {"messaging.system": "redis", "messaging.destination.name": "ic-light:foreground"}
    for span, operation in ((send, "send"), (process, "process")):
        operations = {"messaging.operation.name": operation, "messaging.operation.type": operation}
        expected = {**queue, **operations, "messaging.message.id": request_id}
        assert expected.items() <= span.attributes.items()
    assert {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.output.type": "image",
        "gen_ai.request.model": "ic-light",
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 1,
        "facelight.width": 512,
        "facelight.height": 640,
        "facelight.steps": 3,
        "facelight.attempt": 1,
    }.items() <= process.attributes.items()
    assert "messaging.batch.message_count" not in process.attributes
    assert made.redis.client.hget(f"facelight:request:{request_id}", "traceparent") == (
        f"00-{TRACE}-{send.id}-01".encode()
    )


def assert_one_span_for_each_call(made: Cluster, found: Collector) -> None:
    request_id = made.caller.accept(Behaviour())
    made.settled()
    (image,) = made.caller.result(request_id)["images"]
    found.await_spans(lambda spans: any(span.name == "GET /v2/requests/{request_id}" for span in spans))
    found.await_spans(lambda _: len(found.named("process ic-light:foreground")) == 2)  # the worker sends its own
    found.spans.clear()
    name = image["file_name"]
    paths = (f"/v2/requests/{request_id}/status?key={API_KEY}", f"/files/{name}", f"/{API_KEY}", "/health/live")
    assert [made.caller.call("GET", path).code for path in paths] == [200, 200, 404, 200]
    found.await_spans(lambda spans: len(spans) >= 4)
    time.sleep(0.3)  # so would those that are too many
    seen = {span.attributes["url.path"]: span for span in found.spans}
    assert {path: span.name for path, span in seen.items()} == {
        f"/v2/requests/{request_id}/status": "GET /v2/requests/{request_id}/status",
        "/files/*": "GET /files/{name}",
        "/*": "GET",
        "/health/live": "GET /health/live",
    }
    assert len(found.spans) == 4
    assert {span.kind for span in found.spans} == {"server"}
    assert seen[f"/v2/requests/{request_id}/status"].attributes["url.query"] == "*"


def test_traces_across_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as found, traced_cluster(monkeypatch, found.url) as made:
        assert_one_trace(made, found)
        assert_one_span_for_each_call(made, found)
        told = json.dumps([span.attributes for span in found.spans])
        assert API_KEY not in told and "secret" not in told and '"prompt"' not in told


@pytest.mark.slow
def test_every_attempt_has_a_span_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """All below the one that enqueued the request; a process that is killed takes its own with it."""
    with collector() as found, traced_cluster(monkeypatch, found.url) as made:
        submit(made, Behaviour(ending="segfault", on_runs=1))
        made.settled()
        found.await_spans(lambda _: bool(found.named("process ic-light:foreground")))
        (second,) = found.named("process ic-light:foreground")
        (send,) = found.named("send ic-light:foreground")
        assert (second.attributes["facelight.attempt"], second.parent, second.is_error) == (2, send.id, False)
        found.spans.clear()
        submit(made, Behaviour(ending="device_error", on_runs=1))
        made.settled()
        found.await_spans(lambda _: len(found.named("process ic-light:foreground")) == 2)
        first, second = found.named("process ic-light:foreground")
        assert (first.attributes["facelight.attempt"], first.is_error) == (1, True)
        assert first.attributes["error.type"] == "worker_died"
        assert (second.attributes["facelight.attempt"], second.is_error) == (2, False)
        (send,) = found.named("send ic-light:foreground")
        assert first.parent == second.parent == send.id


@pytest.mark.slow
@pytest.mark.parametrize("is_silent", [False, True], ids=["refuses", "is silent"])
def test_nobody_waits_for_a_collector_that_is_away(monkeypatch: pytest.MonkeyPatch, is_silent: bool) -> None:
    """One that refuses connections, and one that takes them and says nothing: to wait for it would take 10 s."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] if is_silent else free_port()
        with traced_cluster(monkeypatch, f"http://127.0.0.1:{port}", keep=False) as made:
            seconds = [seconds_of(lambda: submit(made, Behaviour())) for _ in range(50)]
            made.settled()
            assert max(seconds) < 5
            for member, number in ((made.gateways[0], signal.SIGINT), (made.workers[0], signal.SIGTERM)):
                member.send(number)
                assert member.wait(30) == 0


def seconds_of(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began
