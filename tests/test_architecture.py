"""The rooms import in one direction, and the gateway starts without the models' libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def test_import_rules() -> None:
    """The contracts stand in pyproject.toml."""
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "module", ["server.app", "cli.main", "models.catalog", "workers.state.janitor", "workers.settings"]
)
def test_starts_without_torch(module: str) -> None:
    heavy = {"torch", "diffusers", "transformers", "onnxruntime", "cv2"}
    program = f"import {module}, sys; sys.exit(', '.join(set(sys.modules) & {heavy!r}) or 0)"
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
