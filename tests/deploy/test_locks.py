"""The images' lock files are parts of the whole one, complete, hashed, and free of what an image must not have."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
WHOLE = REPOSITORY / "requirements.lock"
LOCKS = [REPOSITORY / "deploy" / f"{image}.lock" for image in ("gateway", "worker")]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
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
    assert not worker & {"pytest", "mypy", "ruff", "hypothesis", "moto", "compose-spec", "opencv-python"}
