"""What a worker compiles and captures before it is ready: the calls that the pipelines' own warm-ups make.

The pipelines run over networks of the meta device, which have shapes and no memory, so that full size costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal
from unittest.mock import patch

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from bench.counts.counting import META, ReadAsZero
from bench.full_size.networks import (
    ic_light_parts,
    ic_light_pipeline,
    make,
    projections,
    pulid_parts,
    pulid_pipeline,
)
from models.pipeline import Pipeline
from models.runtime.compiler import Compiler
from models.runtime.precision import Precision
from models.runtime.runner import Execution, Runner
from models.runtime.tree import Pytree
from tests.lowering.counts import Model, Network

Kind = Literal["compile", "capture", "call"]


@dataclass(frozen=True)
class WarmUpCall:
    """One call of a runner during the warm-up: to compile for two examples, to capture, or to be evaluated."""

    runner: Runner[Any]
    kind: Kind
    network: Any
    examples: tuple[tuple[Pytree, ...], ...]

    @property
    def function(self) -> str:
        """Name of the runner's function."""
        return self.runner.name

    @property
    def compiled(self) -> bool:
        """Whether the runner compiles what it captures."""
        return self.runner._execution.compiler is not None

    @property
    def name(self) -> str:
        """Function and kind."""
        return f"{self.function}:{self.kind}"


def warm_up_calls(make: Callable[[Execution], Pipeline[Any, Any]]) -> list[WarmUpCall]:
    """What a pipeline compiles, captures and evaluates in its warm-up, in order; `make` wraps it around networks."""
    # Not eager, so that the warm-up does its work; nothing reaches the compiler.
    pipeline = make(Execution(Compiler()))
    with _recorded() as calls, ReadAsZero(), torch.inference_mode():
        pipeline.warm_up()
    return calls


def pipeline_of(model: Model, network: Network, precision: Precision) -> Callable[[Execution], Pipeline[Any, Any]]:
    """A maker for `warm_up_calls`: the model's pipeline on the meta device."""
    reduced = network == "reduced"
    if model == "pulid-lightning":
        parts = pulid_parts(META, reduced, precision)
        if reduced:
            unet, vae = _with_few_layers(parts.unet), _with_one_block(parts.vae)
            parts = replace(parts, unet=unet, vae=vae, projections=projections(unet, precision.half))
        return lambda execution: pulid_pipeline(parts, execution)
    relighting = ic_light_parts(META, reduced, precision)
    if reduced:
        unet, vae = _with_few_layers(relighting.unet), _with_one_block(relighting.vae)
        relighting = replace(relighting, unet=unet, vae=vae)
    # The meta device has no random numbers.
    return lambda execution: ic_light_pipeline(relighting, execution, cpu_noise=True)


def _with_few_layers(unet: Any) -> Any:
    """A UNet's first and third level, with one residual block a level instead of two."""
    config = unet.config

    def ends(values: Sequence[Any]) -> list[Any]:
        return [values[0], values[2]]

    heads = config.attention_head_dim
    few = {
        "attention_head_dim": heads if isinstance(heads, int) else ends(heads),
        "block_out_channels": ends(config.block_out_channels),
        "down_block_types": [config.down_block_types[0], config.down_block_types[2]],
        "layers_per_block": 1,
        "transformer_layers_per_block": 1,
        "up_block_types": [config.up_block_types[-3], config.up_block_types[-1]],
    }
    return make(lambda: UNet2DConditionModel.from_config({**config, **few}), META, unet.dtype)


def _with_one_block(vae: Any) -> Any:
    """A VAE with one residual block a level instead of two."""
    return make(lambda: AutoencoderKL.from_config({**vae.config, "layers_per_block": 1}), META, vae.dtype)


@contextmanager
def _recorded() -> Iterator[list[WarmUpCall]]:
    calls: list[WarmUpCall] = []

    def compile_(runner: Any, network: Any, inputs: Sequence[Pytree], others: Sequence[Pytree]) -> None:
        calls.append(WarmUpCall(runner, "compile", network, (tuple(inputs), tuple(others))))

    def capture(runner: Any, network: Any, *inputs: Pytree) -> None:
        calls.append(WarmUpCall(runner, "capture", network, (inputs,)))

    def call(runner: Any, network: Any, *inputs: Pytree) -> Any:
        calls.append(WarmUpCall(runner, "call", network, (inputs,)))
        return runner._function(network, *inputs)

    with patch.multiple(Runner, compile=compile_, capture=capture, __call__=call):
        yield calls
