"""The acceptance run: readiness, scenarios, report page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cli.accept import SetupError
from cli.accept.client import Server
from cli.accept.local_weights import LocalWeights, read_local_weights
from cli.accept.photos import ASTRONAUT, CAT, CUP
from cli.accept.report import write_page
from cli.accept.run import Logger, Report, run_scenarios
from cli.accept.scenario import Scope
from cli.accept.scenarios import MODELS as SCENARIOS
from cli.accept.scenarios import all_scenarios
from models.catalog import MODELS

Models = Mapping[str, Mapping[str, Any]]
"""What `/health/ready` reports of each model, by slug."""
DEMO_WEIGHTS: Final = "Cannot be checked on demo weights."
SMALL_SIZES: Final = "Cannot be checked at the small sizes of --quick."


@dataclass(frozen=True)
class Options:
    """Options of the command; `only` limits the run to some models."""

    url: str
    key: str | None
    out: Path
    quick: bool
    seeds: int
    only: Sequence[str] = ()


def accept(options: Options, root: Path, log: Logger) -> Report:
    """Run all scenarios and write the page; `root` is the weights folder of this machine.

    Raises `SetupError`.
    """
    with Server(options.url, options.key) as server:
        health = server.readiness()
        models = _selected(health["models"], options.only)
        local = read_local_weights(root, {model["weights"] for model in models.values()})
        scopes = {slug: _scope(options, slug, models[slug], local) for slug in SCENARIOS if slug in models}
        planned = list(all_scenarios(scopes, models))
        report = Report(
            server=f"{server.url}, facelight {server.version()}",
            models=models,
            settings=_settings(options),
            date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            weights=local.listed,
            scenarios=tuple(run_scenarios(planned, server.generate, log)),
        )
    log(f"{report.summary}; the page is {write_page(report, options.out)}")
    return report


def _selected(models: Models, only: Sequence[str]) -> Models:
    if unknown := set(only) - set(models):
        raise SetupError(f"There is no model {unknown.pop()!r}; there are {', '.join(models)}.")
    return {slug: model for slug, model in models.items() if not only or slug in only}


def _scope(options: Options, slug: str, model: Mapping[str, Any], local: LocalWeights) -> Scope:
    return Scope(
        seeds=1 if options.quick else options.seeds,
        sizes=SCENARIOS[slug].quick if options.quick else SCENARIOS[slug].full,
        photos=(CAT,) if options.quick else (CAT, CUP, ASTRONAUT),
        skip_reason=_skip_reason(model["weights"], options.quick),
        recogniser=local.recogniser,
        variants=model.get("variants") or MODELS[slug].params.variants,
    )


def _skip_reason(kind: str | None, quick: bool) -> str | None:
    if kind != "real":
        return DEMO_WEIGHTS
    return SMALL_SIZES if quick else None


def _settings(options: Options) -> str:
    if options.quick:
        return "quick: small pictures, one seed"
    return f"the models' own sizes, {options.seeds} seed{'s' * (options.seeds != 1)} each"
