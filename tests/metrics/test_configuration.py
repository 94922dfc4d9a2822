"""What deploy/monitoring tells Prometheus and Grafana: in step with what is told by gateways and workers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.metrics.calls import CallMetrics
from server.metrics.queue import QueueMetrics
from server.settings import GatewaySettings
from tests.deploy.files import COMPOSE, REPOSITORY, SERVICES
from tests.metrics.tools import promtool
from tests.metrics.watching import BOARD, MONITORING
from workers.metrics.endpoint import new_registry
from workers.metrics.worker import GpuMemory, WorkerMetrics

RULES: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))["groups"][0][
    "rules"
]
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
FOREIGN = {"up", "process_resident_memory_bytes"}
"""Names that Prometheus itself or the client library gives; those of Redis' exporter begin with `redis_`."""


def expressions() -> Iterator[tuple[str, str]]:
    """Whose it is, and the expression: of every alert and every panel."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, redis_socket: Path) -> dict[str, set[str]]:
    """Labels of each series by its name, from the code that tells it; `quantile` and `le` are not among them."""
    settings = GatewaySettings(redis_url=f"unix://{redis_socket}", data_dir=tmp_path_factory.mktemp("data"))
    (settings.data_dir / "store").mkdir()
    gateway, worker = new_registry(), new_registry()
    QueueMetrics(gateway, settings)
    calls = CallMetrics(gateway)
    calls.ended("/v2/ic-light", "POST", 200, 0.1, None)
    counted = WorkerMetrics(worker, ["ic-light"], float)
    GpuMemory(worker, lambda: "cpu")
    counted._stages.labels("ic-light", "denoise").observe(1)
    counted._requests.labels("ic-light", "completed").observe(1)
    found: dict[str, set[str]] = {"facelight_gpu_memory_bytes": {"kind"}, "facelight_build_info": {"version"}}
    for registry in (gateway, worker):
        for family in registry.collect():
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    promtool("check", "config", MONITORING / "prometheus.yml")
    promtool("check", "rules", MONITORING / "alerts.yml")


def test_alerts_fire_when_they_should() -> None:
    promtool("test", "rules", MONITORING / "alerts_test.yml")


def test_every_alert_is_tried() -> None:
    tried = yaml.safe_load((MONITORING / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in tried for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in RULES}


def test_expressions_name_what_is_told(told: dict[str, set[str]]) -> None:
    for whose, expression in expressions():
        names = re.findall(r"\b((?:facelight|redis|process)_\w+|up)\{([^}]*)\}", expression)
        assert names, f"{whose}: every name has a selector"
        assert len(names) == len(
            re.findall(r"(?:facelight|redis|process)_\w+|\bup\b", re.sub(r"\{[^}]*\}", "", expression))
        )
        for name, selector in names:
            assert name in told or name in FOREIGN or name.startswith("redis_"), f"{whose}: nobody tells {name}"
            assert 'job="facelight-' in selector, whose
            assert set(re.findall(r"(\w+)[=!]", selector)) - {"job"} <= told.get(name, set()), f"{whose}: {selector}"


def test_what_every_gateway_tells_is_never_summed_over_them(told: dict[str, set[str]]) -> None:
    """But for the count of gateways, and what each counts by itself."""
    own = re.compile(r"facelight_(http|refused|fetches)|facelight_redis_up|facelight_store|facelight_gpu_memory")
    for whose, expression in expressions():
        for selected in re.finditer(r'(facelight_\w+)\{job="facelight-gateway"', expression):
            if not own.match(selected[1]):
                before = expression[: selected.start()].replace("increase(", "").replace("rate(", "").rstrip("( \n")
                before = before.replace("max_over_time", "").rstrip("( \n")
                assert re.search(r"\bmax( by \([\w, ]+\))?$", before), f"{whose}: {selected[1]}"


def test_every_metric_and_every_alert_is_in_the_operators_guide(told: dict[str, set[str]]) -> None:
    guide = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in told}
    listed = set(re.findall(r"^\| `(facelight_\w+)` ", guide, re.MULTILINE))
    assert listed == {name for name in families if name.startswith("facelight_")}
    assert set(re.findall(r"^\| \*\*(\w+)\*\* ", guide, re.MULTILINE)) == {rule["alert"] for rule in RULES}


def test_prometheus_looks_for_services_of_compose() -> None:
    jobs = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    gpus = yaml.safe_load((REPOSITORY / "deploy" / "compose.gpus.yaml").read_text().replace("!override", ""))[
        "services"
    ]
    port = int(SERVICES["gateway"]["environment"]["FACELIGHT_METRICS_PORT"])
    known = set(SERVICES) | set(gpus)
    for job in jobs:
        for found in job.get("dns_sd_configs", []):
            assert set(found["names"]) <= known and found["port"] == port
        for static in job.get("static_configs", []):
            assert {target.partition(":")[0] for target in static["targets"]} <= known
    by_name = {job["job_name"]: set(job["dns_sd_configs"][0]["names"]) for job in jobs if "dns_sd_configs" in job}
    environments = {name: service.get("environment", {}) for name, service in SERVICES.items()}
    processes = {name for name, environment in environments.items() if "FACELIGHT_METRICS_PORT" in environment}
    assert by_name["facelight-gateway"] | by_name["facelight-worker"] == processes | set(gpus)
    assert not re.search(r"ports:.*9464", COMPOSE), "metrics are published nowhere"


def test_grafana_finds_the_board_and_its_source() -> None:
    provisioned = MONITORING / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioned / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioned / "dashboards" / "facelight.yaml").read_text())["providers"]
    mounted = dict(volume.split(":")[:2][::-1] for volume in SERVICES["grafana"]["volumes"])
    assert mounted["/etc/grafana/provisioning"] == "./deploy/monitoring/grafana/provisioning"
    (folder,) = [host for target, host in mounted.items() if target == provider["options"]["path"]]
    assert (REPOSITORY / folder / "facelight.json").is_file()


def test_panels_have_names_of_their_own_and_one_source() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${source}"}
