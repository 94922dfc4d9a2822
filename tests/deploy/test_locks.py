"""The images' lock files are subsets of the whole one, complete and hashed; subclassed packages have upper bounds."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from skimage.transform import SimilarityTransform

from tests.deploy.files import PROJECT, REPOSITORY

WHOLE = REPOSITORY / "requirements.lock"
LOCKS = [REPOSITORY / "deploy" / f"{image}.lock" for image in ("gateway", "worker")]
REQUIREMENTS = [
    Requirement(text)
    for text in (
        *PROJECT["dependencies"],
        *(text for extra in PROJECT["optional-dependencies"].values() for text in extra),
    )
]
STABLE_BASES = {"pydantic", "pydantic-settings", "torch", "typing-extensions"}
DISTRIBUTIONS = {"pythonjsonlogger": "python-json-logger"}
"""By the name that is imported, where it is another."""
every_lock = pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)


def pins(path: Path) -> dict[str, tuple[str, set[str]]]:
    """Version and hashes by package."""
    entries = re.split(r"^(?=[a-z0-9])", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {}
    for entry in entries:
        name, version = re.match(r"([a-z0-9._-]+)==(\S+)", entry).groups()
        found[name] = version, set(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


@every_lock
def test_versions_and_hashes_are_those_of_the_whole_lock(path: Path) -> None:
    whole = pins(WHOLE)
    for name, (version, hashes) in pins(path).items():
        assert hashes, name
        assert (version, hashes) == whole[name]


@every_lock
def test_no_lock_names_an_address(path: Path) -> None:
    assert "://" not in path.read_text(encoding="utf-8")


def test_each_image_has_what_its_program_needs() -> None:
    gateway, worker = ({*pins(path)} for path in LOCKS)
    assert names(PROJECT["dependencies"]) | {"setuptools"} <= gateway <= worker
    assert names(PROJECT["optional-dependencies"]["worker"]) <= worker


def test_the_gateway_has_nothing_that_computes_and_no_image_has_tests() -> None:
    gateway, worker = ({*pins(path)} for path in LOCKS)
    assert not gateway & {"torch", "torchvision", "diffusers", "transformers", "timm", "insightface", "onnxruntime"}
    assert not worker & {"pytest", "mypy", "ruff", "hypothesis", "moto", "opencv-python"}


def foreign_bases(path: Path) -> Iterator[str]:
    """Packages, as they are imported, that classes of a module derive from."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    sources = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            sources |= {alias.asname or alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.Import):
            sources |= {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names}
    for node in ast.walk(tree):
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            name = ast.unparse(base).partition(".")[0].partition("[")[0]
            if name in sources:
                yield sources[name].partition(".")[0]


def upper_bounds(name: str) -> list[set[str]]:
    """What ends the versions of a package, for each time that it is required."""
    found = [requirement for requirement in REQUIREMENTS if requirement.name == name]
    return [{str(part) for part in each.specifier if part.operator in ("<", "<=", "==", "~=")} for each in found]


def test_what_is_subclassed_is_bounded() -> None:
    paths = [path for room in ("cli", "server", "workers", "models") for path in (REPOSITORY / room).rglob("*.py")]
    bases = {base for path in paths for base in foreign_bases(path)}
    foreign = bases - sys.stdlib_module_names - {"cli", "server", "workers", "models"}
    packages = {DISTRIBUTIONS.get(base, base.replace("_", "-")) for base in foreign} - STABLE_BASES
    assert packages >= {"uvicorn", "rq"}
    for package in packages:
        bounds = upper_bounds(package)
        assert bounds and all(bounds), f"{package} has no upper bound"


def test_scikit_image_is_bounded_before_the_release_in_which_insightface_breaks() -> None:
    """insightface 2.1 calls `estimate`; the release that removes it stands in the warning."""
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    with pytest.warns(FutureWarning, match="estimate") as warned:
        SimilarityTransform().estimate(square, square)
    removed = re.search(r"removed in version (\d+\.\d+)", str(warned[0].message))
    assert removed
    bounds = upper_bounds("scikit-image")
    assert bounds == [{f"<{removed[1]}"}] * 2
