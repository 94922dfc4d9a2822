"""What the subcommands of `facelight` have in common."""

from __future__ import annotations

from typing import Final, NoReturn

import typer

from workers.errors import SettingsError
from workers.settings import Kind, read_settings

EXIT_FOUND: Final = 1
"""The command did its work and found something wrong: a damaged file, a failed check."""
EXIT_FAILED: Final = 2
"""The command could not do its work; also the status of wrong usage."""


def settings_or_exit(kind: type[Kind]) -> Kind:
    """Read settings from the environment; the command fails if they are invalid."""
    try:
        return read_settings(kind)
    except SettingsError as error:
        fail(error)


def fail(reason: object) -> NoReturn:
    """End the command with an error message and exit status 2."""
    typer.echo(f"facelight: {reason}", err=True)
    raise typer.Exit(EXIT_FAILED)
