"""compose.yaml: valid by the specification, hardened line by line, and in step with the settings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from server.settings import GatewaySettings
from tests.deploy.composition import (
    COMPOSE,
    REPOSITORY,
    SECRETS,
    compose_command,
    interpolated,
    interpolated_names,
    passed_names,
    resolved,
)
from tests.deploy.dockerfile import environment, parse
from workers.settings import CommonSettings, WorkerSettings

TEXT = COMPOSE.read_text(encoding="utf-8")
DOCUMENT = resolved(TEXT)
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
CACHES = ("HOME", "XDG_CACHE_HOME", "HF_HOME", "MPLCONFIGDIR")
"""Variables of an image, besides `*_CACHE_DIR`, that name folders in which libraries keep what they like."""
OURS = ("gateway", "worker", "worker-cpu", "weights")
MORE_GPUS = REPOSITORY / "deploy" / "compose.gpus.yaml"
WORKER_HOST = REPOSITORY / "deploy" / "compose.worker-host.yaml"
every_service = pytest.mark.parametrize("service", [pytest.param(value, id=name) for name, value in SERVICES.items()])


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Where each volume is mounted: target to `source` or `source:ro`."""
    parts = [volume.split(":") for volume in service.get("volumes", [])]
    return {target: ":".join([source, *mode]) for source, target, *mode in parts}


def environment_names(kind: type[CommonSettings]) -> set[str]:
    return {f"FACELIGHT_{name.upper()}" for name in kind.model_fields}


def validated(text: str) -> None:
    """Raise `ValueError` if the specification does not allow the document."""
    # The validator knows no image with tag and digest both, which engines take since 2015.
    tagged = re.sub(r"(image: \S+:\S+)@sha256:[0-9a-f]{64}", r"\1", text)
    PyCompose.from_yaml(yaml.safe_dump(resolved(tagged))).validate()


def test_the_file_is_valid() -> None:
    validated(TEXT)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("restart: always", "restart: sometimes"),
        ("read_only: true", "readonly: true"),
        ("networks: [backend]", "networks: [elsewhere]"),
        ("condition: service_healthy", "condition: service_happy"),
        ("stop_grace_period: 30s", "stop_grace_period: soon"),
    ],
)
def test_the_validator_finds_mistakes(right: str, wrong: str) -> None:
    assert right in TEXT
    with pytest.raises(ValueError, match=r".+"):
        validated(TEXT.replace(right, wrong))


@pytest.mark.parametrize("secret", SECRETS)
def test_nothing_starts_without_the_secrets(secret: str) -> None:
    with pytest.raises(KeyError, match=f"set {secret} in .env"):
        interpolated(TEXT, {name: value for name, value in SECRETS.items() if name != secret})


def test_every_volume_is_declared_and_used() -> None:
    used = {source.partition(":")[0] for service in SERVICES.values() for source in mounts(service).values()}
    assert {source for source in used if "/" not in source} == set(DOCUMENT["volumes"])
    assert all((REPOSITORY / source).is_dir() for source in used if "/" in source)


