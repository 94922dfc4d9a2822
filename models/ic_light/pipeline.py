"""The stages of IC-Light in order: two denoise passes around an enlargement (IC-Light specification section 0)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from models.errors import InputRefused
from models.execution.runner import EAGER, Execution, Runner, execution_for
from models.ic_light import prompt, vae
from models.ic_light.denoise import Conditions, denoise, predict_noise
from models.ic_light.foreground import composite_on_grey, resize_and_center_crop
from models.ic_light.gradient import light_gradient
from models.ic_light.networks import Networks, load_networks
from models.ic_light.noise import Noise, Noises
from models.ic_light.params import Params
from models.ic_light.scheduler import Span, add_noise, make_scheduler, partial_span, whole_span
from models.ic_light.subject import Rgb, resample, to_rgb
from models.ic_light.warm_up import WarmUp
from models.images import decode
from models.pipeline import DEFAULT_OPTIONS, LoadOptions, OnStep, Pipeline, Pixels
from models.recent import Recent
from models.weights.weight_set import WeightSet

_REMEMBERED_TEXTS: Final = 64
"""How many texts' embeddings are kept on the device, a tenth of a megabyte for every 75 tokens."""


@dataclass(frozen=True)
class Prepared:
    """A request as far as the CPU can bring it.

    `matting_feed` is the subject at the matting network's size; `gradient` the start picture of the first pass, None
    if that starts from noise; `background` a picture of any size for the UNet that sees one.
    """

    params: Params
    subject: Rgb
    matting_feed: Rgb
    gradient: Rgb | None
    background: Rgb | None
    positive: prompt.Chunks
    negative: prompt.Chunks

    @property
    def spans(self) -> tuple[Span, Span]:
        """The parts of the noise schedule that the two passes walk."""
        steps = self.params.steps
        first = whole_span(steps) if self.gradient is None else partial_span(steps, self.params.lowres_denoise)
        return first, partial_span(steps, self.params.highres_denoise)


@dataclass(frozen=True)
class _Scene:
    """What both passes of a run have in common, request by request: pictures, texts, random numbers.

    `pictures`: whole, what the UNet sees of each request. `texts`: embedded, (positive, negative) of each request.
    `counts`: how many pictures each request is to have. `report` is called after every denoise step.
    """

    unet: Any
    pictures: list[list[Rgb]]
    texts: list[tuple[Tensor, Tensor]]
    counts: list[int]
    guidance: float
    noise: Noises
    report: Callable[[], None]

    def rows(self, tensors: Sequence[Tensor]) -> Tensor:
        """One row of each request, [1, …], repeated for its pictures and put together."""
        expanded = (row.expand(count, *row.shape[1:]) for row, count in zip(tensors, self.counts, strict=True))
        return torch.cat(list(expanded))


