"""Programs of Prometheus, as Debian's package `prometheus` brings them; tests that need them are skipped elsewhere."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def program(name: str) -> str:
    """Path of `prometheus` or `promtool`."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package `prometheus`)")
    return found


def promtool(*arguments: object, text: str | None = None) -> None:
    """Run promtool; fails with what it says unless it is content."""
    command = [program("promtool"), *map(str, arguments)]
    result = subprocess.run(command, input=text, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
