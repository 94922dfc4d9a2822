"""PuLID-Lightning: identity and prompt conditions, DPM++ SDE sampling, decoding (PuLID specification section 1)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import torch

from models.errors import InputRefused, NonFiniteResult, WeightsError
from models.imaging.decode import decode, to_pixels
from models.lru import LRUCache
from models.model import MemoryNeed
from models.outcomes import outcomes
from models.pipeline import ExecutionReport, OnStep, Outcome, Pipeline
from models.pulid_lightning.adapter import Projection, place_projections, read_adapter
from models.pulid_lightning.attention import check_projections
from models.pulid_lightning.checkpoints import Checkpoints, checkpoint_needs, load_checkpoints, role_of
from models.pulid_lightning.conditions import FACE_CACHE_SIZE, SIGMA_STEPS, SIGMAS, Conditioner, Prepared, sample_noise
from models.pulid_lightning.identity.bisenet import load_bisenet
from models.pulid_lightning.identity.encoder import IdentityEncoder
from models.pulid_lightning.identity.eva_clip import load_eva_clip
from models.pulid_lightning.identity.extractor import IdentityExtractor, check_widths, load_encoder
from models.pulid_lightning.identity.face import FaceFinder, FoundFace
from models.pulid_lightning.options import BodyWeighting, Options
from models.pulid_lightning.params import Params
from models.pulid_lightning.prompt import Tokenizer, tokenize
from models.pulid_lightning.sampler import PrecomputedNoise, sample
from models.pulid_lightning.sdxl import decode_latents, decode_picture, denoiser, load_tokenizers, predict_noise
from models.pulid_lightning.text_encoder import PromptTokens
from models.pulid_lightning.warm_up import WarmUp, default_of
from models.runtime.fp8 import require_fp8
from models.runtime.load import load_part
from models.runtime.precision import accumulate_in_half, identity_precision, serving_precision
from models.runtime.projections import weights_for_device
from models.runtime.runner import EAGER, Execution, Runner, execution_for, execution_report, throttled
from models.runtime.stage_clock import StageClock
from models.runtime.state_dicts import read_state_dict, size_in
from models.weights.file_errors import file_errors
from models.weights.installed import WeightSet

Part = TypeVar("Part")

_ALWAYS_NEGATIVE: Final = "nsfw, nude, "
_DEFAULT_OPTIONS: Final = Options()
_FINITE_STAGES: Final = ("the latents", "the decoded picture")


class PulidLightning(Pipeline[Params, Prepared]):
    """The loaded model, on one device. The only state between calls: cached faces, identities and text embeddings."""

    def __init__(
        self,
        faces: FaceFinder,
        tokenizers: tuple[Tokenizer, Tokenizer],
        extractor: IdentityExtractor,
        projections: Mapping[int, Projection],
        checkpoints: Checkpoints,
        device: torch.device,
        body_weighting: BodyWeighting = "comfyui",
        execution: Execution = EAGER,
    ) -> None:
        """Wrap loaded networks; see `load`."""
        self._face_finder, self._tokenizers = faces, tokenizers
        self._checkpoints, self._device = checkpoints, device
        self._faces: LRUCache[FoundFace] = LRUCache(FACE_CACHE_SIZE)
        self._clock = StageClock(device)
        self._conditions = Conditioner(
            extractor, checkpoints.unets[0], projections, body_weighting, device, self._clock, execution
        )
        self._predict, self._decode = Runner(predict_noise, execution), Runner(decode_picture, execution)
        self._is_eager = execution == EAGER

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the loaded checkpoints."""
        return self._checkpoints.names

    def prepare(self, params: Params, images: Mapping[str, bytes]) -> Prepared:
        """Decode the image, detect its largest face, tokenise both prompts, sample the noise beside it.

        Faces are cached by the hash of the file. Raises `UnreadableImage`, `NoFaceFound`, and `InputRefused` for a
        checkpoint that is not loaded.
        """
        if params.variant not in self.variants:
            raise InputRefused(f"checkpoint_model cannot be served: {params.variant} is not loaded.")
        latents, noise = sample_noise(params)
        file = images["face_image"]
        image_hash = hashlib.sha256(file).hexdigest()
        face = self._faces.get_or_create(image_hash, lambda: self._face_finder.find(to_pixels(decode(file))))
        prompts = self._tokenize(params.prompt), self._tokenize(_ALWAYS_NEGATIVE + params.negative_prompt)
        return Prepared(params, image_hash, face, *prompts, latents, noise)

    def batch_key(self, prepared: Prepared) -> Hashable:
        """Checkpoint, size and face style; everything else may differ between the rows of a batch."""
        params = prepared.params
        return params.checkpoint_model, params.output_size, params.face_style

    @torch.inference_mode()
    def warm_up(self) -> None:
        """For each checkpoint compile for all sizes, capture the graph of a default request, and run one.

        What was compiled for the first checkpoint serves the others in moments; one that it does not serve is compiled.
        """
        if self._is_eager:
            return
        warm_up = WarmUp(self._tokenize, self._conditions, self._predict, self._decode)
        for name in self.variants:
            checkpoint = self._checkpoints.activate(name)
            warm_up.compile(checkpoint, name)
            warm_up.capture(checkpoint, name)
            self.run([warm_up.request(default_of(name))], lambda _step, _total: None)

    @property
    def execution(self) -> ExecutionReport:
        """How the UNet is executed, and what is slower than was chosen."""
        runners = self._predict, self._decode, self._conditions.encode
        return execution_report(*runners, fallbacks=self._face_finder.fallbacks)

    @property
    def stage_intervals(self) -> list[tuple[str, float, float]]:
        """See `Pipeline.stage_intervals`."""
        return self._clock.intervals

    @torch.inference_mode()
    def run(self, batch: Sequence[Prepared], on_step: OnStep) -> list[Outcome]:
        """Activate the checkpoint, compute conditions, sample, decode; 7 UNet evaluations for the whole batch."""
        self._clock.start("checkpoint")
        checkpoint = self._checkpoints.activate(batch[0].params.checkpoint_model)

        # ID tokens, text embeddings and size conditions (sections 3 to 6).
        conditions = self._conditions(batch, checkpoint)

        # Sampling (section 7); all noise is sampled on the CPU, that of the steps since `prepare` in other threads.
        start = torch.cat([request.latents for request in batch]).to(self._device)
        noise = PrecomputedNoise(
            SIGMA_STEPS, lambda: torch.cat([request.noise.result() for request in batch], 1).to(self._device)
        )
        self._clock.enter("denoise")
        denoise = denoiser(self._predict, checkpoint.unet, conditions)
        latents = sample(denoise, start, SIGMAS, noise, throttled(on_step, self._device))

        # Decoding (section 8).
        self._clock.enter("decode")
        decoded = decode_latents(self._decode, checkpoint.vae, latents)
        results = outcomes(*decoded, _FINITE_STAGES, [request.params.number_of_images for request in batch])
        self._clock.stop()
        if any(isinstance(result, NonFiniteResult) for result in results):
            self._conditions.clear_caches()  # a transient device fault must not stay in a cached embedding
        return results

    def _tokenize(self, prompt: str) -> PromptTokens:
        return PromptTokens(*(tokenize(prompt, tokenizer) for tokenizer in self._tokenizers))


