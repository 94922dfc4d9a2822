"""The command: which checks there are, and how their findings are shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Annotated, Final

import typer

from cli.console import EXIT_FOUND, settings_or_exit
from cli.doctor.disk import check_disk
from cli.doctor.files import check_store, check_weights
from cli.doctor.finding import Finding, Level
from cli.doctor.gpu import check_gpu
from cli.doctor.memory import check_memory
from cli.doctor.network import check_port, check_public_url
from cli.doctor.redis_server import check_redis
from server.settings import GatewaySettings
from workers.settings import WorkerSettings

CHECKS: Final[dict[str, Callable[[GatewaySettings, WorkerSettings], Iterator[Finding]]]] = {
    "gpu": lambda _gateway, worker: check_gpu(worker),
    "memory": check_memory,
    "disk": lambda gateway, _worker: check_disk(gateway.data_dir),
    "redis": lambda gateway, _worker: check_redis(gateway),
    "store": lambda gateway, _worker: check_store(gateway),
    "weights": lambda _gateway, worker: check_weights(worker),
    "port": lambda gateway, _worker: check_port(gateway),
    "url": lambda gateway, _worker: check_public_url(gateway),
}
"""In the order in which they are made."""
_COLOURS: Final = {Level.OK: typer.colors.GREEN, Level.WARN: typer.colors.YELLOW, Level.FAIL: typer.colors.RED}


def doctor(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CHECK]...",
            help=f"Of {', '.join(CHECKS)}; all if none is named.",
            autocompletion=lambda: list(CHECKS),
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check this host and what the server needs, with the settings of this shell; exit status 1 if a check fails.

    Run it where a gateway or a worker runs, with the same variables. A line is ok, warn or fail, with what to do.
    """
    if unknown := [name for name in names or () if name not in CHECKS]:
        raise typer.BadParameter(f"there is no check {unknown[0]!r}; there are {', '.join(CHECKS)}")
    gateway, worker = settings_or_exit(GatewaySettings), settings_or_exit(WorkerSettings)
    found: list[tuple[str, Finding]] = []
    for name in names or CHECKS:
        for finding in CHECKS[name](gateway, worker):
            found.append((name, finding))
            if not as_json:
                _print(name, finding)
    failed = any(finding.level is Level.FAIL for _, finding in found)
    if as_json:
        lines = [{"check": name, **asdict(finding)} for name, finding in found]
        typer.echo(json.dumps({"ok": not failed, "findings": lines}, indent=2, ensure_ascii=False))
    raise typer.Exit(EXIT_FOUND if failed else 0)


def _print(name: str, finding: Finding) -> None:
    typer.echo(f"{typer.style(f'{finding.level:<4}', fg=_COLOURS[finding.level])}  {name:<8}{finding.message}")
    if finding.remedy:
        typer.echo(f"{'':<14}{finding.remedy}")
