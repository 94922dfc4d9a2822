"""The files of a deployment, read once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import yaml

from workers.settings import CommonSettings

REPOSITORY = Path(__file__).parents[2]
COMPOSE = (REPOSITORY / "compose.yaml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
"""Services of compose.yaml, their variables as they stand there."""
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def variables_of(kind: type[CommonSettings]) -> set[str]:
    """Names of the environment variables that settings are read from."""
    return {f"FACELIGHT_{name.upper()}" for name in kind.model_fields}
