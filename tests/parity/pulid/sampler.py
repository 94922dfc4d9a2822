"""`sampler_dpmpp_sde`: sigmas, the way of one run with given noise, and the Brownian path of several seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from models.pulid_lightning import sampler
from tests.parity.pulid.vector import Vector
from tests.parity.report import Row, exact

Pair = tuple[float, float]


class Recorder:
    """A denoiser with a known formula, and a source of noise, that write down what they are asked."""

    def __init__(self, noise: sampler.Noise) -> None:
        """Take noise from `noise`."""
        self._noise = noise
        self.inputs: list[Tensor] = []
        self.denoised: list[Tensor] = []
        self.sigmas: list[float] = []
        self.draws: list[Tensor] = []
        self.pairs: list[Pair] = []
        self.steps: list[Pair] = []

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The vectors' toy denoiser."""
        spread = 1 + sigma**2
        self.inputs.append(x)
        self.sigmas.append(float(sigma))
        self.denoised.append(x / spread + 0.5 * torch.sin(2 * x / spread.sqrt()))
        return self.denoised[-1]

    def noise(self, start: Tensor, end: Tensor) -> Tensor:
        """Noise for the way from `start` to `end`."""
        self.pairs.append((float(start), float(end)))
        self.draws.append(self._noise(start, end))
        return self.draws[-1]

    def run(self, latents: Tensor, sigmas: Tensor) -> Tensor:
        """The project's sampler with this denoiser and this noise."""
        return sampler.sample(
            self.denoise, latents, sigmas, self.noise, lambda step, total: self.steps.append((step, total))
        )


def check(vector: Vector) -> Iterator[Row]:
    """Everything the vector holds."""
    yield from _schedule(vector)
    yield from _trace(vector)
    for prefix in sorted({key.rpartition(".")[0] for key in vector.under("brownian.")}):
        yield from _brownian(vector, f"brownian.{prefix}")


def _schedule(vector: Vector) -> Iterator[Row]:
    table = sampler.training_sigmas()
    yield vector.close("sigmas_table", table)
    yield vector.close("log_sigmas_table", table.log())
    yield vector.close("karras4", sampler.karras_sigmas(sampler.STEPS))
    yield vector.close("karras8", sampler.karras_sigmas(8))
    timesteps = [sampler.timestep_of(sigma.cpu()) for sigma in vector.tensors["eval_sigmas"]]
    yield exact("eval_timesteps", timesteps, vector.facts["eval_timesteps"])
    golden = vector.facts["ancestral_from_to_down_up"]
    ours = [[float(sigma) for sigma in sampler.ancestral(*torch.tensor(row[:2]))] for row in golden]
    yield vector.close("ancestral down and up", ours, [row[2:] for row in golden])


def _trace(vector: Vector) -> Iterator[Row]:
    draws = iter(vector.tensors["trace.noise_draws"])
    recorder = Recorder(lambda _start, _end: next(draws))
    yield vector.close("trace.out", recorder.run(vector.tensors["trace.x_init"], sampler.karras_sigmas(sampler.STEPS)))
    yield vector.close("eval_sigmas", recorder.sigmas)
    yield vector.close("noise sigmas", recorder.pairs, vector.facts["trace_noise_calls_sigma_pairs"])
    total = len(recorder.inputs)
    yield exact("evaluations", recorder.steps, [(step, total) for step in range(1, total + 1)])
    for number, x in enumerate(recorder.inputs):
        yield vector.close(f"trace.eval{number}.x", x)
    for step, denoised in enumerate(recorder.denoised[::2]):
        yield vector.close(f"trace.denoised_step{step}", denoised)
        yield vector.close(f"trace.x_step{step}", recorder.inputs[2 * step])


def _brownian(vector: Vector, prefix: str) -> Iterator[Row]:
    shape = tuple(vector.tensors[f"{prefix}.init_noise"].shape)
    seed = int(re.search(r"seed(\d+)", prefix)[1])
    sigmas = sampler.karras_sigmas(sampler.STEPS)
    unscaled = sampler.initial_latents(shape, seed, torch.tensor(0.0))
    yield exact(f"{prefix}.init_noise", unscaled, vector.tensors[f"{prefix}.init_noise"])
    noise = sampler.precompute_noise(shape, seed, sigmas)
    recorder = Recorder(sampler.PrecomputedNoise(sampler.sigma_steps(sigmas), lambda: noise))
    latents = sampler.initial_latents(shape, seed, sigmas[0]).to(vector.device)
    yield vector.close(f"{prefix}.out", recorder.run(latents, sigmas))
    yield vector.close(f"{prefix}.draws", torch.stack(recorder.draws))
