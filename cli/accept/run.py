"""Run scenarios against a server and collect the results of their checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from cli.accept import RequestFailed
from cli.accept.client import ImageRequest, ImageResponse
from cli.accept.result import CheckResult, Outcome, overall, passed_if
from cli.accept.scenario import Scenario

Logger = Callable[[str], None]
"""Takes one line of progress."""
Generate = Callable[[ImageRequest], ImageResponse]
"""Sends a request and waits for its image; raises `RequestFailed`."""
ALL_ANSWERED: Final = "Every request answered"
_HEADLINES: Final[Mapping[Outcome, str]] = {
    Outcome.PASSED: "Passed",
    Outcome.FAILED: "Failed",
    Outcome.SKIPPED: "Runs; not all checked",
}


@dataclass(frozen=True)
class ScenarioResult:
    """Responses and check results of one scenario; it ends with the first request that fails."""

    scenario: Scenario
    responses: tuple[ImageResponse, ...]
    results: tuple[CheckResult, ...]


@dataclass(frozen=True)
class Report:
    """Everything that a run has found.

    `models` is what `/health/ready` reports of each model; `weights` are (role, name, licence), empty if unknown here.
    """

    server: str
    settings: str
    date: str
    models: Mapping[str, Mapping[str, Any]]
    weights: Sequence[tuple[str, str, str]]
    scenarios: Sequence[ScenarioResult]

    @property
    def results(self) -> list[CheckResult]:
        """Check results in order."""
        return [result for scenario in self.scenarios for result in scenario.results]

    @property
    def outcome(self) -> Outcome:
        """The outcome of the run."""
        return overall(self.results)

    @property
    def summary(self) -> str:
        """The outcome, and the number of check results of each kind."""
        counts = [(sum(result.outcome is kind for result in self.results), kind.value) for kind in Outcome]
        return f"{_HEADLINES[self.outcome]}: " + ", ".join(f"{number} {kind}" for number, kind in counts if number)


def run_scenarios(scenarios: Sequence[Scenario], generate: Generate, log: Logger) -> Iterator[ScenarioResult]:
    """Run all scenarios, with a line to `log` per request and check; passes on `SetupError`."""
    numbers, total = count(1), sum(len(scenario.requests) for scenario in scenarios)

    def generate_and_log(request: ImageRequest) -> ImageResponse:
        response = generate(request)
        log(f"  {next(numbers)}/{total}  {request.caption}: {response.inference_s:.1f} s")
        return response

    for scenario in scenarios:
        log(f"{scenario.slug}: {scenario.title}")
        found = _run_scenario(scenario, generate_and_log)
        for result in found.results:
            log(f"  {result.outcome.value}: {result.title}{in_parentheses(result.measured)}")
        yield found


def in_parentheses(words: str) -> str:
    """` (words)`; empty if `words` are."""
    return f" ({words})" if words else ""


def _run_scenario(scenario: Scenario, generate: Generate) -> ScenarioResult:
    responses: list[ImageResponse] = []
    try:
        for request in scenario.requests:
            responses.append(generate(request))
    except RequestFailed as error:
        return ScenarioResult(scenario, tuple(responses), (passed_if(ALL_ANSWERED, False, str(error)),))
    return ScenarioResult(scenario, tuple(responses), tuple(check(responses) for check in scenario.checks))
