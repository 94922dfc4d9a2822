"""How many graphs Dynamo makes of the networks, and whether requests of all shapes are served by them.

Narrow networks on the processor, with a backend that counts graphs and runs them as they are: what is counted here
does not depend on the device. A request ends after its first evaluation, for the others are of the same shapes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final
from unittest.mock import patch

import torch
from torch._dynamo.utils import counters
from torch.fx import GraphModule

from bench.full_size.networks import ic_light_parts, ic_light_pipeline, pulid_parts, pulid_pipeline, pulid_unet
from bench.full_size.workloads import FirstStepDone, prepare_ic_light, prepare_pulid, stop_after_one
from bench.report import Row, row
from models.pipeline import Pipeline
from models.runtime.compiler import Compiler
from models.runtime.runner import Execution, Runner

REQUESTS: Final = 100
_WORDS: Final = ("a", "portrait", "of", "someone", "in", "soft", "light", "before", "the", "sea")
_REASON: Final = 400
"""Characters of an error that are told."""
_CPU: Final = torch.device("cpu")


class GraphCounter:
    """A compiler's backend that counts graphs by the function they are of."""

    def __init__(self) -> None:
        """Start from zero: graphs made, and calls of them."""
        self.graphs: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self._function = ""

    @property
    def execution(self) -> Execution:
        """Compiles with this backend; a call that would need another graph is an error."""
        return Execution(compiler=Compiler(backend=self._count), stance="fail_on_recompile")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note for which function's sake graphs are made."""
        with patch.object(Runner, "compile", self._traced(Runner.compile)):
            yield

    def _traced(self, compile_: Callable[..., None]) -> Callable[..., None]:
        def noted(runner: Any, *arguments: Any) -> None:
            self._function = runner.name
            compile_(runner, *arguments)

        return noted

    def _count(self, graph: GraphModule, _inputs: Sequence[Any]) -> Callable[..., Any]:
        name = self._function
        self.graphs[name] += 1

        def run(*inputs: Any) -> Any:
            self.served[name] += 1
            return graph.forward(*inputs)

        return run


def rows() -> Iterator[Row]:
    """Both endpoints, pulid-lightning with two checkpoints."""
    parts = pulid_parts(_CPU, reduced=True)
    other = pulid_unet(_CPU, reduced=True, dtype=torch.float32)
    yield from _counted("pulid-lightning", lambda run: pulid_pipeline(parts, run, {"artistic": other}), random_pulid)
    relighting = ic_light_parts(_CPU, reduced=True)
    yield from _counted("ic-light", lambda run: ic_light_pipeline(relighting, run), random_ic_light)


def _counted(
    name: str, make: Callable[[Execution], Any], prepare: Callable[[Any, random.Random], Any]
) -> Iterator[Row]:
    torch._dynamo.reset()
    counters.clear()
    counter = GraphCounter()
    # These two choose kernels by size, on the processor alone, and the compiler guards what they look at.
    with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False), counter.watching():
        pipeline = make(counter.execution)
        pipeline.warm_up()
        made = dict(counter.graphs)
        unet = made.pop("predict_noise", 0)
        yield row(f"{name}: graphs of the UNet", unet, "graphs", "<= 2")
        yield row(f"{name}: graphs of the VAE's halves", sum(made.values()), "graphs")
        failures = _failures(pipeline, prepare, counter)
        added = counter.graphs.total() - sum(made.values()) - unet
        yield row(f"{name}: graphs added by requests, {len(pipeline.variants)} variants", added, "graphs", "== 0")
    note = failures[0] if failures else "sizes, pictures, texts and all else that may differ, at random"
    yield row(f"{name}: of {REQUESTS} random requests not served by them", len(failures), "requests", "== 0", note)
    yield row(f"{name}: graph breaks", sum(counters["graph_break"].values()), "breaks", "== 0")


def _failures(
    pipeline: Pipeline[Any, Any], prepare: Callable[[Any, random.Random], Any], counter: GraphCounter
) -> list[str]:
    """Why requests were not served by the UNet's graphs."""
    chance, reasons = random.Random(0), []
    for _ in range(REQUESTS):
        before = counter.served["predict_noise"]
        try:
            with suppress(FirstStepDone):
                pipeline.run([prepare(pipeline, chance)], stop_after_one)
        except RuntimeError as error:
            reasons.append(" ".join(str(error).split())[:_REASON])
        else:
            reasons += [] if counter.served["predict_noise"] > before else ["not compiled"]
    return reasons


def random_pulid(pipeline: Any, chance: random.Random, largest: int = 448) -> Any:
    """A request of any size from 256 to `largest` px, any style and checkpoint, up to 3 images and long prompts."""
    return prepare_pulid(
        pipeline,
        width=chance.randrange(256, largest + 1, 8),
        height=chance.randrange(256, largest + 1, 8),
        number_of_images=chance.choice((1, 1, 1, 2, 3)),
        prompt=_text(chance),
        negative_prompt=_text(chance),
        face_style=chance.choice(("high-fidelity", "stylized")),
        checkpoint_model=chance.choice(pipeline.variants),
        seed=chance.randrange(2**32),
    )


def random_ic_light(pipeline: Any, chance: random.Random, largest: int = 448) -> Any:
    """A request of any size from 256 to `largest` px, with or without guidance and light source, up to 3 images."""
    return prepare_ic_light(
        pipeline,
        width=chance.randrange(256, largest + 1, 64),
        height=chance.randrange(256, largest + 1, 64),
        number_of_images=chance.choice((1, 1, 1, 2, 3)),
        prompt=_text(chance),
        negative_prompt=_text(chance),
        cfg=chance.choice((1, 2, 2, 7)),
        light_source=chance.choice(("None", "Left Light")),
        steps=chance.randrange(2, 30),
        seed=chance.randrange(2**32),
    )


def _text(chance: random.Random) -> str:
    return " ".join(chance.choices(_WORDS, k=chance.choice((0, 5, 20, 100, 160))))
