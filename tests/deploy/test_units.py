"""The systemd units and the monitoring's configuration are in step with the programs and the keys in Redis."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from models.catalog import MODELS
from server.settings import GatewaySettings
from tests.deploy.files import REPOSITORY, SERVICES, variables_of
from workers.settings import WorkerSettings

UNITS = sorted((REPOSITORY / "deploy" / "systemd").glob("*.service"))
MONITORING = REPOSITORY / "deploy" / "monitoring"


def service_section(path: Path) -> dict[str, list[str]]:
    """Values of the section [Service], by name."""
    section = path.read_text(encoding="utf-8").partition("[Service]\n")[2].partition("\n[Install]")[0]
    values = defaultdict(list)
    for line in section.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values[name].append(value)
    return values


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_are_hardened_and_restarted(path: Path) -> None:
    unit = service_section(path)
    expected = {
        "User": "facelight",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "Restart": "always",
    }
    assert {name: unit[name][-1] for name in expected} == expected


def test_there_is_a_unit_for_each_process() -> None:
    commands = {service_section(path)["ExecStart"][0].rpartition(" ")[2] for path in UNITS}
    assert commands == {"server", "workers"}
    assert all((REPOSITORY / command / "__main__.py").is_file() for command in commands)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_set_settings_that_exist(path: Path) -> None:
    pairs = [pair for line in service_section(path)["Environment"] for pair in line.split()]
    known = variables_of(GatewaySettings) | variables_of(WorkerSettings)
    assert {pair.partition("=")[0] for pair in pairs if pair.startswith("FACELIGHT_")} <= known


def test_only_the_worker_can_write_compiled_kernels() -> None:
    gateway, worker = (
        service_section(REPOSITORY / "deploy" / "systemd" / f"facelight-{name}.service")
        for name in ("gateway", "worker@")
    )
    (folder,) = worker["CacheDirectory"]
    assert worker["CacheDirectoryMode"] == ["0700"]
    caches = [
        pair for line in worker["Environment"] for pair in line.split() if pair.startswith(("TRITON", "TORCHIND"))
    ]
    assert len(caches) == 2
    assert all(pair.partition("=")[2].startswith(f"/var/cache/{folder}/") for pair in caches)
    assert "CacheDirectory" not in gateway
    assert not [line for line in gateway.get("ReadWritePaths", []) if "/var" in line]


def test_the_worker_may_complete_its_batch() -> None:
    (stop_s,) = service_section(REPOSITORY / "deploy" / "systemd" / "facelight-worker@.service")["TimeoutStopSec"]
    assert int(stop_s) > WorkerSettings.model_fields["job_timeout_s"].default


def test_prometheus_scrapes_services_that_exist() -> None:
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = configuration["scrape_configs"]
    targets = [target for job in jobs for static in job["static_configs"] for target in static["targets"]]
    assert {target.partition(":")[0] for target in targets} <= set(SERVICES)
    assert all((MONITORING / name).is_file() for name in configuration["rule_files"])
    (probe,) = [job["params"] for job in jobs if "params" in job]
    modules = yaml.safe_load((MONITORING / "blackbox.yml").read_text(encoding="utf-8"))["modules"]
    assert set(probe["module"]) <= set(modules)
    assert probe["target"] == ["http://gateway:8000/health/ready"]


def test_the_exporter_watches_keys_that_are_written(redis_url: str) -> None:
    from fnmatch import fnmatch

    from redis import Redis

    from workers.state.records import Records
    from workers.state.registry import WorkerRegistry, WorkerReport

    redis = Redis.from_url(redis_url)
    WorkerRegistry(redis, 60).heartbeat(WorkerReport("host-1-0a1b2c", "cpu", {}))
    records = Records(redis, 60, 60)
    for slug, model in MODELS.items():
        records.create(f"of-{slug}", slug, model.params.variants[0], "", {})
    keys = [key.decode() for key in redis.scan_iter()]
    environment = SERVICES["redis-exporter"]["environment"]
    assert sum(fnmatch(key, environment["REDIS_EXPORTER_COUNT_KEYS"]) for key in keys) == 1
    waiting = [key for key in keys if fnmatch(key, environment["REDIS_EXPORTER_CHECK_KEYS"])]
    assert sorted(redis.llen(key) for key in waiting) == [1] * len(MODELS)