@every_service
def test_every_service_is_hardened(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["deploy"]["resources"]["limits"].keys() == {"memory", "pids"}
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    forbidden = {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices", "userns_mode"}
    assert not forbidden & service.keys()
    assert not [volume for volume in service.get("volumes", []) if "docker.sock" in volume]


@every_service
def test_every_image_is_ours_or_pinned(service: dict[str, Any]) -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    ours = rf"facelight-(gateway|worker):{re.escape(version)}"
    assert re.fullmatch(rf"{ours}|[\w./-]+:v?\d[\w.-]*@sha256:[0-9a-f]{{64}}", service["image"])


def test_our_images_are_stages_of_the_dockerfile() -> None:
    stages = parse(REPOSITORY / "Dockerfile")
    for name in ("gateway", "worker", "worker-cpu"):
        target = SERVICES[name]["build"]["target"]
        assert target in stages
        assert SERVICES[name]["image"].startswith(f"facelight-{target}:")
        assert SERVICES[name]["user"] == stages[target].all("USER")[0].rest


def test_what_serves_is_restarted_and_tools_are_not() -> None:
    assert {name for name, service in SERVICES.items() if service["restart"] != "always"} == {"weights"}


def test_only_the_gateway_and_prometheus_are_reachable() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"gateway": ["127.0.0.1:8000:8000"], "prometheus": ["127.0.0.1:9090:9090"]}


def test_redis_and_workers_have_no_way_out() -> None:
    assert DOCUMENT["networks"]["backend"]["internal"] is True
    for name in ("redis", "worker", "worker-cpu", "redis-exporter", "blackbox"):
        assert SERVICES[name]["networks"] == ["backend"]


def test_redis_keeps_what_it_accepted() -> None:
    redis = SERVICES["redis"]
    script = redis["command"][-1]
    for line in (
        "appendonly yes",
        "appendfsync everysec",
        "maxmemory-policy noeviction",
        "requirepass $$REDISCLI_AUTH",
    ):
        assert line in script.splitlines()
    assert re.search(r"^maxmemory \d+mb$", script, re.MULTILINE)
    assert mounts(redis)["/data"] == "redis"
    assert redis["healthcheck"]["test"][0] == "CMD"
    assert SECRETS["REDIS_PASSWORD"] not in str(redis["command"])


@pytest.mark.parametrize("name", ["gateway", "worker", "worker-cpu", "redis-exporter"])
def test_who_needs_redis_waits_until_it_is_healthy(name: str) -> None:
    assert SERVICES[name]["depends_on"]["redis"] == {"condition": "service_healthy"}


def test_a_worker_may_finish_its_job_before_it_is_killed() -> None:
    job_s = WorkerSettings.model_fields["job_timeout_s"].default
    for name in ("worker", "worker-cpu"):
        grace = re.fullmatch(r"(\d+)m", SERVICES[name]["stop_grace_period"])
        assert grace
        assert int(grace[1]) * 60 > job_s


def test_workers_cannot_write_weights() -> None:
    assert mounts(SERVICES["worker"])["/weights"] == "weights:ro"
    assert "/weights" not in mounts(SERVICES["worker-cpu"])
    assert mounts(SERVICES["weights"])["/weights"] == "weights"


def test_only_the_worker_that_compiles_sees_compiled_kernels() -> None:
    assert mounts(SERVICES["worker"])["/cache"] == "compiled"
    assert [name for name, service in SERVICES.items() if "compiled" in mounts(service).values()] == ["worker"]
    folders = [
        parse(REPOSITORY / "Dockerfile")["worker-base"].all("ENV")[0].pairs()[f"{name}_CACHE_DIR"]
        for name in ("TRITON", "TORCHINDUCTOR")
    ]
    assert all(folder.startswith("/cache/") for folder in folders)


def writable_places(service: dict[str, Any], user: int) -> set[str]:
    """Where a service whose tree is read-only can write as that user: its volumes, and the parts of its memory."""
    places = {target for target, source in mounts(service).items() if not source.endswith(":ro")}
    for place, _, options in (mount.partition(":") for mount in service.get("tmpfs", [])):
        given = dict(option.partition("=")[::2] for option in options.split(","))
        mode = int(given.get("mode", "755"), 8)
        if mode & 0o002 or (mode & 0o200 and int(given.get("uid", "0")) == user):
            places.add(place)
    return places


@pytest.mark.parametrize("name", [name for name, value in SERVICES.items() if value["image"].startswith("facelight-")])
def test_every_service_can_write_wherever_its_image_keeps_caches(name: str) -> None:
    """Libraries make these folders when they are loaded, and end the process where they cannot."""
    service = SERVICES[name]
    stage = re.fullmatch(r"facelight-(\w+):.+", service["image"])
    assert stage
    variables = environment(parse(REPOSITORY / "Dockerfile"), stage[1])
    caches = {key: value for key, value in variables.items() if key.endswith("_CACHE_DIR") or key in CACHES}
    assert len(caches) >= (7 if stage[1] == "worker" else 5)
    places = writable_places(service, int(service["user"].partition(":")[0]))
    for key, folder in caches.items():
        assert any(folder == place or folder.startswith(f"{place}/") for place in places), f"{key}={folder}"


def test_what_counts_as_writable() -> None:
    tmpfs = ["/tmp:size=1m,mode=1777", "/a:mode=0700,uid=10001", "/b:mode=0700", "/c:mode=0700,uid=1", "/d"]
    service = {"volumes": ["data:/data", "weights:/weights:ro"], "tmpfs": tmpfs}
    assert writable_places(service, 10001) == {"/data", "/tmp", "/a"}


def test_what_an_operator_writes_into_the_checkout_is_no_part_of_it(tmp_path: Path) -> None:
    """`.env` holds secrets, `compose.override.yaml` belongs to one host."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    for name in (".env", "compose.override.yaml", ".env.example", "compose.yaml"):
        (tmp_path / name).touch()
    shutil.copy(REPOSITORY / ".gitignore", tmp_path)
    status = ["git", "status", "--porcelain", "--untracked-files=all"]
    seen = subprocess.run(status, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(seen.stdout.splitlines()) == {"?? .env.example", "?? .gitignore", "?? compose.yaml"}


def test_gateway_and_workers_share_the_data_folder() -> None:
    for name in OURS:
        assert mounts(SERVICES[name])["/data"] == "data"
        assert SERVICES[name]["environment"]["FACELIGHT_DATA_DIR"] == "/data"


def test_one_gpu_is_reserved_and_the_demo_needs_none() -> None:
    (device,) = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}
    assert "reservations" not in SERVICES["worker-cpu"]["deploy"]["resources"]
    assert SERVICES["worker-cpu"]["environment"]["FACELIGHT_DEVICE"] == "cpu"


def test_profiles() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert profiles == {
        "redis": [],
        "gateway": [],
        "worker": ["gpu"],
        "worker-cpu": ["cpu-demo"],
        "weights": ["tools"],
        "redis-exporter": ["monitoring"],
        "blackbox": ["monitoring"],
        "prometheus": ["monitoring"],
    }


@pytest.mark.parametrize(
    ("name", "kind"), [("gateway", GatewaySettings), ("worker", WorkerSettings), ("worker-cpu", WorkerSettings)]
)
def test_every_setting_can_be_set_and_no_other(name: str, kind: type[CommonSettings]) -> None:
    given = {key for key in SERVICES[name]["environment"] if key.startswith("FACELIGHT_")}
    optional = {"FACELIGHT_ALLOW_ANONYMOUS", "FACELIGHT_WEIGHTS_DIR" if name == "worker-cpu" else "FACELIGHT_DEMO"}
    assert given == environment_names(kind) - optional


def test_the_example_explains_every_variable_and_sets_no_secret() -> None:
    lines = (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines()
    assigned = [match for line in lines if (match := re.fullmatch(r"(#?)([A-Z0-9_]+)=(\S*)", line))]
    names = [match[2] for match in assigned]
    assert sorted(names) == sorted(set(names))
    worker_host = interpolated_names(WORKER_HOST.read_text(encoding="utf-8"))
    assert set(names) == interpolated_names(TEXT) | worker_host | passed_names(SERVICES) | {"COMPOSE_PROFILES"}
    assert {match[2]: match[3] for match in assigned if not match[1]} == {
        "REDIS_PASSWORD": "",
        "FACELIGHT_API_KEYS": "",
        "COMPOSE_PROFILES": "gpu",
    }


def test_the_example_shows_the_defaults() -> None:
    fields = {**GatewaySettings.model_fields, **WorkerSettings.model_fields}
    for name, shown in re.findall(
        r"^#FACELIGHT_([A-Z0-9_]+)=(\S+)$", (REPOSITORY / ".env.example").read_text(encoding="utf-8"), re.MULTILINE
    ):
        default = fields[name.lower()].default
        words = ",".join(default) if isinstance(default, tuple) else str(default)
        assert shown.lower() == words.lower(), name


def test_further_gpus_are_copies_of_the_first_worker() -> None:
    class Loader(yaml.SafeLoader):
        """Knows compose's own tags."""

    Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node, deep=True))
    document = yaml.load(MORE_GPUS.read_text(encoding="utf-8"), Loader)
    for number, (name, service) in enumerate(document["services"].items(), start=1):
        assert name == f"worker-{number}"
        assert service["extends"] == {"file": "compose.yaml", "service": "worker"}
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["device_ids"] == [str(number)]


