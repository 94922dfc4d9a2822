"""The `facelight` command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

import typer

from models.catalog import MODELS
from server import supervisor
from server.sample_photo import sample_photo
from server.settings import GatewaySettings
from workers.errors import SettingsError
from workers.logs import configure_logging
from workers.settings import Kind, WorkerSettings, read_settings

app: Final = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def serve() -> None:
    """Serve both endpoints on this machine: Redis, one worker and the gateway, restarted when they die."""
    settings = _settings(GatewaySettings)
    _settings(WorkerSettings)  # what the worker would refuse is told here, once
    configure_logging("serve", settings.log_level)
    try:
        supervisor.run(settings, on_ready=lambda: typer.echo(_welcome(settings)))
    except supervisor.CannotServe as reason:
        _refuse(str(reason))


@app.command()
def gateway() -> None:
    """Run one gateway process."""
    _become("server")


@app.command()
def worker() -> None:
    """Run one worker process on one device."""
    _become("workers")


@app.command()
def demo_weights(directory: Path) -> None:
    """Build the demo weights into DIRECTORY."""
    _become("models.demo_weights", str(directory))


@app.command()
def demo(out: Path = Path("out")) -> None:
    """Send one request per endpoint to a running server with the public client; pictures go to OUT."""
    from server.demo import DemoFailed, run  # its packages are not part of a plain installation

    settings = _settings(GatewaySettings)
    try:
        for line in run(supervisor.local_url(settings), next(iter(settings.api_keys), None), out):
            typer.echo(line)
    except DemoFailed as reason:
        _refuse(str(reason))


def main() -> None:
    """Entry point of the console script."""
    app()


def _settings(kind: type[Kind]) -> Kind:
    try:
        return read_settings(kind)
    except SettingsError as reason:
        _refuse(str(reason))


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"facelight: {reason}", err=True)
    raise typer.Exit(2)


def _become(module: str, *arguments: str) -> NoReturn:
    # Another process, and this one's place: the command itself must never load torch.
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - no shell is wanted


def _welcome(settings: GatewaySettings) -> str:
    url = supervisor.local_url(settings)
    lines = ["", f"  facelight is ready on {url}", f"  docs: {url}/docs", ""]
    lines += [f"  {line}" for slug in MODELS for line in (_curl(url, slug, bool(settings.api_keys)), "")]
    return "\n".join(lines)


def _curl(url: str, slug: str, needs_key: bool) -> str:
    """A command line that works as it is, with a photo that the demo's packages bring along."""
    params = MODELS[slug].params
    key = " -H 'x-api-key: YOUR_KEY'" if needs_key else ""
    photo = f"-F {params.image_fields[0]}=@{os.path.relpath(sample_photo())}"
    fields = f"{photo} -F prompt='portrait in warm evening light'"
    suffix = params.model_fields["output_format"].default
    return f"curl{key} {fields} {url}/v1/{slug} -o {slug}.{suffix}"
