"""The `facelight` command."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from cli import keys, queues, webhooks
from cli import serve as supervisor
from cli.console import fail, settings_or_exit
from cli.doctor.command import doctor
from cli.sample_photo import sample_photo
from cli.status import status
from models.catalog import MODELS
from server.settings import GatewaySettings
from workers.errors import SettingsError
from workers.logs import configure_logging
from workers.settings import WorkerSettings
from workers.store.open import open_store

app: Final = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(keys.app, name="keys")
app.add_typer(queues.app, name="queue")
app.add_typer(webhooks.app, name="webhooks")
app.command()(status)
app.command()(doctor)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"facelight {version('facelight')}")
        raise typer.Exit


@app.callback(help=__doc__)
def command(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What holds for all commands."""


@app.command()
def serve() -> None:
    """Serve both endpoints on this machine: Redis, one worker and the gateway, restarted when they exit."""
    settings = settings_or_exit(GatewaySettings)
    worker_settings = settings_or_exit(WorkerSettings)  # the worker would fail on them, again and again
    configure_logging("serve", settings.log_level, settings.log_format)
    try:
        open_store(settings.store_location).check()
        demo = supervisor.serves_demo_weights(worker_settings)
        supervisor.run(settings, demo, on_ready=lambda: typer.echo(_welcome(settings, demo)))
    except (SettingsError, supervisor.StartupError) as error:
        fail(error)


@app.command()
def gateway() -> None:
    """Run one gateway process."""
    _exec("server")


@app.command()
def worker() -> None:
    """Run one worker process on one device."""
    _exec("workers")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def weights(context: typer.Context) -> None:
    """Fetch, verify and list the files that the models run on; --help lists the commands."""
    _exec("cli.weights.command", *context.args)


@app.command()
def demo(
    out: Path = Path("out"),
    key: Annotated[str | None, typer.Option(help="API key; else the first one of FACELIGHT_API_KEYS.")] = None,
) -> None:
    """Send sample requests to a running server with the public client; images and a contact sheet go to OUT."""
    from cli.demo import DemoError, run  # its packages are not part of a plain installation

    settings = settings_or_exit(GatewaySettings)
    try:
        for line in run(supervisor.local_url(settings), key or next(iter(settings.api_keys), None), out):
            typer.echo(line)
    except DemoError as error:
        fail(error)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def accept(context: typer.Context) -> None:
    """Check on real photos that a running server generates what it should; --help lists the options."""
    url = supervisor.local_url(settings_or_exit(GatewaySettings))
    _exec("cli.accept", "--url", url, *context.args)


def main() -> None:
    """Entry point of the console script."""
    app()


def _exec(module: str, *arguments: str) -> NoReturn:
    if module != "server" and find_spec("torch") is None:
        fail("this installation holds the gateway only; the command needs the extra `worker`")
    # The module replaces this process: the command itself must never load torch.
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - no shell is wanted


def _welcome(settings: GatewaySettings, demo: bool) -> str:
    url = supervisor.local_url(settings)
    lines = ["", f"  facelight is ready on {url}", f"  docs: {url}/docs", ""]
    if demo:
        lines += ["  on demo weights, for demonstration only; `facelight weights fetch` fetches the real ones", ""]
    lines += [f"  {line}" for slug in MODELS for line in (_curl(url, slug, settings.asks_for_key), "")]
    return "\n".join(lines)


def _curl(url: str, slug: str, needs_key: bool) -> str:
    """A command line that works as it is, with a photo of the scikit-image package."""
    params = MODELS[slug].params
    key = " -H 'x-api-key: YOUR_KEY'" if needs_key else ""
    photo = f"-F {params.image_fields[0]}=@{os.path.relpath(sample_photo())}"
    fields = f"{photo} -F prompt='portrait in warm evening light'"
    suffix = params.model_fields["output_format"].default
    return f"curl{key} {fields} {url}/v1/{slug} -o {slug}.{suffix}"
