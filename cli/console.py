"""What the subcommands of `facelight` have in common."""

from __future__ import annotations

from typing import NoReturn

import typer

from workers.errors import SettingsError
from workers.settings import Kind, read_settings


def settings_or_exit(kind: type[Kind]) -> Kind:
    """Read settings from the environment; what does not fit ends the command."""
    try:
        return read_settings(kind)
    except SettingsError as reason:
        refuse(str(reason))


def refuse(reason: str) -> NoReturn:
    """End the command with a sentence for the operator and exit status 2."""
    typer.echo(f"facelight: {reason}", err=True)
    raise typer.Exit(2)
