"""A container engine with the compose and buildx plugins: the one that runs here, or one of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PLUGINS: Final = ("compose", "buildx")
_PACKAGES: Final = ("docker-compose", "docker-buildx")
_STARTS_WITHIN_S: Final = 60


class NoEngine(Exception):
    """No engine runs here, and none can be started: the message says why."""


@contextmanager
def engine(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which `docker` reaches an engine.

    An engine of our own, and plugins that the system lacks, are kept in `folder`, so that a later run finds its layers;
    that engine is stopped at the end, and nothing else is. Raises `NoEngine`.
    """
    if shutil.which("docker") is None:
        raise NoEngine("docker is not installed")
    ignored = ("FACELIGHT_", "COMPOSE_", "REDIS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ignored)}
    if not all(_succeeds(["docker", plugin, "version"], environment) for plugin in _PLUGINS):
        environment["DOCKER_CONFIG"] = str(_plugins(folder / "plugins"))
    if _succeeds(["docker", "info"], environment):
        yield environment
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        raise NoEngine("no engine answers, and to start one takes root and dockerd")
    environment["DOCKER_HOST"] = f"unix://{folder / 'sock'}"
    process = _start(folder, environment)
    try:
        yield environment
    finally:
        process.terminate()
        process.wait(60)


def _succeeds(command: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(command, env=environment, capture_output=True, timeout=60).returncode == 0


def _start(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    pid = folder / "pid"
    if pid.exists() and Path("/proc", pid.read_text().strip()).exists():
        raise NoEngine(f"an engine of another run uses {folder}")
    shutil.rmtree(folder / "exec", ignore_errors=True)  # left by an engine that was killed
    for name in ("pid", "sock"):
        (folder / name).unlink(missing_ok=True)
    places = ["--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"]
    with (folder / "dockerd.log").open("wb") as log:
        command = ["dockerd", *places, "--host", environment["DOCKER_HOST"]]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + _STARTS_WITHIN_S
    while not _succeeds(["docker", "info"], environment):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            last = (folder / "dockerd.log").read_text(errors="replace").strip().splitlines()[-1:]
            raise NoEngine(f"dockerd did not start: {''.join(last)}")
        time.sleep(0.5)
    return process


def _plugins(folder: Path) -> Path:
    """A configuration folder with both plugins. Debian 12 has none; those of Debian 13 run there as well."""
    config = folder / "config"
    if all((config / "cli-plugins" / name).exists() for name in _PACKAGES):
        return config
    source = Path("/etc/apt/sources.list.d/debian.sources")
    if os.geteuid() != 0 or not source.exists():
        raise NoEngine("docker lacks its compose and buildx plugins")
    for name in ("lists/partial", "cache/archives/partial", "config/cli-plugins"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    newer = source.read_text(encoding="utf-8").replace("bookworm bookworm-updates", "trixie")
    (folder / "trixie.sources").write_text(newer.replace("bookworm", "trixie"), encoding="utf-8")
    places = {
        "Dir::Etc::sourcelist": folder / "trixie.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
    }
    options = [word for name, place in places.items() for word in ("-o", f"{name}={place}")]
    for command in (["update"], ["download", *_PACKAGES]):
        if subprocess.run(["apt-get", "-qq", *options, *command], cwd=folder, capture_output=True).returncode:
            raise NoEngine("docker lacks its compose and buildx plugins, and apt-get did not bring them")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "unpacked"], check=True)
    for plugin in (folder / "unpacked").rglob("cli-plugins/*"):
        shutil.copy(plugin, config / "cli-plugins")
    return config
