"""IC-Light: two denoise passes around an enlargement (IC-Light specification section 0)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from models.errors import InputRefused, NonFiniteResult
from models.ic_light import prompt, vae
from models.ic_light.conditioning import cut_out, light_gradient, resize_and_center_crop, to_rgb
from models.ic_light.networks import Networks, load_networks, network_needs
from models.ic_light.options import Options
from models.ic_light.params import Params
from models.ic_light.sampling import (
    BatchNoise,
    Conditions,
    Noise,
    StepRange,
    add_noise,
    denoise,
    full_range,
    make_scheduler,
    partial_range,
    predict_noise,
)
from models.ic_light.warm_up import WarmUp, default_params
from models.imaging.decode import decode
from models.imaging.png_encoder import encode_png
from models.imaging.resample import resample
from models.lru import LRUCache
from models.model import MemoryNeed
from models.outcomes import non_finite, outcomes
from models.pipeline import ExecutionReport, OnStep, Outcome, Pipeline
from models.runtime.precision import accumulate_in_half, serving_precision
from models.runtime.runner import EAGER, Execution, Runner, execution_for, execution_report, throttled
from models.runtime.stage_clock import StageClock
from models.weights.installed import WeightSet

_DEFAULT_OPTIONS: Final = Options()
_FINITE_STAGES: Final = (
    "the subject's alpha",
    "the latents of the first pass",
    "the decoded picture of the first pass",
    "the latents of the second pass",
    "the decoded picture of the second pass",
)
_IMAGES: Final = {"foreground": ("subject_image",), "background": ("subject_image", "background_image")}
"""The image fields of each variant."""
_WARM_UP_SIDE: Final = 64
_TEXT_CACHE_SIZE: Final = 64
"""Embeddings cached on the device, 0.1 MB for every 75 tokens."""


@dataclass(frozen=True)
class Prepared:
    """Everything that the CPU computes for a request; images are uint8 [height, width, 3], page-locked for CUDA.

    `matting_feed`: what the CPU computes for matting. `gradient`: start image of pass 1, None to start
    from noise. `backgrounds`: for the 12-channel UNet, the background cropped for each pass.
    """

    params: Params
    subject: Tensor
    matting_feed: Tensor
    gradient: Tensor | None
    backgrounds: tuple[Tensor, ...] | None
    positive: prompt.Chunks
    negative: prompt.Chunks

    @property
    def step_ranges(self) -> tuple[StepRange, StepRange]:
        """The steps of the noise schedule that each pass takes (section 9)."""
        steps = self.params.steps
        first = full_range(steps) if self.gradient is None else partial_range(steps, self.params.lowres_denoise)
        return first, partial_range(steps, self.params.highres_denoise)

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(width, height) in px of each pass."""
        return (self.params.width, self.params.height), self.params.output_size


@dataclass(frozen=True)
class Batch:
    """Inputs that both passes of a run share. Lists have one entry per request, in order.

    `cond_images`: for each pass, the uint8 images that condition the UNet: the subject on grey, then the background if
    there is one. `texts`: (positive, negative) embeddings, [1, tokens, width] each. `counts`: numbers of images.
    `non_finite`: bool [images, 1], whether alpha has inf or nan. `on_step` counts the steps of both passes.
    """

    unet: Any
    cond_images: list[list[tuple[Tensor, ...]]]
    texts: list[tuple[Tensor, Tensor]]
    counts: list[int]
    non_finite: Tensor
    guidance: float
    noise: BatchNoise
    on_step: Callable[[], None]


