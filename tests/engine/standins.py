"""Stand-ins for the pinned base images, made of Debian packages, for machines that reach no image registry.

They have the users, folders, entry points and file capabilities of the originals that the deployment relies on. Other
versions of Python, Redis and Caddy are in them, so what they show holds for compose.yaml, not for those programs.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.engine.engine import NoEngine

IMAGES: Final = {
    "PYTHON_IMAGE": "standin-python:3.11-bookworm",
    "REDIS_IMAGE": "standin-redis:7.0",
    "CADDY_IMAGE": "standin-caddy:2.6",
}
"""By the variable that has compose.yaml use them."""
_PYTHON: Final = "python3,python3-venv,python3-pip,python-is-python3,ca-certificates"
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_INSTALL: Final = (
    "RUN apt-get update && apt-get install --yes --no-install-recommends {} && rm -rf /var/lib/apt/lists/*"
)
_REDIS: Final = f"""\
FROM {IMAGES["PYTHON_IMAGE"]}
RUN groupadd --system --gid 1000 redis && useradd --system --uid 999 --gid redis --home-dir /data redis
{_INSTALL.format("redis-server")}
RUN mkdir -p /data && chown redis:redis /data
VOLUME /data
WORKDIR /data
CMD ["redis-server"]
"""
_CADDY: Final = f"""\
FROM {IMAGES["PYTHON_IMAGE"]}
{_INSTALL.format("caddy wget libcap2-bin")}
RUN setcap cap_net_bind_service=+ep /usr/bin/caddy && mkdir -p /config/caddy /data/caddy /etc/caddy
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
"""


def make_standins(environment: dict[str, str]) -> None:
    """Make the images that the engine does not have; raises `NoEngine` if they cannot be made here."""
    if not _exists(IMAGES["PYTHON_IMAGE"], environment):
        _make_python(environment)
    for variable, dockerfile in (("REDIS_IMAGE", _REDIS), ("CADDY_IMAGE", _CADDY)):
        if not _exists(IMAGES[variable], environment):
            command = ["docker", "buildx", "build", "--load", "--tag", IMAGES[variable], "-"]
            _run(command, environment, dockerfile.encode())


def _make_python(environment: dict[str, str]) -> None:
    """Debian's Python where the engine's builds look for one, with this machine's certificate authorities."""
    if shutil.which("debootstrap") is None:
        raise NoEngine("the stand-in for Python's image is made by debootstrap, which is not installed")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        _run(["debootstrap", "--variant=minbase", f"--include={_PYTHON}", "bookworm", str(tree)], environment)
        if _CERTIFICATES.exists():
            shutil.copy(_CERTIFICATES, tree / "etc/ssl/certs/")
        (tree / "etc/pip.conf").write_text(f"[global]\ncert = {_CERTIFICATES}\ntimeout = 180\n", encoding="utf-8")
        with subprocess.Popen(["tar", "-C", tree, "--numeric-owner", "-c", "."], stdout=subprocess.PIPE) as tar:
            command = ["docker", "import", "--change", 'CMD ["python3"]', "-", IMAGES["PYTHON_IMAGE"]]
            subprocess.run(command, env=environment, stdin=tar.stdout, capture_output=True, check=True)


def _exists(image: str, environment: dict[str, str]) -> bool:
    command = ["docker", "image", "inspect", image]
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0


def _run(command: list[str], environment: dict[str, str], given: bytes = b"") -> None:
    result = subprocess.run(command, env=environment, input=given, capture_output=True)
    if result.returncode:
        raise NoEngine(f"{command[0]} failed: {result.stderr.decode(errors='replace')[-1000:]}")