@pytest.mark.parametrize(
    ("profile", "workers"), [("gpu", ["worker", "worker-1", "worker-2", "worker-3"]), ("cpu-demo", ["worker-cpu"])]
)
def test_the_compose_plugin_resolves_it(tmp_path: Path, profile: str, workers: list[str]) -> None:
    found = resolved_by_plugin(tmp_path, "--profile", profile, "-f", "compose.yaml", "-f", "deploy/compose.gpus.yaml")
    assert sorted(name for name in found if name.startswith("worker")) == workers
    reserved = [found[name]["deploy"]["resources"].get("reservations") for name in workers]
    gpus = [number for part in reserved if part for device in part["devices"] for number in device["device_ids"]]
    assert gpus == [str(number) for number in range(len(workers))] if profile == "gpu" else gpus == []


def test_the_compose_plugin_resolves_a_worker_host(tmp_path: Path) -> None:
    url = "rediss://:secret@redis.example.com:6379/0"
    found = resolved_by_plugin(tmp_path, "-f", "deploy/compose.worker-host.yaml", FACELIGHT_REDIS_URL=url)
    assert list(found) == ["worker"]
    assert found["worker"]["environment"]["FACELIGHT_REDIS_URL"] == url
    assert found["worker"]["networks"] == {"frontend": None}
    assert "depends_on" not in found["worker"]
    assert found["worker"]["read_only"] is True


def resolved_by_plugin(tmp_path: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    """The services as the compose plugin understands them; skips where it is not installed. No engine is needed."""
    if not (command := compose_command()):
        pytest.skip("no compose plugin on this machine")
    example = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    settings = [f"{name}={value}" for name, value in {**SECRETS, "COMPOSE_PROFILES": "gpu", **variables}.items()]
    (tmp_path / "env").write_text("\n".join([example, *settings]))
    result = subprocess.run(
        [*command, "--project-directory", ".", "--env-file", str(tmp_path / "env"), *arguments, "config"],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if not name.startswith(("FACELIGHT_", "COMPOSE_"))},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return dict(yaml.safe_load(result.stdout)["services"])
