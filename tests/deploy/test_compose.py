"""compose.yaml is in step with the settings and with .env.example, and gives no service more rights than it needs.

What `docker compose config` and an engine show is not tested here, except where the plugin is installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import GatewaySettings
from tests.deploy.files import COMPOSE, PROJECT, REPOSITORY, SERVICES, variables_of
from workers.settings import CommonSettings, WorkerSettings

EXAMPLE = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
WORKER_HOST = (REPOSITORY / "deploy" / "compose.worker-host.yaml").read_text(encoding="utf-8")
every_service = pytest.mark.parametrize("service", [pytest.param(value, id=name) for name, value in SERVICES.items()])


def interpolated_names(text: str) -> set[str]:
    """Variables that compose interpolates: `${NAME}`, with or without a default."""
    return set(re.findall(r"(?<!\$)\$\{(\w+)", text))


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Target of each volume, and its source with the mode."""
    volumes = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", volume).split(":") for volume in service.get("volumes", [])]
    return {target: ":".join([source, *mode]) for source, target, *mode in volumes}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gateway", GatewaySettings),
        ("gateway-2", GatewaySettings),
        ("worker", WorkerSettings),
        ("worker-cpu", WorkerSettings),
    ],
)
def test_every_setting_can_be_set_and_no_other(name: str, kind: type[CommonSettings]) -> None:
    given = {key for key in SERVICES[name]["environment"] if key.startswith("FACELIGHT_")}
    given |= {secret.upper() for secret in SERVICES[name]["secrets"]}
    fixed = {"FACELIGHT_ALLOW_ANONYMOUS", "FACELIGHT_WEIGHTS_DIR" if name == "worker-cpu" else "FACELIGHT_DEMO"}
    assert given == variables_of(kind) - fixed


def test_the_example_explains_every_variable() -> None:
    assigned = re.findall(r"^(#?)([A-Z0-9_]+)=(\S*)$", EXAMPLE, re.MULTILINE)
    names = [name for _, name, _ in assigned]
    assert len(names) == len(set(names))
    variables = [service.get("environment", {}) for service in SERVICES.values()]
    variables += [service["build"]["args"] for service in SERVICES.values() if "build" in service]
    passed_on = {name for each in variables for name, value in each.items() if value is None}
    expected = interpolated_names(COMPOSE) | interpolated_names(WORKER_HOST) | passed_on | {"COMPOSE_PROFILES"}
    assert set(names) == expected
    active = {name: value for comment, name, value in assigned if not comment}
    assert active == {"COMPOSE_PROFILES": "gpu"}


def test_the_example_shows_the_defaults() -> None:
    fields = {**GatewaySettings.model_fields, **WorkerSettings.model_fields}
    for name, shown in re.findall(r"^#FACELIGHT_([A-Z0-9_]+)=(\S+)$", EXAMPLE, re.MULTILINE):
        default = fields[name.lower()].default
        expected = ",".join(default) if isinstance(default, tuple) else str(default)
        assert shown.lower() == expected.lower(), name


def test_the_secrets_are_written_once_and_read_as_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names under which compose mounts them; nobody else may enter their folder, the containers' users can."""
    script = ["sh", REPOSITORY / "deploy" / "secrets.sh", tmp_path / "secrets"]
    subprocess.run(script, check=True)
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "secrets").iterdir()}
    subprocess.run(script, check=True)
    assert written == {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "secrets").iterdir()}
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o644}
    mounted = yaml.safe_load(COMPOSE)["secrets"]
    assert {name: f"${{SECRETS:-./secrets}}/{name}" for name in written} == {
        name: secret["file"] for name, secret in mounted.items()
    }
    assert {name for service in SERVICES.values() for name in service.get("secrets", [])} == set(mounted)
    monkeypatch.delenv("FACELIGHT_REDIS_URL", raising=False)
    monkeypatch.setitem(GatewaySettings.model_config, "secrets_dir", tmp_path / "secrets")
    settings = GatewaySettings(data_dir=tmp_path)
    assert settings.redis_url == f"redis://:{written['redis_password']}@redis:6379/0"
    assert settings.api_keys == (written["facelight_api_keys"],)
    assert json.loads(written["redis_exporter"]) == {"redis://redis:6379": written["redis_password"]}


