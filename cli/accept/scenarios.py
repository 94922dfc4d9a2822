"""Everything that is asked of a server, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cli.accept.checks import files, repeats
from cli.accept.client import Answer, Ask
from cli.accept.portraits import portrait, portraits
from cli.accept.relighting import relit, scene
from cli.accept.result import Verdict, judged
from cli.accept.scenario import CHECKPOINTS, FIRST_SEED, Group, Judge, Scope, changed, right_sizes
from models.imaging.decode import MEDIA_TYPES


def plan(scope: Scope, health: Mapping[str, Mapping[str, Any]]) -> Iterator[Group]:
    """All groups of the models in `health`, which is what the server says of each."""
    for slug, model in health.items():
        yield from _model(slug, scope) if model["ready"] else (_not_served(slug, model["detail"]),)


def _model(slug: str, scope: Scope) -> Iterator[Group]:
    if slug == "pulid-lightning":
        yield from portraits(scope)
        base = portrait(scope, next(name for name in CHECKPOINTS if name in scope.checkpoints))
    else:
        yield from relit(scope)
        base = scene(scope, scope.photos[0])
    yield _repeats(base)
    yield _formats(base, scope.sizes[slug].other)


def _not_served(slug: str, detail: str) -> Group:
    return Group(slug, "Nothing asked", (), (lambda _answers: judged("Served", False, f"{slug}: {detail}."),))


def _repeats(base: Ask) -> Group:
    asks = (
        changed(base, "one request"),
        changed(base, "the same again"),
        changed(base, "another seed", seed=FIRST_SEED + 1),
        replace(base, caption="the first through v1", version="v1"),
    )
    judges: tuple[Judge, ...] = (
        lambda answers: repeats.same(answers[0].pixels, answers[1].pixels),
        lambda answers: repeats.different(answers[0].pixels, answers[2].pixels),
        lambda answers: repeats.agree(answers[0].pixels, answers[3].pixels, (answers[0].seed, answers[3].seed)),
    )
    return Group(base.slug, "The same request again, another seed, another way to ask", asks, judges)


def _formats(base: Ask, size: Mapping[str, Any]) -> Group:
    asks = tuple(changed(base, name, output_format=name, **size) for name in MEDIA_TYPES)
    judges = tuple(_format(index) for index in range(len(asks)))
    return Group(base.slug, "Every format, in another shape", asks, (*judges, right_sizes))


def _format(index: int) -> Judge:
    def judge(answers: Sequence[Answer]) -> Verdict:
        answer = answers[index]
        return files.right_format(answer.data, answer.media_type, answer.ask.params["output_format"])

    return judge
