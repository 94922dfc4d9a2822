"""KEDA starts workers for the GPU seconds that wait, and the monitoring watches what is written."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from models.catalog import MODELS
from server.metrics.queue import ASSUMED_DEVICE_S, QueueMetrics
from server.settings import GatewaySettings
from tests.deploy.chart import EXAMPLES, VALUES, Manifest, of_kind, one, render, variables
from tests.deploy.files import REPOSITORY
from workers.state.record import Result
from workers.state.records import Records

pytestmark = pytest.mark.slow  # helm and schemas are fetched from public registries

(TWO_CLASSES,) = [file for file in EXAMPLES if file.stem == "two-classes"]


def scaled(**values: Any) -> Manifest:
    """The ScaledObject of the class `gpu` with autoscaling."""
    spec = one(
        render(workers={"gpu": {"autoscaling": {"enabled": True, **values.pop("autoscaling", {})}, **values}}),
        "ScaledObject",
    )
    return dict(spec["spec"])


def waiting_seconds(spec: Manifest, told: str) -> float:
    """What KEDA computes of what a gateway tells: the sum of the series that the triggers select."""
    samples = [each for family in text_string_to_metric_families(told) for each in family.samples]
    total = 0.0
    for trigger in spec["triggers"]:
        assert (trigger["type"], trigger["metadata"]["format"]) == ("metrics-api", "prometheus")
        name, labels = re.fullmatch(r"(\w+)\{(.*)\}", trigger["metadata"]["valueLocation"]).groups()
        wanted = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        (found,) = [each for each in samples if each.name == name and wanted.items() <= each.labels.items()]
        total += found.value
    formula = spec["advanced"]["scalingModifiers"]["formula"]
    assert formula.split(" + ") == [trigger["name"] for trigger in spec["triggers"]]
    return total


def test_what_is_counted_are_the_requests_that_wait(redis_url: str) -> None:
    """Every variant by what its requests have taken; a request that a worker has claimed does not wait."""
    redis = Redis.from_url(redis_url)
    records = Records(redis, 60, 60)
    registry = CollectorRegistry()
    QueueMetrics(registry, GatewaySettings(redis_url=redis_url))

    def waiting() -> float:
        return waiting_seconds(scaled(), generate_latest(registry).decode())

    assert waiting() == 0
    expected = 0.0
    for slug, model in MODELS.items():
        for number, variant in enumerate(model.params.variants):
            records.create(f"{slug}-{variant}", slug, variant, "", {})
            expected += ASSUMED_DEVICE_S
            assert waiting() == expected, (slug, variant, number)
    (claimed,) = records.claim_batch([("ic-light", "foreground")], "worker", "claim", wakeup=b"w")
    assert waiting() == expected - ASSUMED_DEVICE_S
    assert records.complete([Result(claimed, (), 3.0, device_s=2.5)]) == [True]
    records.create("another", "ic-light", "foreground", "", {})
    assert waiting() == expected - ASSUMED_DEVICE_S + 2.5


def test_the_chart_knows_all_models_and_variants() -> None:
    known = [re.findall(r'="([^"]*)"', each["metadata"]["valueLocation"]) for each in scaled()["triggers"]]
    assert known == [[slug, variant] for slug, model in MODELS.items() for variant in model.params.variants]
    assert VALUES["workerDefaults"]["models"] == list(MODELS)


def test_a_class_counts_what_it_serves() -> None:
    def counted(spec: Manifest) -> set[str]:
        return {each["name"] for each in spec["triggers"]}

    assert counted(scaled(models=["ic-light"])) == {"ic_light_foreground", "ic_light_background"}
    assert counted(scaled(models=["pulid-lightning"], checkpoints=["artistic"])) == {"pulid_lightning_artistic"}


def test_workers_stay_for_longer_than_one_takes_to_start() -> None:
    for seconds in (VALUES["workerDefaults"]["coldStartSeconds"], 60, 3300):
        spec = scaled(coldStartSeconds=seconds)
        down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        assert seconds < down["stabilizationWindowSeconds"] <= 3600
        assert spec["cooldownPeriod"] > seconds


def test_there_may_be_no_worker_while_nothing_waits() -> None:
    found = {name: each["spec"] for name, each in of_kind(render(TWO_CLASSES), "ScaledObject").items()}
    scenes, portraits = found["facelight-worker-scenes"], found["facelight-worker-portraits"]
    assert (scenes["minReplicaCount"], scenes["maxReplicaCount"]) == (0, 4)
    assert scenes["advanced"]["scalingModifiers"]["activationTarget"] == "0"
    assert portraits["minReplicaCount"] == 2
    # As many workers as there are multiples of the target: the composite metric is an average per worker.
    assert scenes["advanced"]["scalingModifiers"]["metricType"] == "AverageValue"
    assert scenes["advanced"]["scalingModifiers"]["target"] == "60"


def test_keda_is_told_nothing_that_its_schema_does_not_know() -> None:
    """The validators of test_helm.py pass over unknown names, and so would the cluster."""
    spec = scaled()
    assert spec.keys() == {
        "scaleTargetRef",
        "pollingInterval",
        "minReplicaCount",
        "maxReplicaCount",
        "cooldownPeriod",
        "fallback",
        "triggers",
        "advanced",
    }
    assert spec["advanced"].keys() == {"scalingModifiers", "horizontalPodAutoscalerConfig"}
    assert spec["advanced"]["scalingModifiers"].keys() == {"formula", "target", "activationTarget", "metricType"}
    assert spec["fallback"].keys() == {"failureThreshold", "replicas"}
    names = {"url", "format", "valueLocation", "targetValue"}
    assert all(each.keys() == {"type", "name", "metadata"} for each in spec["triggers"])
    assert all(each["metadata"].keys() == names for each in spec["triggers"])
    assert all(isinstance(value, str) for each in spec["triggers"] for value in each["metadata"].values())


def test_keda_asks_the_gateways_wherever_redis_is() -> None:
    outside = {
        "redis": {"urlSecret": {"name": "url"}},
        "networkPolicy": {"workerTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        "workers": {"gpu": {"autoscaling": {"enabled": True}}},
    }
    for manifests in (render(TWO_CLASSES), render(**outside)):
        service = one(manifests, "Service", "gateway-metrics")
        (port,) = service["spec"]["ports"]
        where = f"http://{service['metadata']['name']}.pictures.svc:{port['port']}/metrics"
        pod = one(manifests, "Deployment", "gateway")["spec"]["template"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        (container,) = pod["spec"]["containers"]
        assert {"name": port["targetPort"], "containerPort": port["port"]} in container["ports"]
        assert variables(container)["FACELIGHT_METRICS_PORT"] == str(port["port"])
        for scaled_object in of_kind(manifests, "ScaledObject").values():
            assert {each["metadata"]["url"] for each in scaled_object["spec"]["triggers"]} == {where}


# --- Monitoring -------------------------------------------------------------------------------------------------------

MONITORED = {"monitoring": {"enabled": True, "labels": {"release": "prometheus"}}}
JOBS = {
    "facelight-gateway": 'job="pictures/facelight-gateway"',
    "facelight-worker": 'job="pictures/facelight-worker"',
    "facelight-redis": 'job="facelight-exporter", namespace="pictures"',
}
"""What the operator calls the jobs of docker compose: namespace and name of a PodMonitor, the name of a Service."""


def in_cluster(expression: str) -> str:
    return re.sub(r'job="([\w-]+)"', lambda job: JOBS[job[1]], expression)


def test_alerts_are_those_of_compose() -> None:
    compose = yaml.safe_load((REPOSITORY / "deploy" / "monitoring" / "alerts.yml").read_text(encoding="utf-8"))
    (found,) = one(render(**MONITORED), "PrometheusRule")["spec"]["groups"]
    (expected,) = compose["groups"]
    assert [{**rule, "expr": in_cluster(rule["expr"])} for rule in expected["rules"]] == found["rules"]
    assert all(JOBS["facelight-redis"] in rule["expr"] for rule in found["rules"] if "redis_memory" in rule["expr"])


def test_the_dashboard_is_that_of_compose() -> None:
    shipped = json.loads((REPOSITORY / "deploy" / "monitoring" / "grafana" / "facelight.json").read_text())
    found = json.loads(one(render(**MONITORED), "ConfigMap")["data"]["facelight.json"])
    for panel in shipped["panels"]:
        for target in panel.get("targets", []):
            target["expr"] = in_cluster(target["expr"])
    assert found == shipped
    assert not of_kind(render(), "ConfigMap")


@pytest.mark.parametrize("part", ["gateway", "worker"])
def test_pod_monitors_find_the_pods(part: str) -> None:
    manifests = render(**MONITORED)
    monitor = of_kind(manifests, "PodMonitor")[f"facelight-{part}"]
    assert JOBS[f"facelight-{part}"] == f'job="pictures/{monitor["metadata"]["name"]}"'
    pod = one(manifests, "Deployment", part)["spec"]["template"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_the_service_monitor_finds_the_exporter() -> None:
    manifests = render(**MONITORED)
    monitor, service = one(manifests, "ServiceMonitor"), one(manifests, "Service", "exporter")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [each["port"] for each in monitor["spec"]["endpoints"]] == [
        each["name"] for each in service["spec"]["ports"]
    ]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
