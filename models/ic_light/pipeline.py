"""The stages of IC-Light in order: two denoise passes around an enlargement (IC-Light specification section 0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor

from models.errors import InputRefused
from models.ic_light import prompt, vae
from models.ic_light.denoise import Conditions, denoise
from models.ic_light.foreground import composite_on_grey, resize_and_center_crop
from models.ic_light.gradient import light_gradient
from models.ic_light.networks import Networks, load_networks
from models.ic_light.noise import Noise
from models.ic_light.params import Params
from models.ic_light.scheduler import Span, add_noise, make_scheduler, partial_span, whole_span
from models.ic_light.subject import Rgb, resample, to_rgb
from models.images import decode
from models.pipeline import DEFAULT_OPTIONS, LoadOptions, OnStep, Pipeline, Pixels
from models.weights.weight_set import WeightSet


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
    """What both passes of a request have in common: its pictures whole, its texts embedded, its one noise stream.

    `report` is called after every denoise step.
    """

    unet: Any
    pictures: list[Rgb]
    texts: tuple[Tensor, Tensor]
    params: Params
    noise: Noise
    report: Callable[[], None]


class IcLight(Pipeline[Params, Prepared]):
    """The loaded model. It keeps nothing of a request, so that a call which ends early leaves no trace."""

    def __init__(self, networks: Networks, options: LoadOptions = DEFAULT_OPTIONS) -> None:
        """Take what `load` has loaded."""
        self._networks = networks
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

    @torch.inference_mode()
    def run(self, prepared: Prepared, on_step: OnStep) -> Pixels:
        """Matte the subject, draw all pictures small, enlarge them, draw them anew at full size."""
        params, vae_network = prepared.params, self._networks.vae
        first_span, second_span = prepared.spans
        scene = self._set(prepared, _counter(on_step, first_span.evaluations + second_span.evaluations))

        conditions = self._conditions(scene, params.width, params.height)
        start = None if prepared.gradient is None else vae.encode(vae_network, [prepared.gradient])
        small = self._draw(first_span, start, conditions, scene)

        # Cut anew from whole pictures, not stretched as the result is: the two may differ by up to 32 px per side.
        width, height = params.output_size
        conditions = self._conditions(scene, width, height)
        start = vae.encode(vae_network, [resample(picture, width, height) for picture in small])
        return self._draw(second_span, start, conditions, scene)

    def _set(self, prepared: Prepared, report: Callable[[], None]) -> _Scene:
        """Do what both passes need done once."""
        params, networks = prepared.params, self._networks
        seen = [picture for picture in (self._matte(prepared), prepared.background) if picture is not None]
        return _Scene(
            unet=networks.unet if prepared.background is None else networks.background_unet,
            pictures=seen,
            texts=self._embed(prepared),
            params=params,
            # One stream for both passes: the second goes on where the first stopped.
            noise=Noise(params.seed, params.number_of_images, networks.device, self._noise_source),
            report=report,
        )

    def _matte(self, prepared: Prepared) -> Rgb:
        height, width = prepared.subject.shape[:2]
        alpha = self._networks.matting.alpha(prepared.matting_feed, width, height)
        return composite_on_grey(prepared.subject, alpha)

    def _embed(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        encoder = self._networks.text_encoder
        return prompt.pair(prompt.encode(encoder, prepared.positive), prompt.encode(encoder, prepared.negative))

    def _conditions(self, scene: _Scene, width: int, height: int) -> Conditions:
        """Cut and encode what the UNet sees and give every picture its row."""
        rows = scene.params.number_of_images
        cut = [resize_and_center_crop(picture, width, height) for picture in scene.pictures]
        latents = vae.encode(self._networks.vae, cut).to(scene.texts[0].dtype)
        seen = latents.flatten(0, 1).expand(rows, -1, -1, -1)
        positive, negative = (text.expand(rows, -1, -1) for text in scene.texts)
        return Conditions(seen, positive, negative, guidance=scene.params.cfg)

    def _draw(self, span: Span, start: Tensor | None, conditions: Conditions, scene: _Scene) -> Pixels:
        """Denoise one pass and decode it; `start` holds one row for all pictures or one for each, None is noise."""
        networks = self._networks
        scheduler = make_scheduler(span, networks.device)
        # The start noise is drawn in the text's precision, as the reference does: in another it would differ.
        latents = scene.noise.draw(conditions.seen.shape[2:], conditions.seen.dtype)
        if start is not None:
            latents = add_noise(scheduler, start.to(latents.dtype).expand_as(latents), latents)
        return vae.decode(networks.vae, denoise(scene.unet, scheduler, latents, conditions, scene.noise, scene.report))


def unused_roles(_options: LoadOptions) -> set[str]:
    """No role is left out: what there is, is used."""
    return set()


def load(weights: WeightSet, device: torch.device, options: LoadOptions = DEFAULT_OPTIONS) -> IcLight:
    """Load the model onto `device`; raises `WeightsError`."""
    return IcLight(load_networks(weights, device), options)


def _counter(on_step: OnStep, total: int) -> Callable[[], None]:
    """Count the steps of both passes as one."""
    numbers = count(1)
    return lambda: on_step(next(numbers), total)
