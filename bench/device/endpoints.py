"""The two endpoints as `bench.gpu` measures them: ours, the baselines, and the least work, for any number of pictures.

The baselines have networks of their own with the same weights: laid out in memory as the libraries do it, and with the
VAE in the precision that each way has.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Final, Literal

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from bench.counts import roofline
from bench.counts.roofline_small import rmbg
from bench.counts.tracing import Call
from bench.full_size import baseline_ic_light, baseline_pulid
from bench.full_size.networks import (
    ic_light_parts,
    ic_light_pipeline,
    pulid_parts,
    pulid_pipeline,
    pulid_unet,
)
from bench.full_size.workloads import ic_light_request, ignore_step, prepare_ic_light, prepare_pulid, pulid_request
from models.ic_light.pipeline import IcLight
from models.pipeline import Pipeline
from models.pulid_lightning.adapter import place_projections
from models.pulid_lightning.pipeline import PulidLightning
from models.runtime.runner import Execution

Way = Literal["reference", "diffusers"]
WAYS: Final[tuple[Way, ...]] = ("reference", "diffusers")
Work = Callable[[], Any]
Compilation = Callable[[Any], Callable[..., Any]]
"""Compiles a network or a function of one."""


class Endpoint(ABC):
    """One endpoint with random weights on a device."""

    name: str
    full_size_goals: ClassVar[Mapping[str, str]]
    """Goals of rows, by the end of their names."""
    pipeline: Pipeline[Any, Any]
    """Ours."""
    unet: Any
    """Ours, of the checkpoint that a default request asks for."""

    def __init__(self, device: torch.device, reduced: bool, execution: Execution) -> None:
        """Make the networks."""
        self.device, self.reduced, self.execution = device, reduced, execution

    @abstractmethod
    def prepare(self, **changes: Any) -> Any:
        """A default request but for `changes`."""

    @abstractmethod
    def latents(self, way: Way, prepared: Any, unet: Any) -> list[Tensor]:
        """What a baseline draws with `unet`, float32: the latents of every pass."""

    @abstractmethod
    def request(self, way: Way, prepared: Any) -> Work:
        """A whole request, text and face known, by a baseline."""

    @abstractmethod
    def compiled_request(self, prepared: Any, compilation: Compilation) -> Work:
        """A whole request by `diffusers` with UNet and VAE compiled, channels-last."""

    @abstractmethod
    def evaluation(self, way: Way, prepared: Any, call: Call) -> Work:
        """What a baseline does for one evaluation of ours."""

    @abstractmethod
    def least(self, pictures: int) -> int:
        """FLOP of a request whose text and face are known."""

    @abstractmethod
    def least_evaluation(self, height: int, width: int) -> int:
        """FLOP of an evaluation for both branches at latents of that size."""

    def goal(self, end: str) -> str | None:
        """The goal of rows whose names end so; narrow networks have none, for they are too small to keep busy."""
        return None if self.reduced else self.full_size_goals.get(end)

    def run(self, *prepared: Any) -> Work:
        """Ours, several requests in one batch."""
        return lambda: self.pipeline.run(prepared, ignore_step)

    @cached_property
    def plain_unets(self) -> dict[Way, Any]:
        """A UNet for each baseline; both have the same weights in memory once."""
        first = plain_copy(self.unet)
        second = copy.deepcopy(first, {id(weight): weight for weight in first.parameters()})
        return dict(zip(WAYS, (first, second), strict=True))


class PulidEndpoint(Endpoint):
    """`pulid-lightning`."""

    name = "pulid-lightning"
    pipeline: PulidLightning
    full_size_goals: ClassVar[Mapping[str, str]] = {
        "evaluation / roofline": "<= 1.8",
        "ours / roofline": "<= 1.8",
        "reference / ours": ">= 2.5",
        "diffusers / ours": ">= 1.8",
        "diffusers_compiled / ours": ">= 1",
        "of 8 / of 1": "<= 0.95",
        "a new face": "<= 40",
        "a change of checkpoint": "<= 1",
        "latents, ours / diffusers": "<= 1",
        "first / second": "<= 1.3",
    }

    def __init__(self, device: torch.device, reduced: bool, execution: Execution) -> None:
        """Make the networks, the UNet of a second checkpoint too."""
        super().__init__(device, reduced, execution)
        self.parts = pulid_parts(device, reduced)
        second = pulid_unet(device, reduced, self.parts.unet.dtype)
        self.pipeline = pulid_pipeline(self.parts, execution, {"artistic": second})
        self.unet = self.parts.unet

    def prepare(self, **changes: Any) -> Any:
        """A default request but for `changes`."""
        return prepare_pulid(self.pipeline, self.reduced, **changes)

    def latents(self, way: Way, prepared: Any, unet: Any) -> list[Tensor]:
        """Of the one pass."""
        request = pulid_request(self.parts, prepared)
        request = baseline_pulid.PulidRequest(
            **{**vars(request), "tokens": request.tokens.to(unet.dtype), "pooled": request.pooled.to(unet.dtype)}
        )
        projections = place_projections(self.parts.projections, self.device, unet.dtype)
        baseline_pulid.install(unet, projections, wide=way == "reference")
        return [baseline_pulid.draw_latents(baseline_pulid.batched(unet, request), request)]

    def request(self, way: Way, prepared: Any) -> Work:
        """`reference` with a VAE in float32, `diffusers` with one like ours."""
        request, unet, vae = pulid_request(self.parts, prepared), self._installed(way), self._vaes[way]
        predict = (baseline_pulid.separate if way == "reference" else baseline_pulid.batched)(unet, request)
        return lambda: baseline_pulid.decode(vae, baseline_pulid.draw_latents(predict, request))

    def compiled_request(self, prepared: Any, compilation: Compilation) -> Work:
        """Timesteps are tensors on the device: as numbers each would be compiled anew."""
        unet, vae = channels_last(self._installed("diffusers")), channels_last(self._vaes["diffusers"])
        request, compiled = pulid_request(self.parts, prepared), compilation(unet)
        timesteps = [torch.tensor(step, device=self.device) for step in range(1000)]
        predict = baseline_pulid.batched(
            lambda latents, step, **named: compiled(latents, timesteps[step], **named), request
        )
        vae.decode = compilation(vae.decode)
        return lambda: baseline_pulid.decode(vae, baseline_pulid.draw_latents(predict, request))

    def evaluation(self, way: Way, prepared: Any, call: Call) -> Work:
        """Both branches, with `reference` one after the other."""
        request, unet = pulid_request(self.parts, prepared), self._installed(way)
        predict = (baseline_pulid.separate if way == "reference" else baseline_pulid.batched)(unet, request)
        latents = call.inputs[0].chunk(2)[0]
        return lambda: predict(latents, 500)

    def least(self, pictures: int) -> int:
        """See `bench.counts.roofline.pulid_cached`."""
        width, height = self.prepare().params.output_size
        request = roofline.Request({(height // 8, width // 8): 7}, pictures)
        configs = roofline.pulid_configs(self.parts)
        return roofline.pulid_cached(configs["unet"], configs["vae"], request)

    def least_evaluation(self, height: int, width: int) -> int:
        """With 10 ID tokens."""
        return 2 * roofline.evaluation(self.parts.unet.config, height, width, 77, 10)

    def _installed(self, way: Way) -> Any:
        unet = self.plain_unets[way]
        baseline_pulid.install(unet, self.parts.projections, wide=way == "reference")
        return unet

    @cached_property
    def _vaes(self) -> dict[Way, Any]:
        return {"reference": plain_vae(self.parts.vae).float(), "diffusers": plain_vae(self.parts.vae)}


class IcLightEndpoint(Endpoint):
    """`ic-light`."""

    name = "ic-light"
    pipeline: IcLight
    full_size_goals: ClassVar[Mapping[str, str]] = {
        "ours / roofline": "<= 2.0",
        "diffusers / ours": ">= 2",
        "diffusers_compiled / ours": ">= 1",
        "of 8 / of 1": "<= 0.8",
        "latents, ours / diffusers": "<= 1",
        "first / second": "<= 1.3",
    }

    def __init__(self, device: torch.device, reduced: bool, execution: Execution) -> None:
        """Make the networks."""
        super().__init__(device, reduced, execution)
        self.parts = ic_light_parts(device, reduced)
        self.pipeline = ic_light_pipeline(self.parts, execution)
        self.unet = self.parts.unet

    def prepare(self, **changes: Any) -> Any:
        """A default request but for `changes`."""
        return prepare_ic_light(self.pipeline, self.reduced, **changes)

    def latents(self, way: Way, prepared: Any, unet: Any) -> list[Tensor]:
        """Of both passes."""
        request = ic_light_request(self.parts, prepared)
        first: list[Tensor] = []
        final = baseline_ic_light.relight(
            baseline_ic_light.Parts(unet, unet.dtype, self._vaes[way], self.parts.matting), request, first
        )
        return [*first, final]

    def request(self, way: Way, prepared: Any) -> Work:
        """`reference` with a VAE in float32, `diffusers` with one like ours."""
        request, vae = ic_light_request(self.parts, prepared), self._vaes[way]
        parts = baseline_ic_light.Parts(self.plain_unets[way], self.unet.dtype, vae, self.parts.matting)
        return lambda: baseline_ic_light.decode(vae, baseline_ic_light.relight(parts, request))

    def compiled_request(self, prepared: Any, compilation: Compilation) -> Work:
        """Matting is compiled neither here nor there."""
        unet, vae = channels_last(self.plain_unets["diffusers"]), channels_last(self._vaes["diffusers"])
        vae.encode, vae.decode = compilation(vae.encode), compilation(vae.decode)
        parts, request = (
            baseline_ic_light.Parts(compilation(unet), unet.dtype, vae, self.parts.matting),
            ic_light_request(self.parts, prepared),
        )
        return lambda: baseline_ic_light.decode(vae, baseline_ic_light.relight(parts, request))

    def evaluation(self, way: Way, prepared: Any, call: Call) -> Work:
        """One call for both branches."""
        text, unet = ic_light_request(self.parts, prepared).text, self.plain_unets[way]
        batch, timestep = call.inputs[0], torch.tensor(500, device=self.device)
        texts = text.repeat_interleave(len(batch) // 2, 0)
        return lambda: unet(batch, timestep, encoder_hidden_states=texts, return_dict=False)

    def least(self, pictures: int) -> int:
        """See `bench.counts.roofline.ic_light`; without the matting network, a thousandth, where that is narrow."""
        prepared = self.prepare()
        sizes = [(height // 8, width // 8) for width, height in self._sizes(prepared.params)]
        steps = [step_range.evaluations for step_range in prepared.step_ranges]
        request = roofline.Request(dict(zip(sizes, steps, strict=True)), pictures)
        text = self.parts.text_encoder.config.to_dict()
        unet, vae, matted = self.unet.config, self.parts.vae.config, prepared.matting_feed.shape[:2]
        known = 2 * roofline.text_encoder(text) + (rmbg(*matted) if self.reduced else 0)
        return roofline.ic_light(unet, vae, text, request, matted) - known

    def least_evaluation(self, height: int, width: int) -> int:
        """For text alone."""
        return 2 * roofline.evaluation(self.parts.unet.config, height, width, 77)

    @staticmethod
    def _sizes(params: Any) -> tuple[tuple[int, int], tuple[int, int]]:
        return (params.width, params.height), params.output_size

    @cached_property
    def _vaes(self) -> dict[Way, Any]:
        return {"reference": plain_vae(self.parts.vae).float(), "diffusers": plain_vae(self.parts.vae)}


def channels_last(network: Any) -> Any:
    """A copy whose convolutions' weights lie as tensor cores read them."""
    return copy.deepcopy(network).to(memory_format=torch.channels_last)


def plain_copy(network: Any) -> Any:
    """The same weights once more, as the libraries lay them out in memory, with the libraries' own attention."""
    copied = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    if hasattr(copied, "set_attn_processor"):
        copied.set_attn_processor(AttnProcessor2_0())
    return copied


def plain_vae(vae: Any) -> Any:
    """The same for a VAE, with the library's own attention."""
    plain = plain_copy(vae)
    plain.set_attn_processor(AttnProcessor2_0())
    return plain
