"""`facelight` as an operator types it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from tests.live_server import FACELIGHT


@dataclass
class Shell:
    """Types commands, with FACELIGHT_* variables of its own."""

    set_variable: Callable[[str, str], None]
    runner: CliRunner = field(default_factory=CliRunner)

    def __call__(self, *words: str, status: int = 0) -> Result:
        """Run a command within this process, which takes no second to start."""
        result = self.runner.invoke(app, words)
        assert result.exit_code == status, result.output
        return result

    def process(self, *words: str, timeout_s: float = 60, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it as a process of its own."""
        environment = {**os.environ, **variables}
        return subprocess.run([FACELIGHT, *words], env=environment, capture_output=True, text=True, timeout=timeout_s)


def shell(monkeypatch: pytest.MonkeyPatch, **settings: object) -> Shell:
    """`settings` are FACELIGHT_* variables without the prefix; others of this process are unset."""
    for name in os.environ:
        if name.startswith("FACELIGHT_"):
            monkeypatch.delenv(name)
    made = Shell(monkeypatch.setenv)
    for name, value in settings.items():
        monkeypatch.setenv(f"FACELIGHT_{name.upper()}", str(value))
    return made