class IcLight(Pipeline[Params, Prepared]):
    """The loaded model. It keeps nothing of a request but embedded texts: a call that ends early leaves no trace."""

    def __init__(
        self, networks: Networks, options: LoadOptions = DEFAULT_OPTIONS, execution: Execution = EAGER
    ) -> None:
        """Take what `load` has loaded."""
        self._predict = Runner(predict_noise, execution)
        self._encode, self._decode = Runner(vae.encode_picture, execution), Runner(vae.decode_picture, execution)
        self._networks = networks
        self._is_eager = execution == EAGER
        self._texts: Recent[Tensor] = Recent(_REMEMBERED_TEXTS)
        self._noise_source = torch.device("cpu") if options.cpu_noise else networks.device

    @property
    def variants(self) -> tuple[str, ...]:
        """`foreground`, and `background` if the UNet that sees one is loaded."""
        return Params.variants if self._networks.background_unet is not None else ("foreground",)

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> Prepared:
        """Decode the pictures, tokenise the texts, draw the light's gradient.

        Raises `UnreadableImage`, and `InputRefused` for a background that the loaded weights cannot take.
        """
        subject = to_rgb(decode(images["subject_image"]))
        tokenizer = self._networks.tokenizer
        prepared = Prepared(
            params=params,
            subject=subject,
            matting_feed=self._networks.matting.to_feed(subject),
            gradient=light_gradient(params.light_source, params.width, params.height),
            background=None,
            positive=prompt.tokenise(tokenizer, prompt.positive_prompt(params)),
            negative=prompt.tokenise(tokenizer, params.negative_prompt),
        )
        if params.background_image is None:
            return prepared
        if self._networks.background_unet is None:
            raise InputRefused("background_image cannot be served: the weights for it are not loaded.")
        # A background is only ever seen, never the picture that the first pass starts from.
        return replace(prepared, gradient=None, background=to_rgb(decode(images["background_image"])))

    def kinship(self, prepared: Prepared) -> Hashable:
        """Sizes, schedules, guidance, what the UNet sees, and how long the texts are."""
        params = prepared.params
        chunks = max(len(prepared.positive), len(prepared.negative))
        first = prepared.gradient is None, prepared.background is None
        return params.width, params.height, params.output_size, prepared.spans, params.cfg, first, chunks

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Compile for all sizes, and record what a default request needs."""
        if self._is_eager:
            return
        warm_up = WarmUp(self._networks, self._predict, self._encode, self._decode)
        warm_up.compile()
        warm_up.record()

    @torch.inference_mode()
    def run(self, batch: Sequence[Prepared], on_step: OnStep) -> list[Pixels]:
        """Matte the subjects, draw all pictures small, enlarge them, draw them anew at full size."""
        params = batch[0].params
        first_span, second_span = batch[0].spans
        scene = self._set(batch, _counter(on_step, first_span.evaluations + second_span.evaluations))

        conditions = self._conditions(scene, params.width, params.height)
        gradients = [prepared.gradient for prepared in batch if prepared.gradient is not None]
        start = scene.rows(torch.split(self._encode_all(gradients), 1)) if gradients else None
        small = self._draw(first_span, start, conditions, scene)

        # Cut anew from whole pictures, not stretched as the result is: the two may differ by up to 32 px per side.
        width, height = params.output_size
        conditions = self._conditions(scene, width, height)
        start = self._encode_all([resample(picture, width, height) for picture in small])
        return np.split(self._draw(second_span, start, conditions, scene), list(accumulate(scene.counts))[:-1])

    def _set(self, batch: Sequence[Prepared], report: Callable[[], None]) -> _Scene:
        """Do what both passes need done once."""
        networks = self._networks
        return _Scene(
            unet=networks.unet if batch[0].background is None else networks.background_unet,
            pictures=[self._seen(prepared) for prepared in batch],
            texts=[self._embed(prepared) for prepared in batch],
            counts=[prepared.params.number_of_images for prepared in batch],
            guidance=batch[0].params.cfg,
            # One stream for both passes: the second goes on where the first stopped.
            noise=Noises([self._noise(prepared.params) for prepared in batch]),
            report=report,
        )

    def _noise(self, params: Params) -> Noise:
        return Noise(params.seed, params.number_of_images, self._networks.device, self._noise_source)

    def _seen(self, prepared: Prepared) -> list[Rgb]:
        """The subject on grey, and the background if there is one."""
        height, width = prepared.subject.shape[:2]
        alpha = self._networks.matting.alpha(prepared.matting_feed, width, height)
        background = [] if prepared.background is None else [prepared.background]
        return [composite_on_grey(prepared.subject, alpha), *background]

    def _embed(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        def embedded(chunks: prompt.Chunks) -> Tensor:
            return self._texts.get(str(chunks), lambda: prompt.encode(self._networks.text_encoder, chunks))

        return prompt.pair(embedded(prepared.positive), embedded(prepared.negative))

    def _conditions(self, scene: _Scene, width: int, height: int) -> Conditions:
        """Cut and encode what the UNet sees and give every picture its row."""
        positive, negative = (scene.rows(texts) for texts in zip(*scene.texts, strict=True))
        seen = scene.rows([self._latents(pictures, width, height) for pictures in scene.pictures])
        return Conditions(seen.to(positive.dtype), positive, negative, guidance=scene.guidance)

    def _latents(self, pictures: Sequence[Rgb], width: int, height: int) -> Tensor:
        """Latents of the pictures of one request, cut to a size, one behind the other: [1, 4 or 8, h, w]."""
        cut = [resize_and_center_crop(picture, width, height) for picture in pictures]
        return self._encode_all(cut).flatten(0, 1)[None]

    def _encode_all(self, pictures: Sequence[Rgb]) -> Tensor:
        return vae.encode(self._encode, self._networks.vae, pictures)

    def _draw(self, span: Span, start: Tensor | None, conditions: Conditions, scene: _Scene) -> Pixels:
        """Denoise one pass and decode it; `start` holds a row for each picture, None is noise."""
        networks = self._networks
        scheduler = make_scheduler(span, networks.device)
        # The start noise is drawn in the text's precision, as the reference does: in another it would differ.
        latents = scene.noise.draw(conditions.seen.shape[2:], conditions.seen.dtype)
        if start is not None:
            latents = add_noise(scheduler, start.to(latents.dtype), latents)
        denoised = denoise(self._predict, scene.unet, scheduler, latents, conditions, scene.noise, scene.report)
        return vae.decode(self._decode, networks.vae, denoised)


def unused_roles(_options: LoadOptions) -> set[str]:
    """No role is left out: what there is, is used."""
    return set()


def load(weights: WeightSet, device: torch.device, options: LoadOptions = DEFAULT_OPTIONS) -> IcLight:
    """Load the model onto `device`; raises `WeightsError`."""
    return IcLight(load_networks(weights, device), options, execution_for(device, options.compile))


def _counter(on_step: OnStep, total: int) -> Callable[[], None]:
    """Count the steps of both passes as one."""
    numbers = count(1)
    return lambda: on_step(next(numbers), total)
