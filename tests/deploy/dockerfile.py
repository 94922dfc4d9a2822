"""Just enough of a Dockerfile parser to lint ours and to rehearse its steps: stages, instructions, ARG and ENV."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass(frozen=True)
class Step:
    """One instruction: its keyword in capitals, and the rest of its logical line."""

    keyword: str
    rest: str

    @property
    def words(self) -> list[str]:
        """The arguments, split as a shell splits them, without the flags."""
        return [word for word in shlex.split(self.rest) if not word.startswith("--")]

    @property
    def flags(self) -> dict[str, str]:
        """The leading `--name=value` flags."""
        pairs = (word[2:].partition("=") for word in shlex.split(self.rest) if word.startswith("--"))
        return {name: value for name, _, value in pairs}

    @property
    def exec_form(self) -> list[str] | None:
        """The command of ENTRYPOINT, CMD or HEALTHCHECK if it is a JSON array, else None."""
        start = self.rest.find("[")
        try:
            return list(json.loads(self.rest[start:])) if start >= 0 else None
        except ValueError:
            return None

    def pairs(self) -> dict[str, str]:
        """Names and values of ENV or LABEL."""
        return dict(word.split("=", 1) for word in self.words)


@dataclass
class Stage:
    """One `FROM base AS name` and the steps below it."""

    name: str
    base: str
    steps: list[Step] = field(default_factory=list)

    def all(self, keyword: str) -> list[Step]:
        """Steps with that keyword, in order."""
        return [step for step in self.steps if step.keyword == keyword]


def parse(path: Path) -> dict[str, Stage]:
    """Stages by name, in order; the arguments before the first FROM are put in place with their defaults."""
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    for step in _steps(path.read_text(encoding="utf-8")):
        if step.keyword == "ARG" and not stages:
            name, _, default = step.rest.partition("=")
            arguments[name] = default
        elif step.keyword == "FROM":
            base, _, name = _expanded(step.rest, arguments).partition(" AS ")
            stages[name] = Stage(name, base)
        else:
            list(stages.values())[-1].steps.append(step)
    return stages


def ancestry(stages: Mapping[str, Stage], name: str) -> list[Stage]:
    """The stage and those it is built on, the first one first."""
    stage = stages[name]
    return [*(ancestry(stages, stage.base) if stage.base in stages else []), stage]


def environment(stages: Mapping[str, Stage], name: str) -> dict[str, str]:
    """ENV of a stage and of those it is built on."""
    steps = [step for stage in ancestry(stages, name) for step in stage.all("ENV")]
    return {key: value for step in steps for key, value in step.pairs().items()}


def _steps(text: str) -> Iterator[Step]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword:
            yield Step(keyword.upper(), rest.strip())


def _expanded(text: str, arguments: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: arguments[match[1] or match[2]], text)
