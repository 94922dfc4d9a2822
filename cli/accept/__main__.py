"""`python -m cli.accept`: the command `facelight accept`.

Exit status: 0 if nothing has failed, 1 if something has, 2 if the run could not be made.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from cli.accept import SetupError
from cli.accept.command import Options, accept
from cli.accept.result import Outcome
from cli.console import EXIT_FOUND, fail, settings_or_exit
from workers.engine.model_loader import weights_folder, with_demo_weights
from workers.settings import WorkerSettings


def main(
    url: Annotated[str, typer.Option(help="Address of the server.")] = "http://127.0.0.1:8000",
    key: Annotated[
        str | None,
        typer.Option(envvar="FACELIGHT_API_KEYS", show_envvar=False, help="API key; else the first one set."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and its pictures.")] = Path("out/acceptance"),
    quick: Annotated[bool, typer.Option("--quick", help="Small images, one seed: is everything served?")] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Pictures per question.")] = 2,
    only: Annotated[list[str] | None, typer.Option(help="Only this model; may be given again.")] = None,
) -> None:
    """Check on real photos that a running server generates what it should, and write a page of the results."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="insightface")
    first_key = (key or "").split(",")[0].strip() or None
    options = Options(url, first_key, out, quick, seeds, only or ())
    root = weights_folder(with_demo_weights(settings_or_exit(WorkerSettings)))
    try:
        report = accept(options, root, typer.echo)
    except (SetupError, OSError) as error:
        fail(error)
    if report.outcome is Outcome.FAILED:
        raise typer.Exit(EXIT_FOUND)


if __name__ == "__main__":
    typer.run(main)
