"""The stages of IC-Light in order: two denoise passes around an enlargement (IC-Light specification section 0)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Final

import torch
from torch import Tensor

from models.errors import InputRefused, NonFiniteResult
from models.ic_light import prompt, vae
from models.ic_light.conditioning import cut_out, light_gradient, resize_and_center_crop, to_rgb
from models.ic_light.denoise import Conditions, denoise, predict_noise
from models.ic_light.networks import Networks, load_networks
from models.ic_light.params import Params
from models.ic_light.sampling import BatchNoise, Noise, StepRange, add_noise, full_range, make_scheduler, partial_range
from models.ic_light.warm_up import WarmUp
from models.imaging.decode import decode
from models.imaging.resample import resample
from models.imaging.types import Rgb
from models.outcomes import Decoded, non_finite, outcomes
from models.pipeline import DEFAULT_OPTIONS, ExecutionReport, LoadOptions, OnStep, Outcome, Pipeline
from models.runtime.lru import LRUCache
from models.runtime.pacing import throttled
from models.runtime.runner import EAGER, Execution, Runner, execution_for, execution_report
from models.weights.installed import WeightSet

_STAGES: Final = (
    "the subject's alpha",
    "the latents of the first pass",
    "the decoded picture of the first pass",
    "the latents of the second pass",
    "the decoded picture of the second pass",
)
_REMEMBERED_TEXTS: Final = 64
"""How many texts' embeddings are kept on the device, a tenth of a megabyte for every 75 tokens."""


@dataclass(frozen=True)
class Prepared:
    """A request as far as the CPU can bring it; its pictures are [height, width, 3] of 8 bits, ready for the upload.

    `matting_feed` is the subject at the matting network's size; `gradient` the start picture of the first pass, None
    if that starts from noise; `backgrounds` what the UNet that sees one sees in the first pass and in the second.
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
        """The parts of the noise schedule that the two passes walk."""
        steps = self.params.steps
        first = full_range(steps) if self.gradient is None else partial_range(steps, self.params.lowres_denoise)
        return first, partial_range(steps, self.params.highres_denoise)

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(width, height) in px of the two passes."""
        return (self.params.width, self.params.height), self.params.output_size