def test_no_secret_stands_in_an_environment_or_a_command() -> None:
    """`docker inspect` shows both to whoever may talk to the engine."""
    assert not re.search(r"\$\{?(REDIS_PASSWORD|FACELIGHT_API_KEYS|FACELIGHT_REDIS_URL)", COMPOSE)


@every_service
def test_every_service_is_hardened_and_limited(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["deploy"]["resources"]["limits"].keys() == {"memory", "pids"}
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert service.get("cap_add", []) in ([], ["NET_BIND_SERVICE"])
    assert service["restart"] == ("no" if service.get("profiles") == ["tools"] else "unless-stopped")
    assert not {"privileged", "network_mode", "pid", "ipc", "devices", "userns_mode"} & service.keys()
    assert not [volume for volume in service.get("volumes", []) if "docker.sock" in volume]


@every_service
def test_every_image_is_ours_or_pinned_by_digest(service: dict[str, Any]) -> None:
    ours = rf"facelight-(gateway|worker):\$\{{TAG:-{re.escape(PROJECT['version'])}\}}"
    pinned = r"[\w./-]+:v?\d[\w.-]*@sha256:[0-9a-f]{64}"
    assert re.fullmatch(rf"{ours}|{pinned}|\$\{{\w+:-{pinned}\}}", service["image"])


def test_weights_and_compiled_kernels_are_written_by_one_service_each() -> None:
    assert mounts(SERVICES["worker"])["/weights"] == "weights:ro"
    assert mounts(SERVICES["weights"])["/weights"] == "weights"
    assert [name for name, service in SERVICES.items() if "compiled" in mounts(service).values()] == ["worker"]


@pytest.mark.parametrize("name", ["worker", "worker-cpu"])
def test_a_worker_may_complete_its_batch_before_it_is_killed(name: str) -> None:
    grace = re.fullmatch(r"\$\{WORKER_STOP_GRACE:-(\d+)m\}", SERVICES[name]["stop_grace_period"])
    assert grace and int(grace[1]) * 60 > WorkerSettings.model_fields["job_timeout_s"].default


def test_files_that_an_operator_adds_are_ignored_by_git(tmp_path: Path) -> None:
    """`.env` holds secrets, `compose.override.yaml` belongs to one host."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    for folder in ("secrets", "certificates"):
        (tmp_path / folder).mkdir()
    for name in (
        ".env",
        "compose.override.yaml",
        "secrets/key",
        "certificates/tls.key",
        ".env.example",
        "compose.yaml",
    ):
        (tmp_path / name).touch()
    shutil.copy(REPOSITORY / ".gitignore", tmp_path)
    status = ["git", "status", "--porcelain", "--untracked-files=all"]
    seen = subprocess.run(status, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(seen.stdout.splitlines()) == {"?? .env.example", "?? .gitignore", "?? compose.yaml"}


def test_the_compose_plugin_resolves_every_file(tmp_path: Path) -> None:
    """No engine is needed for that."""
    if subprocess.run(["sh", "-c", "docker compose version"], capture_output=True).returncode:
        pytest.skip("no compose plugin on this machine")
    (tmp_path / "env").write_text(EXAMPLE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FACELIGHT_", "COMPOSE_"))}

    def services(*files: str) -> dict[str, Any]:
        options = ["--project-directory", ".", "--env-file", tmp_path / "env"]
        command = ["docker", "compose", *options, *(word for file in files for word in ("-f", file)), "config"]
        result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return dict(yaml.safe_load(result.stdout)["services"])

    found = services("compose.yaml", "deploy/compose.gpus.yaml")
    workers = [found[name] for name in sorted(found) if name.startswith("worker")]
    devices = [worker["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for worker in workers]
    assert devices == [["0"], ["1"], ["2"], ["3"]]
    assert list(services("deploy/compose.worker-host.yaml")) == ["worker"]
