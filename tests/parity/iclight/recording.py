"""Watching the pipeline at work: what its stages were given and what they gave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from models.ic_light import pipeline, vae
from models.ic_light import sampling as loop
from models.ic_light.sampling import Conditions, Noise
from models.outcomes import Decoded


@dataclass(frozen=True)
class Walk:
    """One pass through the denoise loop: `first_*` are of the UNet's first evaluation, `steps` is [evaluations, …]."""

    conditions: Conditions
    first_input: Tensor
    first_text: Tensor
    first_output: Tensor
    steps: Tensor
    latents: Tensor


def walk(unet: Any, scheduler: Any, latents: Tensor, conditions: Conditions, noise: Noise, on_step: Any) -> Walk:
    """Run the project's denoise loop and keep what passes through it."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    steps: list[Tensor] = []
    take_step = scheduler.step

    def keep_call(network: Any, batch: Tensor, shift: Tensor, contexts: Any) -> Tensor:
        outputs.append(loop.predict_noise(network, batch, shift, contexts))
        inputs.append(batch)
        return outputs[-1]

    def keep_step(*given: Any, **named: Any) -> Any:
        result = take_step(*given, **named)
        steps.append(result.prev_sample)
        return result

    scheduler.step = keep_step
    last = loop.denoise(keep_call, unet, scheduler, latents, conditions, noise, on_step)
    return Walk(conditions, inputs[0], conditions.texts, outputs[0], steps=torch.stack(steps), latents=last)


@dataclass
class Run:
    """A whole request: both passes, every draw, decoded pictures, shapes of what the VAE was given, in order."""

    walks: list[Walk] = field(default_factory=list)
    draws: list[Tensor] = field(default_factory=list)
    decoded: list[Decoded] = field(default_factory=list)
    encoder_inputs: list[list[int]] = field(default_factory=list)
    decoder_inputs: list[list[int]] = field(default_factory=list)


@contextmanager
def recording(vae_network: Any) -> Iterator[Run]:
    """Keep what the pipeline does meanwhile; it runs as it is."""
    run = Run()
    draw, decode = Noise.draw, vae.decode

    def keep_walk(_predict: Any, *given: Any) -> Tensor:
        run.walks.append(walk(*given))
        return run.walks[-1].latents

    def keep(results: list[Any], function: Any) -> Any:
        def call(*given: Any) -> Any:
            results.append(function(*given))
            return results[-1]

        return call

    def keep_shape(shapes: list[list[int]]) -> Any:
        return lambda _network, given: shapes.append(list(given[0].shape))

    hooks = (
        vae_network.encoder.register_forward_pre_hook(keep_shape(run.encoder_inputs)),
        vae_network.decoder.register_forward_pre_hook(keep_shape(run.decoder_inputs)),
    )
    try:
        with (
            patch.object(pipeline, "denoise", keep_walk),
            patch.object(Noise, "draw", keep(run.draws, draw)),
            patch.object(vae, "decode", keep(run.decoded, decode)),
        ):
            yield run
    finally:
        for hook in hooks:
            hook.remove()
