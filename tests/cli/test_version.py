"""`facelight --version`."""

from __future__ import annotations

from typer.testing import CliRunner

from cli.main import app
from tests.deploy.files import PROJECT


def test_the_version_is_the_packages() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"facelight {PROJECT['version']}\n")
