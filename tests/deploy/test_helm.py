"""The chart gives pods no more rights than compose.yaml gives containers, and what it renders is valid."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import GatewaySettings
from tests.deploy.chart import (
    CHART,
    EXAMPLES,
    Manifest,
    containers,
    helm,
    of_kind,
    one,
    pods,
    refusal,
    render,
    render_text,
    tools,
    variables,
)
from tests.deploy.files import PROJECT, REPOSITORY, SERVICES
from workers.settings import WorkerSettings

pytestmark = pytest.mark.slow  # helm and schemas are fetched from public registries

EVERYTHING = {
    "gateway": {"autoscaling": {"enabled": True}, "ingress": {"enabled": True, "host": "images.example.com"}},
    "monitoring": {"enabled": True},
    "workers": {"gpu": {"autoscaling": {"enabled": True}}},
    "weights": {"fetch": {"mirrorClaim": "mirror"}},
}
CUSTOM_GROUPS = ("keda.sh/", "monitoring.coreos.com/")
CUSTOM_RESOURCES = (REPOSITORY / "tests" / "deploy" / "kubernetes" / "custom_resources.mjs").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", [None, *EXAMPLES], ids=lambda example: example.stem if example else "defaults")
def test_examples_pass_lint(example: Path | None) -> None:
    linted = helm("lint", "--strict", CHART, *(("--values", example) if example else ()))
    assert linted.returncode == 0, linted.stdout


@pytest.fixture(scope="module")
def all_manifests() -> str:
    """What is rendered of the defaults, of each example, and of everything at once."""
    return "\n---\n".join([render_text(), *map(render_text, EXAMPLES), render_text(values=EVERYTHING)])


def test_kubernetes_knows_all_that_is_rendered(all_manifests: str, tmp_path: Path) -> None:
    """By its own schemas, strictly."""
    (tmp_path / "manifests.yaml").write_text(all_manifests)
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "--no-warn", tmp_path / "manifests.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(tools() / "python")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_custom_resources_fit_the_schemas_of_their_definitions(all_manifests: str) -> None:
    resources = [each for each in yaml.safe_load_all(all_manifests) if each]
    custom = [each for each in resources if each["apiVersion"].startswith(CUSTOM_GROUPS)]
    kinds = {"ScaledObject", "ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert {each["kind"] for each in custom} == kinds
    command = ["node", "--input-type=module", "--eval", CUSTOM_RESOURCES]
    checked = subprocess.run(command, cwd=tools(), input=json.dumps(custom), capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr


@pytest.mark.parametrize("release", ["facelight", "other"])
def test_every_pod_is_hardened(release: str) -> None:
    found = dict(pods(render(release=release, **EVERYTHING)))
    assert len(found) == 5
    for name, pod in found.items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        # Those of a Service called facelight would set FACELIGHT_PORT to an address.
        assert spec["enableServiceLinks"] is False, name
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] > 0 and security["runAsGroup"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all("hostPath" not in volume for volume in spec.get("volumes", []))
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            names = [entry["name"] for entry in container.get("env", [])]
            assert len(names) == len(set(names)), f"{name}: a variable is set twice"


def test_users_are_those_of_compose() -> None:
    users = {name: pod["spec"]["securityContext"] for name, pod in pods(render(monitoring={"enabled": True}))}
    services = {
        "gateway": "gateway",
        "worker": "worker",
        "redis": "redis",
        "weights": "weights",
        "exporter": "redis-exporter",
    }
    for name, security in users.items():
        service = services[name.split("-")[1]]
        assert SERVICES[service]["user"] == f"{security['runAsUser']}:{security['runAsGroup']}"


def test_the_chart_holds_no_secret_and_no_service_account_has_one() -> None:
    manifests = render(**EVERYTHING)
    assert not of_kind(manifests, "Secret")
    assert one(manifests, "ServiceAccount")["automountServiceAccountToken"] is False
    named = {name for name, pod in pods(manifests) if "serviceAccountName" in pod["spec"]}
    assert named == {"facelight-gateway", "facelight-worker-gpu"}


def test_images_and_versions_are_those_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (PROJECT["version"],) * 2
    images = {each["image"] for _, pod in pods(render(**EVERYTHING)) for each in containers(pod)}
    ours = {f"facelight-{name}:{PROJECT['version']}" for name in ("gateway", "worker")}
    assert images - ours == {SERVICES["redis"]["image"].split(":-")[1][:-1], SERVICES["redis-exporter"]["image"]}


def test_the_own_redis_is_configured_as_that_of_compose() -> None:
    (container,) = one(render(), "StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert container["command"][:2] == ["sh", "-c"]
    of_compose = SERVICES["redis"]["command"][2].replace("$$(cat /run/secrets/redis_password)", "$REDISCLI_AUTH")
    assert container["command"][2].split() == of_compose.split(), "but for where the password comes from"


# --- Networks ---------------------------------------------------------------------------------------------------------


def _labels(part: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "facelight",
        "app.kubernetes.io/instance": "facelight",
        "app.kubernetes.io/component": part,
    }


PARTS = {"gateway": "gateway", "worker": "worker", "weights": "weights", "exporter": "redis-exporter", "redis": "redis"}
"""The service of compose.yaml by the component of the chart."""


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    return selector["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("part", PARTS)
def test_network_policies_are_the_networks_of_compose(part: str) -> None:
    manifests = render(**EVERYTHING)
    pod = next(pod for _, pod in pods(manifests) if pod["metadata"]["labels"]["app.kubernetes.io/component"] == part)
    labels = pod["metadata"]["labels"]
    policies = [each["spec"] for each in of_kind(manifests, "NetworkPolicy").values()]
    (policy,) = [each for each in policies if _selects(each["podSelector"], labels)]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    networks = SERVICES[PARTS[part]]["networks"]
    # frontend: a way out. An empty rule allows everything.
    assert ({} in policy["egress"]) == ("frontend" in networks)
    # backend: Redis, and nothing else but name resolution.
    (guarded,) = [each for each in policies if _selects(each["podSelector"], _labels("redis"))]
    (rule,) = guarded["ingress"]
    admitted = [peer for peer in rule["from"] if "podSelector" in peer and _selects(peer["podSelector"], labels)]
    assert bool(admitted) == ("backend" in networks and part != "redis")
    if networks == ["backend"] and part != "redis":
        ports = sorted((port["port"], port["protocol"]) for each in policy["egress"] for port in each["ports"])
        assert ports == [(53, "TCP"), (53, "UDP"), (6379, "TCP")]
        (to_redis,) = [each["to"] for each in policy["egress"] if each["ports"][0]["port"] == 6379]
        assert to_redis == [{"podSelector": {"matchLabels": _labels("redis")}}]
    if part == "redis":
        assert policy["egress"] == []
    if part == "weights":
        assert policy["ingress"] == []
    if part == "worker":
        (metrics,) = policy["ingress"]
        assert [port["port"] for port in metrics["ports"]] == ["metrics"]


@pytest.mark.parametrize("part", ["gateway", "worker"])
def test_metrics_are_read_by_those_who_need_them(part: str) -> None:
    """By nobody, by Prometheus, or by KEDA, which asks gateways alone."""

    def readers(**values: Any) -> set[str]:
        rules = one(render(**values), "NetworkPolicy", part)["spec"]["ingress"]
        reading = [rule for rule in rules if {"port": "metrics", "protocol": "TCP"} in rule["ports"]]
        return {
            peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            for rule in reading
            for peer in rule["from"]
        }

    scaled = {"workers": {"gpu": {"autoscaling": {"enabled": True}}}}
    keda = {"keda"} if part == "gateway" else set()
    assert readers() == set()
    assert readers(monitoring={"enabled": True}) == {"monitoring"}
    assert readers(**scaled) == keda
    assert readers(monitoring={"enabled": True}, **scaled) == {"monitoring", *keda}


def test_callers_of_the_gateway_can_be_limited() -> None:
    proxy = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]
    (everyone,) = one(render(), "NetworkPolicy", "gateway")["spec"]["ingress"]
    (limited,) = one(render(networkPolicy={"gatewayFrom": proxy}), "NetworkPolicy", "gateway")["spec"]["ingress"]
    assert "from" not in everyone and limited["from"] == proxy


# --- The gateway ------------------------------------------------------------------------------------------------------


def test_the_gateway_drains_before_it_is_killed() -> None:
    settings = {"FACELIGHT_DRAIN_DELAY_S": 20, "FACELIGHT_DRAIN_TIMEOUT_S": 600}
    for given in ({}, settings, {"FACELIGHT_DRAIN_DELAY_S": None, "FACELIGHT_DRAIN_TIMEOUT_S": None}):
        pod = one(render(gateway={"settings": given}), "Deployment", "gateway")["spec"]["template"]["spec"]
        found = variables(pod["containers"][0])
        delay, timeout = (
            float(found.get(f"FACELIGHT_{name.upper()}", GatewaySettings.model_fields[name].default))
            for name in ("drain_delay_s", "drain_timeout_s")
        )
        assert pod["terminationGracePeriodSeconds"] > delay + timeout


def test_requests_are_accepted_while_no_worker_serves() -> None:
    """Else nothing could ever wait for the first one."""
    (container,) = one(render(), "Deployment", "gateway")["spec"]["template"]["spec"]["containers"]
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert paths == {"/health/live"}


def test_an_upgrade_of_gateways_leaves_all_replicas_serving() -> None:
    manifests = render()
    assert one(manifests, "Deployment", "gateway")["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 1,
        "maxUnavailable": 0,
    }
    budget = one(manifests, "PodDisruptionBudget", "gateway")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == one(manifests, "Deployment", "gateway")["spec"]["selector"]


def test_who_is_scaled_has_no_fixed_number() -> None:
    manifests = render(**EVERYTHING)
    for part, kind in (("gateway", "HorizontalPodAutoscaler"), ("worker-gpu", "ScaledObject")):
        assert "replicas" not in one(manifests, "Deployment", part)["spec"]
        target = one(manifests, kind)["spec"]["scaleTargetRef"]
        assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"facelight-{part}"}
    assert one(render(), "Deployment", "gateway")["spec"]["replicas"] == 2


# --- Workers ----------------------------------------------------------------------------------------------------------


def worker(part: str = "worker-gpu", *files: Path, **values: Any) -> Manifest:
    """A class of workers: its pods."""
    pod: Manifest = one(render(*files, **values), "Deployment", part)["spec"]["template"]["spec"]
    return pod


def test_a_worker_may_complete_its_batch_before_it_is_killed() -> None:
    default = WorkerSettings.model_fields["job_timeout_s"].default
    assert worker()["terminationGracePeriodSeconds"] > default + 10
    longer = worker(workerDefaults={"settings": {"FACELIGHT_JOB_TIMEOUT_S": 7200}})
    assert longer["terminationGracePeriodSeconds"] > 7200 + 10


def test_each_worker_has_one_gpu_and_those_without_see_none() -> None:
    (container,) = worker()["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert variables(container)["FACELIGHT_DEVICE"] == "cuda"
    assert "NVIDIA_VISIBLE_DEVICES" not in variables(container), "the device plugin sets it"
    pod = worker("worker-cpu", workers={"cpu": {"gpu": {"count": 0}}, "gpu": None})
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    assert variables(pod["containers"][0])["FACELIGHT_DEVICE"] == "cpu"
    for container in (*containers({"spec": pod}), worker()["initContainers"][0]):
        assert variables(container)["NVIDIA_VISIBLE_DEVICES"] == "void", "the image asks for all GPUs"
    mig = worker(workerDefaults={"gpu": {"resource": "nvidia.com/mig-3g.40gb"}})
    assert mig["containers"][0]["resources"]["limits"]["nvidia.com/mig-3g.40gb"] == 1


def test_classes_differ_and_share_the_defaults() -> None:
    (example,) = [file for file in EXAMPLES if file.stem == "two-classes"]
    portraits, scenes = (worker(f"worker-{name}", example) for name in ("portraits", "scenes"))
    found = [variables(pod["containers"][0]) for pod in (portraits, scenes)]
    assert [each["FACELIGHT_MODELS"] for each in found] == ["pulid-lightning", "ic-light"]
    assert [each.get("FACELIGHT_FP8") for each in found] == ["true", None]
    assert portraits["nodeSelector"] != scenes["nodeSelector"]
    assert "gpu" not in "".join(of_kind(render(example), "Deployment"))
    named = worker(workers={"gpu": {"runtimeClassName": "nvidia", "priorityClassName": "high"}})
    assert (named["runtimeClassName"], named["priorityClassName"]) == ("nvidia", "high")


def _mounts(pod: Manifest, container: Manifest) -> dict[str, tuple[str, bool]]:
    """Claim behind each mounted path, and whether it can be written."""
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    return {
        mount["mountPath"]: (claims[mount["name"]], not mount.get("readOnly", False))
        for mount in container["volumeMounts"]
        if mount["name"] in claims
    }


def test_weights_and_compiled_kernels_are_written_by_one_kind_of_pod_each() -> None:
    found = {
        (name, container["name"]): _mounts(pod["spec"], container)
        for name, pod in pods(render(workers={"a100": {}, "gpu": {}}))
        for container in containers(pod)
        if pod["spec"].get("volumes")
    }
    writers: dict[str, set[str]] = {}
    for (name, _), mounts in found.items():
        for claim, writable in mounts.values():
            if writable:
                writers.setdefault(claim, set()).add(re.sub(r"-[0-9a-f]{8}$", "", name))
    assert writers["facelight-weights"] == {"facelight-weights"}
    for name in ("a100", "gpu"):
        assert writers[f"facelight-worker-{name}-kernels"] == {f"facelight-worker-{name}"}
    assert found["facelight-worker-gpu", "worker"]["/weights"] == ("facelight-weights", False)
    assert found["facelight-worker-gpu", "worker"]["/cache"] == ("facelight-worker-gpu-kernels", True)


def test_volumes_that_are_costly_to_fill_outlive_the_release() -> None:
    claims = of_kind(render(), "PersistentVolumeClaim")
    assert claims.keys() == {"facelight-data", "facelight-weights", "facelight-worker-gpu-kernels"}
    assert {each["metadata"]["annotations"]["helm.sh/resource-policy"] for each in claims.values()} == {"keep"}


def test_demo_workers_need_no_weights() -> None:
    pod = worker(workers={"gpu": {"settings": {"FACELIGHT_DEMO": True}}})
    assert "initContainers" not in pod
    assert "FACELIGHT_WEIGHTS_DIR" not in variables(pod["containers"][0])
    assert "weights" not in {volume["name"] for volume in pod["volumes"]}


# --- The store and Redis ----------------------------------------------------------------------------------------------

BUCKET = {
    "type": "s3",
    "s3": {"location": "s3://pictures/a", "endpointUrl": "https://s3.example.com", "secret": {"name": "keys"}},
}
OUTSIDE = {"workerTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}


def test_pictures_may_be_in_a_bucket() -> None:
    manifests = render(store=BUCKET, networkPolicy=OUTSIDE)
    assert "facelight-data" not in of_kind(manifests, "PersistentVolumeClaim")
    for part in ("gateway", "worker"):
        pod = one(manifests, "Deployment", part)["spec"]["template"]["spec"]
        found = variables(pod["containers"][0])
        assert found["FACELIGHT_STORE"] == "s3://pictures/a"
        assert found["AWS_ENDPOINT_URL"] == "https://s3.example.com"
        assert found["AWS_SECRET_ACCESS_KEY"] == ("keys", "AWS_SECRET_ACCESS_KEY")
        assert next(volume for volume in pod["volumes"] if volume["name"] == "data").keys() == {"name", "emptyDir"}
    assert {"to": OUTSIDE["workerTo"]} in one(manifests, "NetworkPolicy", "worker")["spec"]["egress"]


def test_a_redis_of_ones_own_takes_the_place_of_the_charts() -> None:
    manifests = render(redis={"urlSecret": {"name": "redis", "key": "url"}}, networkPolicy=OUTSIDE)
    assert not of_kind(manifests, "StatefulSet")
    assert "facelight-redis" not in of_kind(manifests, "NetworkPolicy")
    for part in ("gateway", "worker"):
        (container,) = one(manifests, "Deployment", part)["spec"]["template"]["spec"]["containers"]
        assert variables(container)["FACELIGHT_REDIS_URL"] == ("redis", "url")


def test_the_password_of_the_own_redis_stands_before_the_url_that_holds_it() -> None:
    """Kubernetes replaces `$(NAME)` by variables that were listed before."""
    (container,) = one(render(), "Deployment", "gateway")["spec"]["template"]["spec"]["containers"]
    assert variables(container)["FACELIGHT_REDIS_URL"] == "redis://:$(REDIS_PASSWORD)@facelight-redis:6379/0"
    names = [entry["name"] for entry in container["env"]]
    assert names.index("REDIS_PASSWORD") < names.index("FACELIGHT_REDIS_URL")
    assert "facelight-redis" in of_kind(render(), "Service")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gateway": {"settings": {"FACELIGHT_MODELS": "ic-light"}}}, "invalid propertyName 'FACELIGHT_MODELS'"),
        ({"workers": {"gpu": {"settings": {"FACELIGHT_TYPO": 1}}}}, "invalid propertyName 'FACELIGHT_TYPO'"),
        ({"gateway": {"replica": 3}}, "additional properties 'replica' not allowed"),
        ({"workers": {"gpu": {"gpu": {"count": 2}}}}, "maximum: got 2, want 1"),
        ({"store": {"type": "s3"}}, "store.s3.location is needed"),
        ({"store": BUCKET}, "networkPolicy.workerTo is empty"),
        ({"redis": {"urlSecret": {"name": "redis"}}}, "networkPolicy.workerTo is empty"),
        ({"workers": {"gpu": {"coldStartSeconds": 3600}}}, "maximum: got 3,600, want 3,300"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_work_is_refused_in_words(values: Manifest, words: str) -> None:
    assert words in refusal(**values)
