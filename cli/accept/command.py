"""The run, from its first question to the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cli.accept import CannotRun
from cli.accept.client import Server
from cli.accept.local_weights import LocalWeights, read_local_weights
from cli.accept.photos import ASTRONAUT, CAT, CUP
from cli.accept.report import write_page
from cli.accept.run import Report, Tell, examine_all
from cli.accept.scenario import CHECKPOINTS, FULL, QUICK, Scope
from cli.accept.scenarios import plan

Models = Mapping[str, Mapping[str, Any]]
"""What the server says of each of its models, by slug."""
ON_DEMO_WEIGHTS: Final = "Cannot be judged on demo weights: they are small stand-ins."
WHEN_QUICK: Final = "Cannot be judged at the small sizes of --quick."


@dataclass(frozen=True)
class Options:
    """What the operator asked for; `only` limits the run to some models."""

    url: str
    key: str | None
    out: Path
    quick: bool
    seeds: int
    only: Sequence[str] = ()


def accept(options: Options, root: Path, tell: Tell) -> Report:
    """Ask the server everything and write the page; `root` is the weights folder of this machine.

    Raises `CannotRun`.
    """
    with Server(options.url, options.key) as server:
        health = server.readiness()
        models = _chosen(health["models"], options.only)
        local = read_local_weights(root, {model["weights"] for model in models.values()})
        groups = list(plan(_scope(options, models, local), models))
        report = Report(
            server=f"{server.url}, facelight {server.version()}",
            models=models,
            settings=_settings(options),
            date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            weights=local.listed,
            examined=tuple(examine_all(groups, server.draw, tell)),
        )
    tell(f"{report.summary}; the page is {write_page(report, options.out)}")
    return report


def _chosen(models: Models, only: Sequence[str]) -> Models:
    if unknown := set(only) - set(models):
        raise CannotRun(f"There is no model {unknown.pop()!r}; there are {', '.join(models)}.")
    return {slug: model for slug, model in models.items() if not only or slug in only}


def _scope(options: Options, models: Models, local: LocalWeights) -> Scope:
    unjudged = {
        slug: reason for slug, model in models.items() if (reason := _unjudged(model["weights"], options.quick))
    }
    return Scope(
        seeds=1 if options.quick else options.seeds,
        sizes=QUICK if options.quick else FULL,
        photos=(CAT,) if options.quick else (CAT, CUP, ASTRONAUT),
        unjudged=unjudged,
        recogniser=local.recogniser,
        checkpoints=models.get("pulid-lightning", {}).get("variants") or CHECKPOINTS,
    )


def _unjudged(kind: str | None, quick: bool) -> str | None:
    if kind != "real":
        return ON_DEMO_WEIGHTS
    return WHEN_QUICK if quick else None


def _settings(options: Options) -> str:
    if options.quick:
        return "quick: small pictures, one seed"
    return f"the models' own sizes, {options.seeds} seed{'s' * (options.seeds != 1)} each"