def unused_roles(options: Options) -> set[str]:
    """Roles of the checkpoints that are not chosen: their files may be missing or damaged."""
    wanted = options.checkpoints or Params.variants
    return {role_of(name) for name in Params.variants if name not in wanted}


def memory_needs(weights: WeightSet, device: torch.device, options: Options) -> list[MemoryNeed]:
    """What `load` takes by part, from the headers of the files; raises `WeightsError`."""
    precision, identity = serving_precision(device, options.cpu_precision, weights.kind), identity_precision(device)
    face_bytes = sum(path.stat().st_size for path in weights.folder("face_analysis").ending_in(".onnx"))
    needs = [
        MemoryNeed("face_analysis", device=face_bytes if device.type == "cuda" else 0, host=face_bytes),
        MemoryNeed("face_parser", device=size_in(read_state_dict(weights["face_parser"]), torch.float32)),
        MemoryNeed("eva_clip", device=size_in(read_state_dict(weights["eva_clip"]), identity, "visual.")),
    ]
    with file_errors(weights["pulid_adapter"]):
        adapter = read_adapter(weights["pulid_adapter"])
        encoder, projections = size_in(adapter.encoder, identity), 0
        for it in adapter.projections.values():
            projections += size_in({"key": it.key, "value": it.value}, precision.half)
    needs.append(MemoryNeed("pulid_adapter", device=encoder + projections))
    names = _chosen(weights, options)
    return needs + checkpoint_needs(weights, names, device, options.unet_memory, precision)


