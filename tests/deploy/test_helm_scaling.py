"""KEDA starts workers for the GPU seconds that wait, and the monitoring watches what is written."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from typing import Any

import pytest
import yaml
from redis import Redis

from models.catalog import MODELS
from tests.deploy.chart import EXAMPLES, VALUES, Manifest, of_kind, one, render, variables
from tests.deploy.files import REPOSITORY
from workers.state.records import Records
from workers.state.registry import WorkerRegistry, WorkerReport

pytestmark = pytest.mark.slow  # helm and schemas are fetched from public registries

(TWO_CLASSES,) = [file for file in EXAMPLES if file.stem == "two-classes"]


def scaled(**values: Any) -> Manifest:
    """The ScaledObject of the class `gpu` with autoscaling."""
    spec = one(
        render(workers={"gpu": {"autoscaling": {"enabled": True, **values.pop("autoscaling", {})}, **values}}),
        "ScaledObject",
    )
    return dict(spec["spec"])


def waiting_seconds(spec: Manifest, redis: Redis) -> float:
    """What KEDA computes: the sizes of the sets, in the formula."""
    sizes = {each["name"]: redis.zcard(each["metadata"]["listName"]) for each in spec["triggers"]}
    formula = spec["advanced"]["scalingModifiers"]["formula"]
    assert re.fullmatch(r"[a-z_]+ \* [\d.]+( \+ [a-z_]+ \* [\d.]+)*", formula)
    terms = [term.split(" * ") for term in formula.split(" + ")]
    assert [name for name, _ in terms] == list(sizes)
    return sum(sizes[name] * float(seconds) for name, seconds in terms)


def test_what_is_counted_are_the_requests_that_wait(redis_url: str) -> None:
    """Every variant by its own seconds; a request that a worker has claimed does not wait."""
    redis = Redis.from_url(redis_url)
    records = Records(redis, 60, 60)
    seconds = {
        slug: dict.fromkeys(model.params.variants, 2.5 + number) for number, (slug, model) in enumerate(MODELS.items())
    }
    spec = scaled(autoscaling={"secondsPerRequest": seconds})
    assert waiting_seconds(spec, redis) == 0
    expected = 0.0
    for slug, model in MODELS.items():
        for number, variant in enumerate(model.params.variants):
            records.create(f"{slug}-{variant}", slug, variant, "", {})
            expected += seconds[slug][variant]
            assert waiting_seconds(spec, redis) == expected, (slug, variant, number)
    (claimed,) = records.claim_batch([(slug := "ic-light", "foreground")], "worker", "claim", wakeup=b"w")
    assert waiting_seconds(spec, redis) == expected - seconds[slug]["foreground"], claimed


def test_the_chart_knows_all_models_and_variants() -> None:
    known = VALUES["workerDefaults"]["autoscaling"]["secondsPerRequest"]
    assert {slug: list(variants) for slug, variants in known.items()} == {
        slug: list(model.params.variants) for slug, model in MODELS.items()
    }
    assert VALUES["workerDefaults"]["models"] == list(MODELS)


def test_a_class_counts_what_it_serves() -> None:
    def counted(spec: Manifest) -> set[str]:
        return {each["metadata"]["listName"].removeprefix("facelight:waiting:") for each in spec["triggers"]}

    assert counted(scaled(models=["ic-light"])) == {"ic-light:foreground", "ic-light:background"}
    assert counted(scaled(models=["pulid-lightning"], checkpoints=["artistic"])) == {"pulid-lightning:artistic"}


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
    names = {"address", "listName", "listLength", "databaseIndex", "enableTLS"}
    assert all(each.keys() == {"type", "name", "metadata", "authenticationRef"} for each in spec["triggers"])
    assert all(each["metadata"].keys() == names for each in spec["triggers"])


def test_keda_reaches_the_own_redis_with_its_password() -> None:
    manifests = render(TWO_CLASSES)
    for name, scaled_object in of_kind(manifests, "ScaledObject").items():
        triggers = scaled_object["spec"]["triggers"]
        assert {each["metadata"]["address"] for each in triggers} == {"facelight-redis.pictures.svc:6379"}
        assert {each["authenticationRef"]["name"] for each in triggers} == {name}
        assert all(isinstance(value, str) for each in triggers for value in each["metadata"].values())
        (secret,) = of_kind(manifests, "TriggerAuthentication")[name]["spec"]["secretTargetRef"]
        assert secret == {"parameter": "password", "name": "facelight", "key": "REDIS_PASSWORD"}


@pytest.mark.parametrize("secret", [{}, {"name": "keda", "username": "user", "password": "word"}], ids=["open", "user"])
def test_keda_reaches_another_redis(secret: dict[str, str]) -> None:
    manifests = render(
        redis={
            "urlSecret": {"name": "url"},
            "scaler": {"address": "redis:6380", "tls": True, "databaseIndex": 1, "secret": secret},
        },
        networkPolicy={"workerTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        workers={"gpu": {"autoscaling": {"enabled": True}}},
    )
    trigger = one(manifests, "ScaledObject")["spec"]["triggers"][0]
    expected = {"address": "redis:6380", "enableTLS": "true", "databaseIndex": "1"}
    assert expected.items() <= trigger["metadata"].items()
    if not secret:
        assert "authenticationRef" not in trigger and not of_kind(manifests, "TriggerAuthentication")
    else:
        targets = one(manifests, "TriggerAuthentication")["spec"]["secretTargetRef"]
        assert {each["parameter"]: (each["name"], each["key"]) for each in targets} == {
            "username": ("keda", "user"),
            "password": ("keda", "word"),
        }


# --- Monitoring -------------------------------------------------------------------------------------------------------

MONITORED = {"monitoring": {"enabled": True, "proberUrl": "blackbox:9115", "labels": {"release": "prometheus"}}}


def test_the_exporter_watches_keys_that_are_written(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    WorkerRegistry(redis, 60).heartbeat(WorkerReport("host-1-0a1b2c", "cpu", {}))
    for slug, model in MODELS.items():
        Records(redis, 60, 60).create(f"of-{slug}", slug, model.params.variants[0], "", {})
    keys = [key.decode() for key in redis.scan_iter()]
    (container,) = one(render(**MONITORED), "Deployment", "exporter")["spec"]["template"]["spec"]["containers"]
    environment = variables(container)
    assert sum(fnmatch(key, environment["REDIS_EXPORTER_COUNT_KEYS"]) for key in keys) == 1
    waiting = [key for key in keys if fnmatch(key, environment["REDIS_EXPORTER_CHECK_KEYS"])]
    assert sorted(redis.zcard(key) for key in waiting) == [1] * len(MODELS)
    rules = one(render(**MONITORED), "PrometheusRule")["spec"]["groups"][0]["rules"]
    used = {key for rule in rules for key in re.findall(r'key=~?"([^"]+)"', rule["expr"])}
    assert {environment["REDIS_EXPORTER_COUNT_KEYS"], "facelight:waiting:.*"} == used


def test_alerts_are_those_of_compose() -> None:
    compose = yaml.safe_load((REPOSITORY / "deploy" / "monitoring" / "alerts.yml").read_text(encoding="utf-8"))
    rules = one(render(**MONITORED), "PrometheusRule")["spec"]["groups"][0]["rules"]
    (expected,) = compose["groups"]
    assert [rule["alert"] for rule in rules] == [rule["alert"] for rule in expected["rules"]]
    assert [rule["annotations"] for rule in rules] == [rule["annotations"] for rule in expected["rules"]]
    unprobed = render(monitoring={"enabled": True})
    assert not of_kind(unprobed, "Probe")
    names = [rule["alert"] for rule in one(unprobed, "PrometheusRule")["spec"]["groups"][0]["rules"]]
    assert "NothingCanBeServed" not in names and len(names) == len(rules) - 1


def test_the_service_monitor_finds_the_exporter() -> None:
    manifests = render(**MONITORED)
    monitor, service = one(manifests, "ServiceMonitor"), one(manifests, "Service", "exporter")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [each["port"] for each in monitor["spec"]["endpoints"]] == [
        each["name"] for each in service["spec"]["ports"]
    ]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_the_dashboard_shows_what_is_scraped() -> None:
    config_map = one(render(**MONITORED), "ConfigMap")
    dashboard = json.loads(config_map["data"]["facelight.json"])
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) >= 4 and all('service="$service"' in each for each in expressions)
    assert not of_kind(render(), "ConfigMap")
