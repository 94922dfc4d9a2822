"""The stages of IC-Light in order: two denoise passes around an enlargement (IC-Light specification section 0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.ic_light import prompt, vae
from models.ic_light.denoise import Conditions, denoise
from models.ic_light.foreground import composite_on_grey, resize_and_center_crop
from models.ic_light.gradient import light_gradient
from models.ic_light.matting import predict_alpha, to_feed
from models.ic_light.networks import Networks, load_networks
from models.ic_light.noise import Noise
from models.ic_light.params import Params
from models.ic_light.scheduler import Span, add_noise, make_scheduler, partial_span, whole_span
from models.ic_light.subject import Rgb, to_rgb
from models.images import decode
from models.pipeline import OnStep, Pipeline, Pixels
from models.weights.weight_set import WeightSet


@dataclass(frozen=True)
class Prepared:
    """A request as far as the CPU can bring it.

    `matting_feed` is the subject at the matting network's size; `gradient` the start picture of the first pass, None
    if that starts from noise.
    """

    params: Params
    subject: Rgb
    matting_feed: Rgb
    gradient: Rgb | None
    positive: prompt.Chunks
    negative: prompt.Chunks

    @property
    def spans(self) -> tuple[Span, Span]:
        """The parts of the noise schedule that the two passes walk."""
        steps = self.params.steps
        first = whole_span(steps) if self.gradient is None else partial_span(steps, self.params.lowres_denoise)
        return first, partial_span(steps, self.params.highres_denoise)


class IcLight(Pipeline[Params, Prepared]):
    """The loaded model. It keeps nothing of a request, so that a call which ends early leaves no trace."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> Prepared:
        """Decode the subject, tokenise the texts, draw the light's gradient; raises `UnreadableImage`."""
        subject = to_rgb(decode(images["subject_image"]))
        tokenizer = self._networks.tokenizer
        return Prepared(
            params=params,
            subject=subject,
            matting_feed=to_feed(subject),
            gradient=light_gradient(params.light_source, params.width, params.height),
            positive=prompt.tokenise(tokenizer, prompt.positive_prompt(params)),
            negative=prompt.tokenise(tokenizer, params.negative_prompt),
        )

    @torch.inference_mode()
    def run(self, prepared: Prepared, on_step: OnStep) -> Pixels:
        """Matte the subject, draw all pictures small, enlarge them, draw them anew at full size."""
        params, networks = prepared.params, self._networks
        first_span, second_span = prepared.spans
        report = _counter(on_step, first_span.evaluations + second_span.evaluations)
        # One stream for both passes: the second goes on where the first stopped.
        noise = Noise(params.seed, params.number_of_images, networks.device)
        foreground = self._matte(prepared)
        texts = self._embed(prepared)

        conditions = self._conditions(params, resize_and_center_crop(foreground, params.width, params.height), texts)
        start = None if prepared.gradient is None else vae.encode(networks.vae, [prepared.gradient])
        small = self._draw(first_span, start, conditions, noise, report)

        # Cut anew from the whole subject, not stretched as the picture is: the two may differ by up to 32 px per side.
        width, height = params.output_size
        conditions = self._conditions(params, resize_and_center_crop(foreground, width, height), texts)
        start = vae.encode(networks.vae, [enlarge(picture, width, height) for picture in small])
        return self._draw(second_span, start, conditions, noise, report)

    def _matte(self, prepared: Prepared) -> Rgb:
        height, width = prepared.subject.shape[:2]
        networks = self._networks
        alpha = predict_alpha(networks.matting, prepared.matting_feed, width, height, networks.device)
        return composite_on_grey(prepared.subject, alpha)

    def _embed(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        encoder = self._networks.text_encoder
        return prompt.pair(prompt.encode(encoder, prepared.positive), prompt.encode(encoder, prepared.negative))

    def _conditions(self, params: Params, foreground: Rgb, texts: tuple[Tensor, Tensor]) -> Conditions:
        """Encode the foreground and give every picture its row."""
        rows = params.number_of_images
        latents = vae.encode(self._networks.vae, [foreground]).to(texts[0].dtype)
        positive, negative = (text.expand(rows, -1, -1) for text in texts)
        return Conditions(latents.expand(rows, -1, -1, -1), positive, negative, guidance=params.cfg)

    def _draw(
        self, span: Span, start: Tensor | None, conditions: Conditions, noise: Noise, report: Callable[[], None]
    ) -> Pixels:
        """Denoise one pass and decode it; `start` holds one row for all pictures or one for each, None is noise."""
        networks = self._networks
        scheduler = make_scheduler(span, networks.device)
        like = conditions.foreground
        # The start noise is drawn in the text's precision, as the reference does: in another it would differ.
        latents = noise.draw(like.shape[2:], like.dtype)
        if start is not None:
            latents = add_noise(scheduler, start.to(like.dtype).expand_as(like), latents)
        return vae.decode(networks.vae, denoise(networks.unet, scheduler, latents, conditions, noise, report))


def enlarge(picture: Rgb, width: int, height: int) -> Rgb:
    """Stretch a picture of the first pass to the size of the second (IC-Light specification section 10)."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def load(weights: WeightSet, device: torch.device) -> IcLight:
    """Load the model onto `device`; raises `WeightsError`."""
    return IcLight(load_networks(weights, device))


def _counter(on_step: OnStep, total: int) -> Callable[[], None]:
    """Count the steps of both passes as one."""
    numbers = count(1)
    return lambda: on_step(next(numbers), total)
