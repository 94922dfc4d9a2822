"""What a gateway counts of calls: by the routes' templates, and why submissions are refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from server.metrics.calls import CallMetrics
from tests.server.conftest import MakeSettings
from tests.server.support import KEYS, Client, FakeWorker, body_for, serving
from workers.state.keys import Keys


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def counted(make_settings: MakeSettings, registry: CollectorRegistry) -> Iterator[Client]:
    """A gateway that asks for keys and lets one request wait."""
    settings = make_settings(api_keys=KEYS[0], queue_limit=1, max_body_mb=1)
    with serving(settings, metrics=CallMetrics(registry)) as client:
        client.headers["x-api-key"] = KEYS[0]
        yield client


def refused(registry: CollectorRegistry) -> dict[str, float]:
    """Refusals by model and reason, those that there were."""
    (family,) = [each for each in registry.collect() if each.name == "facelight_refused_requests"]
    counts = [each for each in family.samples if each.name.endswith("_total") and each.value]
    return {f"{each.labels['model']} {each.labels['reason']}": each.value for each in counts}


def test_refused_submissions_are_counted_by_reason(
    counted: Client, registry: CollectorRegistry, make_settings: MakeSettings
) -> None:
    keys = Keys(FakeWorker(make_settings()).redis)
    (_, poor), (_, hasty), (_, other) = (
        keys.add("poor", credits=0),
        keys.add("hasty", rate=1),
        keys.add("other", scopes=["pulid-lightning"]),
    )

    def post(key: str = KEYS[0], path: str = "/v2/ic-light", **fields: object) -> int:
        return counted.post(path, json=body_for("ic-light", **fields), headers={"x-api-key": key}).status_code

    assert post("wrong") == 401
    assert post(poor) == 406
    assert post(other) == 403
    assert post(hasty, width=1) == 400
    assert post(hasty) == 429
    assert post(prompt="x" * 2**21) == 413
    assert post() == 200
    assert post() == 429
    assert post(path="/v2/pulid-lightning", width=1) == 400
    assert refused(registry) == {
        "ic-light unauthorized": 1,
        "ic-light credits": 1,
        "ic-light forbidden": 1,
        "ic-light invalid": 1,
        "ic-light rate": 1,
        "ic-light too_large": 1,
        "ic-light queue_full": 1,
        "pulid-lightning invalid": 1,
    }


def test_calls_of_no_route_and_of_odd_methods_add_no_names(counted: Client, registry: CollectorRegistry) -> None:
    for path in ("/a", "/b/secret", "/v2/requests/1/2/3", "/v1/other-model"):
        assert counted.get(path).status_code == 404
    assert counted.request("PROPFIND", "/health/live").status_code in (400, 405)
    assert counted.head("/files/unknown.png").status_code == 404
    assert counted.get("/v2/requests/0/status").status_code == 404
    calls = "facelight_http_requests_total"
    assert registry.get_sample_value(calls, {"route": "unmatched", "method": "GET", "status": "404"}) == 4
    found = {
        sample.labels["route"] for each in registry.collect() for sample in each.samples if "route" in sample.labels
    }
    assert found <= {"unmatched", "/health/live", "/files/{name}", "/v2/requests/{request_id}/status"}, found
    assert registry.get_sample_value(calls, {"route": "/files/{name}", "method": "HEAD", "status": "404"}) == 1


def test_errors_after_the_acceptance_are_no_refusals(counted: Client, registry: CollectorRegistry) -> None:
    accepted = counted.post("/v2/ic-light", json=body_for("ic-light")).json()["request_id"]
    assert counted.get(f"/v2/requests/{accepted}", headers={"x-api-key": "wrong"}).status_code == 401
    assert counted.get("/v2/requests/unknown").status_code == 404
    assert refused(registry) == {}