def load(weights: WeightSet, device: torch.device, options: Options = _DEFAULT_OPTIONS) -> PulidLightning:
    """Load every network onto `device`, the checkpoints last; raises `WeightsError`.

    Raises `DeviceUnfit` for an option that `device` cannot serve. Noise is always sampled on the CPU.
    """

    def part(role: str, load: Callable[[Path], Part]) -> Part:
        return load_part(role, load, weights[role])

    if options.fp8:
        require_fp8(device)
    if options.fp16_accumulation:
        accumulate_in_half(device)
    precision = serving_precision(device, options.cpu_precision, weights.kind)
    # Without an accelerator onnxruntime is the faster way to run them.
    accelerator = device if device.type == "cuda" else None
    faces = part("face_analysis", lambda _path: FaceFinder(weights.folder("face_analysis"), accelerator))
    tokenizers = load_tokenizers(weights.folder("sdxl_config"))
    parser = part("face_parser", lambda path: load_bisenet(read_state_dict(path), device))
    eva = part("eva_clip", lambda path: load_eva_clip(read_state_dict(path), device))
    encoder, projections = part("pulid_adapter", lambda path: _load_adapter(path, device, precision.half))
    with file_errors(weights["pulid_adapter"], weights["eva_clip"]):
        check_widths(encoder, eva)
        extractor = IdentityExtractor(parser, eva, encoder, device)
    # Last, for they go by the memory that is left.
    names = _chosen(weights, options)
    checkpoints = load_checkpoints(weights, names, device, options.unet_memory, options.fp8, precision)
    with file_errors(weights["pulid_adapter"]):
        check_projections(checkpoints.unets[0], projections)
    return PulidLightning(
        faces=faces,
        tokenizers=tokenizers,
        extractor=extractor,
        projections=projections,
        checkpoints=checkpoints,
        device=device,
        body_weighting=options.pulid_body_weighting,
        execution=execution_for(device, options.compile),
    )


def _load_adapter(
    path: Path, device: torch.device, dtype: torch.dtype
) -> tuple[IdentityEncoder, dict[int, Projection]]:
    adapter = read_adapter(path)
    # In the UNet's precision, for the keys and values meet its queries.
    projections = place_projections(adapter.projections, device, dtype)
    weights_for_device([projection.key for projection in projections.values()], device)
    weights_for_device([projection.value for projection in projections.values()], device)
    encoder = load_encoder(adapter.encoder, device)
    with torch.inference_mode():
        width = encoder(*encoder.zeros(2, device)).shape[-1]
    for layer, projection in projections.items():
        if projection.key.shape[1:] != (width,) or projection.value.shape != projection.key.shape:
            raise WeightsError(f"layer {layer} does not take ID tokens, which are {width} wide.")
    return encoder, projections


def _chosen(weights: WeightSet, options: Options) -> Sequence[str]:
    """The checkpoints to load: those of the options, else all that are installed."""
    if options.checkpoints:
        return options.checkpoints
    if found := [name for name in Params.variants if role_of(name) in weights.paths]:
        return found
    raise WeightsError(f"pulid-lightning needs a role of {', '.join(role_of(name) for name in Params.variants)}.")
