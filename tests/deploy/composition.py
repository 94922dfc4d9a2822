"""compose.yaml as the engine sees it: parsed, with the variables put in place."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
COMPOSE = REPOSITORY / "compose.yaml"
SECRETS = {"REDIS_PASSWORD": "0123456789abcdef", "FACELIGHT_API_KEYS": "key1,key2"}
_VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\}")


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Put `${NAME}`, `${NAME:-default}` and `${NAME:?message}` in place; raises `KeyError` with the message."""

    def value(match: re.Match[str]) -> str:
        if found := variables.get(match["name"]):
            return found
        if match["kind"] == "?":
            raise KeyError(match["word"])
        return match["word"] or ""

    return _VARIABLE.sub(value, text)


def resolved(text: str) -> dict[str, Any]:
    """The document with its secrets set and everything else left at its default."""
    return dict(yaml.safe_load(interpolated(text, SECRETS)))


def interpolated_names(text: str) -> set[str]:
    """Names of the variables that stand in the text."""
    return {match["name"] for match in _VARIABLE.finditer(text)}


def passed_names(found: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Names that some service takes over from .env as they are."""
    return {
        name for service in found.values() for name, value in service.get("environment", {}).items() if value is None
    }


def compose_command() -> list[str] | None:
    """The compose plugin of this machine; None without one. It needs no engine to resolve a file."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    return None
