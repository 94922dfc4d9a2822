"""`facelight weights`: fetch, verify and list the files that the models run on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.console import EXIT_FOUND, fail, settings_or_exit
from cli.weights.download import Network
from cli.weights.fetch import Report, fetch, missing, unused_files
from cli.weights.listing import rows, table
from cli.weights.mirror import Mirror, fill_mirror
from cli.weights.selection import Selection, SelectionOptions, select
from cli.weights.state import installed_in
from cli.weights.transfers import Source, exclusive_lock, format_bytes
from cli.weights.verify import verify
from models.catalog import MODELS
from models.errors import WeightsError
from models.runtime.kernel_cache import set_cache_dirs
from models.weights.hashes import WEIGHT_HASHES, HashCache
from models.weights.installed import read_installed
from models.weights.lock import SHIPPED_LOCK, Lock, Weight, pin, read_lock
from workers.settings import WorkerSettings

app: Final = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_Only = Annotated[str | None, typer.Option("--only", metavar="MODEL", help=f"Only for {' or '.join(MODELS)}.")]
_Use = Annotated[list[str] | None, typer.Option("--use", metavar="NAME", help="This weight for its role; repeatable.")]
_Commercial = Annotated[bool, typer.Option("--commercial", help="Only what may be used commercially.")]
_Accept = Annotated[bool, typer.Option("--accept-licence", help="Agree to licences that forbid or limit such use.")]
_Jobs = Annotated[int, typer.Option(min=1, max=32, help="Files at a time.")]
_LockFile = Annotated[Path, typer.Option("--lock", envvar="FACELIGHT_WEIGHTS_LOCK", help="The lock to go by.")]


@app.command(name="fetch")
def fetch_command(
    only: _Only = None,
    use: _Use = None,
    commercial: _Commercial = False,
    accept_licence: _Accept = False,
    mirror: Annotated[Path | None, typer.Option(metavar="DIR", help="Take files from this mirror.")] = None,
    jobs: _Jobs = 4,
    lock: _LockFile = SHIPPED_LOCK,
) -> None:
    """Fetch what is missing, verify it, and bring it into the weights folder. May be run again at any time."""
    settings = settings_or_exit(WorkerSettings)
    root, hashes = settings.real_dir, _hashes(settings)
    with _errors_end_the_command(), exclusive_lock(root):
        selection = _selection(read_lock(lock), root, only, use, commercial)
        wanted = missing(selection.weights, root, hashes)
        if wanted:
            source = _source(settings, mirror)
            _require_consent(wanted, accept_licence)
            _print_report(fetch(wanted, root, hashes, source, sys.stderr, jobs))
            _warn_of_unpinned(wanted)
        _list_unused(root)
    typer.echo(f"{root} holds {len(selection.weights)} weights, all verified.")


@app.command(name="mirror")
def mirror_command(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    only: _Only = None,
    use: _Use = None,
    commercial: _Commercial = False,
    accept_licence: _Accept = False,
    jobs: _Jobs = 4,
    lock: _LockFile = SHIPPED_LOCK,
) -> None:
    """Put the files, as they are published, into DIR: for machines without a network, with `fetch --mirror DIR`."""
    settings = settings_or_exit(WorkerSettings)
    with _errors_end_the_command(), exclusive_lock(directory):
        selection = _selection(read_lock(lock), settings.real_dir, only, use, commercial)
        source = _source(settings, None)
        _require_consent(selection.weights, accept_licence)
        _print_report(fill_mirror(selection.weights, directory, source, sys.stderr, jobs))
    typer.echo(f"{directory} holds the files of {len(selection.weights)} weights, all verified.")


@app.command(name="verify")
def verify_command(only: _Only = None, jobs: _Jobs = 4) -> None:
    """Read every installed file again and compare its hash; exit status 1 if one is wrong."""
    settings = settings_or_exit(WorkerSettings)
    with _errors_end_the_command():
        count, faults = verify(settings.real_dir, _hashes(settings), sys.stderr, _slug(only), jobs)
    if faults:
        for fault in faults:
            typer.echo(fault, err=True)
        typer.echo(f"{len(faults)} of {count} files are wrong. Run `facelight weights fetch` to repair them.", err=True)
        raise typer.Exit(EXIT_FOUND)
    typer.echo(f"{settings.real_dir}: {count} files verified.")


@app.command(name="list")
def list_command(
    only: _Only = None, as_json: Annotated[bool, typer.Option("--json")] = False, lock: _LockFile = SHIPPED_LOCK
) -> None:
    """Show all weights: size, licence, whether they may be used commercially, what is installed."""
    settings = settings_or_exit(WorkerSettings)
    with _errors_end_the_command():
        listed = rows(read_lock(lock), settings.real_dir, _hashes(settings), _slug(only))
        if as_json:
            typer.echo(json.dumps([row.as_dict() for row in listed], indent=1))
            return
        for line in table(listed):
            typer.echo(line)
        for slug in (slug for slug, model in MODELS.items() if not model.needs_weights and only in (None, slug)):
            typer.echo(f"{slug}: no weight files")
        typer.echo(f"Weights folder: {settings.real_dir}")


@app.command(name="lock")
def lock_command(lock: _LockFile = SHIPPED_LOCK) -> None:
    """Write sizes and hashes that fetching has learned into the lock, for files without a public hash."""
    with _errors_end_the_command():
        installed = read_installed(settings_or_exit(WorkerSettings).real_dir)
        learned = {weight.name: {file.path: file.published for file in weight.files} for weight in installed.weights}
        pinned = pin(lock, learned)
    for path in pinned:
        typer.echo(f"pinned {path}")
    typer.echo(f"{lock}: {len(pinned)} files pinned." if pinned else f"{lock}: nothing to pin.")


@app.command(name="demo")
def demo_command(directory: Annotated[Path | None, typer.Argument(metavar="[DIR]")] = None) -> None:
    """Build the demo weights of every model: small networks, for demonstration only."""
    set_cache_dirs(None)
    from models.demo.build import build  # loads torch, and diffusers with its compiler

    directory = directory or settings_or_exit(WorkerSettings).demo_dir
    with _errors_end_the_command():
        built = build(directory)
    typer.echo(f"demo weights {'built' if built else 'found'} in {directory}")


def _hashes(settings: WorkerSettings) -> HashCache:
    return HashCache(settings.data_dir / WEIGHT_HASHES)


def _slug(only: str | None) -> str | None:
    if only is not None and only not in MODELS:
        raise WeightsError(f"There is no model {only!r}; there are {', '.join(MODELS)}.")
    return only


def _selection(lock: Lock, root: Path, only: str | None, use: list[str] | None, commercial: bool) -> Selection:
    selection = select(lock, installed_in(root).weights, SelectionOptions(_slug(only), use or (), commercial))
    for slot, candidates in selection.unfilled.items():
        names = ", ".join(weight.name for weight in candidates)
        slugs = ", ".join(candidates[0].used_by)
        typer.echo(f"{slot}: nothing may be used commercially ({names}); {slugs} needs one, with --use NAME.", err=True)
    return selection


def _source(settings: WorkerSettings, mirror: Path | None) -> Source:
    if mirror is not None:
        return Mirror(mirror)
    if settings.offline:
        raise WeightsError("FACELIGHT_OFFLINE is set, so nothing is fetched: use --mirror DIR, or unset it.")
    return Network()


def _require_consent(weights: Sequence[Weight], given: bool) -> None:
    """Tell which licences limit commercial use, and ask whether the operator agrees."""
    limited = [weight for weight in weights if weight.commercial is not True]
    if not limited:
        return
    typer.echo("These weights may not be used commercially, or only on conditions:", err=True)
    for weight in limited:
        typer.echo(f"  {weight.name} ({weight.licence}). {weight.note}", err=True)
    if given:
        typer.echo("Accepted with --accept-licence.", err=True)
    elif not sys.stdin.isatty():
        raise WeightsError("Agree with --accept-licence, or choose others with --commercial or --use NAME.")
    elif not typer.confirm("Do you agree to these licences?", err=True):
        raise WeightsError("Nothing was fetched. Others are chosen with --commercial or --use NAME.")


def _print_report(report: Report) -> None:
    for name in report.completed:
        typer.echo(f"verified {name}", err=True)
    if report.failures:
        for reason in report.failures:
            typer.echo(reason, err=True)
        raise WeightsError(f"{len(report.failures)} of {report.files} files could not be fetched; the others are kept.")


def _warn_of_unpinned(weights: Sequence[Weight]) -> None:
    if names := [weight.name for weight in weights if not all(file.pinned for file in weight.files)]:
        typer.echo(
            f"No public hash is known of files of {', '.join(names)}: what came was checked against its source alone. "
            "`facelight weights lock` writes the hashes into the lock.",
            err=True,
        )


def _list_unused(root: Path) -> None:
    if unused := unused_files(root):
        size = format_bytes(sum(unused.values()))
        typer.echo(f"Not used any more, and may be deleted ({size}): {', '.join(unused)}", err=True)


@contextmanager
def _errors_end_the_command() -> Iterator[None]:
    try:
        yield
    except (WeightsError, OSError) as error:
        fail(error)


if __name__ == "__main__":
    app(prog_name="facelight weights")