class IcLight(Pipeline[Params, Prepared]):
    """The loaded model. The only state between calls is the cache of text embeddings."""

    def __init__(self, networks: Networks, options: Options = _DEFAULT_OPTIONS, execution: Execution = EAGER) -> None:
        """Wrap loaded networks; see `load`."""
        self._predict = Runner(predict_noise, execution)
        self._encode, self._decode = Runner(vae.encode_pictures, execution), Runner(vae.decode_picture, execution)
        # Not compiled: in a graph its launches are free.
        self._encode_text = Runner(prompt.final_states, replace(execution, compiler=None))
        self._networks = networks
        self._is_eager = execution == EAGER
        self._clock = StageClock(networks.device)
        self._texts: LRUCache[Tensor] = LRUCache(_TEXT_CACHE_SIZE)
        self._noise_source = torch.device("cpu") if options.cpu_noise else networks.device

    @property
    def variants(self) -> tuple[str, ...]:
        """`foreground`, and `background` if the 12-channel UNet is loaded."""
        return Params.variants if self._networks.background_unet is not None else ("foreground",)

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> Prepared:
        """Decode the images, crop the background, tokenise the prompts, make the light gradient (sections 1, 4, 6).

        Raises `UnreadableImage`, and `InputRefused` for a background if the 12-channel UNet is not loaded.
        """
        subject = torch.from_numpy(to_rgb(decode(images["subject_image"])))
        gradient = light_gradient(params.light_source, params.width, params.height)
        tokenizer = self._networks.tokenizer
        prepared = Prepared(
            params=params,
            subject=self._pinned(subject),
            matting_feed=self._pinned(self._networks.matting.to_feed(subject)),
            gradient=None if gradient is None else self._pinned(torch.from_numpy(gradient)),
            backgrounds=None,
            positive=prompt.tokenise(tokenizer, prompt.positive_prompt(params)),
            negative=prompt.tokenise(tokenizer, params.negative_prompt),
        )
        if params.background_image is None:
            return prepared
        if self._networks.background_unet is None:
            raise InputRefused("background_image cannot be served: the weights for it are not loaded.")
        background = torch.from_numpy(to_rgb(decode(images["background_image"])))
        cropped = tuple(self._pinned(resize_and_center_crop(background, *size)) for size in prepared.sizes)
        # The background conditions the UNet only: pass 1 starts from noise.
        return replace(prepared, gradient=None, backgrounds=cropped)

    def batch_key(self, prepared: Prepared) -> Hashable:
        """Sizes, step ranges, guidance, start image or not, UNet, and the length of the texts in chunks."""
        params = prepared.params
        chunks = max(len(prepared.positive), len(prepared.negative))
        kind = prepared.gradient is None, prepared.backgrounds is None
        return prepared.sizes, prepared.step_ranges, params.cfg, kind, chunks

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Compile for all sizes, capture the graphs of a default request, and run one of each variant."""
        if self._is_eager:
            return
        warm_up = WarmUp(self._networks, self._encode_text, self._predict, self._encode, self._decode)
        warm_up.compile()
        warm_up.capture()
        # All stages: what is slow or fails the first time, such as matting, must not meet a caller.
        picture = encode_png(np.zeros((_WARM_UP_SIDE, _WARM_UP_SIDE, 3), np.uint8))
        for variant in self.variants:
            images = dict.fromkeys(_IMAGES[variant], picture)
            params = default_params().model_copy(update={"steps": 1, **dict.fromkeys(images, "-")})
            self.run([self.prepare(params, images)], lambda _step, _total: None)

    @property
    def execution(self) -> ExecutionReport:
        """How the UNet is executed, and what of the UNet, the VAE and the text encoder is slower than was chosen."""
        return execution_report(self._predict, self._encode, self._decode, self._encode_text)

    @property
    def stage_intervals(self) -> list[tuple[str, float, float]]:
        """See `Pipeline.stage_intervals`."""
        return self._clock.intervals

    @torch.inference_mode()
    def run(self, batch: Sequence[Prepared], on_step: OnStep) -> list[Outcome]:
        """Matting and text encoding, pass 1, enlargement, pass 2 (section 0)."""
        networks, clock, (first, second) = self._networks, self._clock, batch[0].step_ranges
        total = first.evaluations + second.evaluations
        clock.start("encode")
        inputs = self._prepare_batch(batch, _counter(throttled(on_step, networks.device), total))

        # Pass 1 (section 9): from noise, or image to image from the light gradient.
        positive, negative = (expand(texts, inputs.counts) for texts in zip(*inputs.texts, strict=True))
        cond_latents = self._encode_conditions(inputs, 0).to(positive.dtype)
        conditions = Conditions(cond_latents, positive, negative, inputs.guidance)
        gradients = [request.gradient for request in batch if request.gradient is not None]
        start = expand(torch.split(self._encode_images(gradients), 1), inputs.counts) if gradients else None
        clock.enter("denoise")
        latents = self._denoise(first, start, conditions, inputs)
        clock.enter("decode")
        lowres = vae.decode(self._decode, networks.vae, latents)

        # Enlargement (section 10). The foreground is cropped again at the new size, not stretched as the image is: the
        # two may differ by up to 32 px per side.
        clock.enter("encode")
        enlarged = [resample(image, *batch[0].sizes[1]) for image in lowres.pictures]
        conditions = replace(conditions, cond_latents=self._encode_conditions(inputs, 1).to(positive.dtype))

        # Pass 2 (section 11): image to image from the enlarged result.
        start = self._encode_images(enlarged)
        clock.enter("denoise")
        latents = self._denoise(second, start, conditions, inputs)
        clock.enter("decode")
        highres = vae.decode(self._decode, networks.vae, latents)

        non_finite_stages = torch.cat((inputs.non_finite, lowres.non_finite, highres.non_finite), 1)
        results = outcomes(highres.pictures, non_finite_stages, _FINITE_STAGES, inputs.counts)
        clock.stop()
        if any(isinstance(result, NonFiniteResult) for result in results):
            self._texts.clear()  # a transient device fault must not stay in a cached embedding
        return results

    def _prepare_batch(self, requests: Sequence[Prepared], on_step: Callable[[], None]) -> Batch:
        """Matting, subjects on grey at both sizes, text embeddings and noise streams (sections 2, 3, 6 and 12)."""
        networks, device = self._networks, self._networks.device
        cond_images: list[list[tuple[Tensor, ...]]] = []
        faults, texts, streams = [], [], []
        for request in requests:
            height, width = request.subject.shape[:2]
            alpha = networks.matting.alpha(request.matting_feed, width, height)
            subjects = cut_out(self._upload(request.subject), alpha, request.sizes)
            layers = [subjects] if request.backgrounds is None else [subjects, list(request.backgrounds)]
            cond_images.append(list(zip(*layers, strict=True)))
            faults.append(non_finite(alpha[None]))
            self._clock.enter("text")
            texts.append(prompt.pair(self._embed(request.positive), self._embed(request.negative)))
            self._clock.enter("encode")
            streams.append(Noise(request.params.seed, request.params.number_of_images, device, self._noise_source))
        counts = [request.params.number_of_images for request in requests]
        return Batch(
            unet=networks.unet if requests[0].backgrounds is None else networks.background_unet,
            cond_images=cond_images,
            texts=texts,
            counts=counts,
            non_finite=expand(faults, counts),
            guidance=requests[0].params.cfg,
            # One stream per request for both passes: pass 2 continues where pass 1 stopped.
            noise=BatchNoise(streams),
            on_step=on_step,
        )

    def _encode_conditions(self, inputs: Batch, number: int) -> Tensor:
        """Latents of the conditioning images of pass `number`, 0 or 1, a row for every image."""
        latents = []
        for images in inputs.cond_images:
            # Foreground and background in one batch, as in the reference: rounding depends on the batch size.
            encoded = self._encode(self._networks.vae, torch.stack([self._upload(image) for image in images[number]]))
            latents.append(encoded.flatten(0, 1)[None])
        return expand(latents, inputs.counts)

    def _denoise(self, steps: StepRange, start: Tensor | None, conditions: Conditions, inputs: Batch) -> Tensor:
        """One pass: latents [n, 4, h, w] from noise, or from the latents `start`, a row for every image (section 9)."""
        scheduler = make_scheduler(steps, self._networks.device)
        # Start noise is sampled in the text embeddings' dtype, as in the reference: another dtype gives other noise.
        latents = inputs.noise.draw(conditions.cond_latents.shape[2:], conditions.cond_latents.dtype)
        if start is not None:
            latents = add_noise(scheduler, start.to(latents.dtype), latents)
        return denoise(self._predict, inputs.unet, scheduler, latents, conditions, inputs.noise, inputs.on_step)

    def _encode_images(self, images: Sequence[Tensor]) -> Tensor:
        return vae.encode(self._encode, self._networks.vae, [self._upload(image) for image in images])

    def _embed(self, chunks: prompt.Chunks) -> Tensor:
        return self._texts.get_or_create(
            str(chunks), lambda: prompt.encode(self._encode_text, self._networks.text_encoder, chunks)
        )

    def _pinned(self, image: Tensor) -> Tensor:
        """The image in page-locked memory for asynchronous uploads, if the device is a GPU."""
        return image.pin_memory() if self._networks.device.type == "cuda" else image

    def _upload(self, image: Tensor) -> Tensor:
        return image.to(self._networks.device, non_blocking=True)


def expand(rows: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Repeat the row [1, …] of each request for its number of images, and concatenate: [images, …]."""
    return torch.cat([row.expand(count, *row.shape[1:]) for row, count in zip(rows, counts, strict=True)])


def unused_roles(_options: Options) -> set[str]:
    """Roles that `load` skips with these options: none."""
    return set()


def memory_needs(weights: WeightSet, device: torch.device, options: Options) -> list[MemoryNeed]:
    """What `load` takes by part, from the headers of the files; raises `WeightsError`."""
    return network_needs(weights, serving_precision(device, options.cpu_precision, weights.kind))


def load(weights: WeightSet, device: torch.device, options: Options = _DEFAULT_OPTIONS) -> IcLight:
    """Load the model onto `device`; raises `WeightsError`, or `DeviceUnfit` for an option that it cannot serve."""
    if options.fp16_accumulation:
        accumulate_in_half(device)
    precision = serving_precision(device, options.cpu_precision, weights.kind)
    return IcLight(load_networks(weights, device, precision), options, execution_for(device, options.compile))


def _counter(on_step: OnStep, total: int) -> Callable[[], None]:
    """A callback without arguments that counts the steps of both passes as 1 to `total`."""
    numbers = count(1)
    return lambda: on_step(next(numbers), total)
