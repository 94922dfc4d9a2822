"""The systemd units are in step with the programs."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from server.settings import GatewaySettings
from tests.deploy.files import REPOSITORY, variables_of
from workers.settings import WorkerSettings

UNITS = sorted((REPOSITORY / "deploy" / "systemd").glob("*.service"))


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