@dataclass(frozen=True)
class _Scene:
    """What both passes of a run have in common, request by request: pictures, texts, random numbers.

    `pictures`: what the UNet sees of each request in the first pass and in the second. `non_finite`: whether a
    request's alpha is, bool [1, 1] each. `texts`: embedded, (positive, negative) of each request. `counts`: how many
    pictures each request is to have. `report` is called after every denoise step.
    """

    unet: Any
    pictures: list[tuple[list[Tensor], ...]]
    non_finite: list[Tensor]
    texts: list[tuple[Tensor, Tensor]]
    counts: list[int]
    guidance: float
    noise: BatchNoise
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
        self._encode, self._decode = Runner(vae.encode_pictures, execution), Runner(vae.decode_picture, execution)
        self._networks = networks
        self._is_eager = execution == EAGER
        self._texts: LRUCache[Tensor] = LRUCache(_REMEMBERED_TEXTS)
        self._noise_source = torch.device("cpu") if options.cpu_noise else networks.device

    @property
    def variants(self) -> tuple[str, ...]:
        """`foreground`, and `background` if the UNet that sees one is loaded."""
        return Params.variants if self._networks.background_unet is not None else ("foreground",)

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> Prepared:
        """Decode the pictures, cut the background, tokenise the texts, draw the light's gradient.

        Raises `UnreadableImage`, and `InputRefused` for a background that the loaded weights cannot take.
        """
        subject = _tensor(to_rgb(decode(images["subject_image"])))
        gradient = light_gradient(params.light_source, params.width, params.height)
        tokenizer = self._networks.tokenizer
        prepared = Prepared(
            params=params,
            subject=self._ready(subject),
            matting_feed=self._ready(self._networks.matting.to_feed(subject)),
            gradient=None if gradient is None else self._ready(_tensor(gradient)),
            backgrounds=None,
            positive=prompt.tokenise(tokenizer, prompt.positive_prompt(params)),
            negative=prompt.tokenise(tokenizer, params.negative_prompt),
        )
        if params.background_image is None:
            return prepared
        if self._networks.background_unet is None:
            raise InputRefused("background_image cannot be served: the weights for it are not loaded.")
        background = _tensor(to_rgb(decode(images["background_image"])))
        cut = tuple(self._ready(resize_and_center_crop(background, *size)) for size in prepared.sizes)
        # A background is only ever seen, never the picture that the first pass starts from.
        return replace(prepared, gradient=None, backgrounds=cut)

    def _ready(self, picture: Tensor) -> Tensor:
        """The picture in memory from which a GPU fetches by itself."""
        return picture.pin_memory() if self._networks.device.type == "cuda" else picture

    def batch_key(self, prepared: Prepared) -> Hashable:
        """Sizes, schedules, guidance, what the UNet sees, and how long the texts are."""
        params = prepared.params
        chunks = max(len(prepared.positive), len(prepared.negative))
        first = prepared.gradient is None, prepared.backgrounds is None
        return prepared.sizes, prepared.step_ranges, params.cfg, first, chunks

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Compile for all sizes, and record what a default request needs."""
        if self._is_eager:
            return
        warm_up = WarmUp(self._networks, self._predict, self._encode, self._decode)
        warm_up.compile()
        warm_up.record()

    @property
    def execution(self) -> ExecutionReport:
        """The slowest mode of the networks that run in every step or at the end."""
        return execution_report(self._predict, self._encode, self._decode)

    @torch.inference_mode()
    def run(self, batch: Sequence[Prepared], on_step: OnStep) -> list[Outcome]:
        """Matte the subjects, draw all pictures small, enlarge them, draw them anew at full size."""
        first_span, second_span = batch[0].step_ranges
        scene = self._set(
            batch, _counter(throttled(on_step, self._networks.device), first_span.evaluations + second_span.evaluations)
        )

        conditions = self._conditions(scene, 0)
        gradients = [prepared.gradient for prepared in batch if prepared.gradient is not None]
        start = scene.rows(torch.split(self._encode_all(gradients), 1)) if gradients else None
        small = self._draw(first_span, start, conditions, scene)

        # Cut anew from whole pictures, not stretched as the result is: the two may differ by up to 32 px per side.
        conditions = self._conditions(scene, 1)
        start = self._encode_all([resample(picture, *batch[0].sizes[1]) for picture in small.pictures])
        large = self._draw(second_span, start, conditions, scene)
        found = torch.cat((scene.rows(scene.non_finite), small.non_finite, large.non_finite), 1)
        drawn = outcomes(large.pictures, found, _STAGES, scene.counts)
        if any(isinstance(outcome, NonFiniteResult) for outcome in drawn):
            self._texts.clear()  # a passing fault of the device must not stay in an embedding
        return drawn

    def _set(self, batch: Sequence[Prepared], report: Callable[[], None]) -> _Scene:
        """Do what both passes need done once."""
        networks = self._networks
        pictures, found = zip(*(self._seen(prepared) for prepared in batch), strict=True)
        return _Scene(
            unet=networks.unet if batch[0].backgrounds is None else networks.background_unet,
            pictures=list(pictures),
            non_finite=list(found),
            texts=[self._embed(prepared) for prepared in batch],
            counts=[prepared.params.number_of_images for prepared in batch],
            guidance=batch[0].params.cfg,
            # One stream for both passes: the second goes on where the first stopped.
            noise=BatchNoise([self._noise(prepared.params) for prepared in batch]),
            report=report,
        )

    def _noise(self, params: Params) -> Noise:
        return Noise(params.seed, params.number_of_images, self._networks.device, self._noise_source)

    def _seen(self, prepared: Prepared) -> tuple[tuple[list[Tensor], ...], Tensor]:
        """The subject on grey, and the background if there is one; for the first pass, and for the second.

        Besides, whether the subject's alpha is not finite: bool [1, 1].
        """
        height, width = prepared.subject.shape[:2]
        alpha = self._networks.matting.alpha(prepared.matting_feed, width, height)
        subjects = cut_out(self._upload(prepared.subject), alpha, prepared.sizes)
        found = non_finite(alpha[None])
        if prepared.backgrounds is None:
            return tuple([subject] for subject in subjects), found
        return tuple(list(pair) for pair in zip(subjects, prepared.backgrounds, strict=True)), found

    def _upload(self, picture: Tensor) -> Tensor:
        return picture.to(self._networks.device, non_blocking=True)

    def _embed(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        def embedded(chunks: prompt.Chunks) -> Tensor:
            return self._texts.get_or_create(str(chunks), lambda: prompt.encode(self._networks.text_encoder, chunks))

        return prompt.pair(embedded(prepared.positive), embedded(prepared.negative))

    def _conditions(self, scene: _Scene, number: int) -> Conditions:
        """Encode what the UNet sees in the first pass, 0, or in the second, 1, and give every picture its row."""
        positive, negative = (scene.rows(texts) for texts in zip(*scene.texts, strict=True))
        seen = scene.rows([self._encode_together(pictures[number]) for pictures in scene.pictures])
        return Conditions(seen.to(positive.dtype), positive, negative, guidance=scene.guidance)

    def _encode_together(self, pictures: Sequence[Tensor]) -> Tensor:
        """Latents of what one request shows the UNet, one behind the other: [1, 4 or 8, h, w]."""
        # In one batch, as in the reference: each alone would come out otherwise in the last digits.
        batch = torch.stack([self._upload(picture) for picture in pictures])
        return self._encode(self._networks.vae, batch).flatten(0, 1)[None]

    def _encode_all(self, pictures: Sequence[Tensor]) -> Tensor:
        return vae.encode(self._encode, self._networks.vae, [self._upload(picture) for picture in pictures])

    def _draw(self, step_range: StepRange, start: Tensor | None, conditions: Conditions, scene: _Scene) -> Decoded:
        """Denoise one pass and decode it: [n, height, width, 3] of 8 bits.

        `start` holds a row for each picture, None is noise.
        """
        networks = self._networks
        scheduler = make_scheduler(step_range, networks.device)
        # The start noise is drawn in the text's precision, as the reference does: in another it would differ.
        latents = scene.noise.draw(conditions.cond_latents.shape[2:], conditions.cond_latents.dtype)
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


def _tensor(picture: Rgb) -> Tensor:
    """The same memory as a tensor."""
    return torch.from_numpy(picture)
